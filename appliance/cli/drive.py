"""`airgap drive`: the data disk, from its first look to its last."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.unlock import command as unlock
from custody.errors import InputInvalid, OperatorMistake, SecretRefused, TargetRefused
from custody.report import ConsoleReporter, show_json
from custody.secret import ask_passphrase, passphrase_option, read_secret

if TYPE_CHECKING:
    from appliance.drive.disks import Disk
    from appliance.drive.drive import Drive
    from appliance.drive.escrow import Secrets
    from appliance.drive.kinds import Judged

#: LUKS2 headers are 16 MiB at most where nobody asks for more.
_HEADER_LIMIT_BYTES = 64 << 20
_secret_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def command() -> None:
    """Look at drives, lock and unlock the data volume, change its secrets, take a drive out of service.

    \b
    Example: airgap drive list
    """


#: Under both names: it is the one command that is typed at night.
command.add_command(
    click.Command(
        "unlock",
        params=unlock.params,
        callback=unlock.callback,
        help="Open the data volume and wait until the engines answer; the same as `airgap unlock`."
        "\n\n\b\nExample: airgap drive unlock",
    )
)


def _secrets_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--secrets", "secrets_file", type=_secret_file, help=text)


_psid_option = click.option(
    "--psid-file", type=_secret_file, help="File (mode 0600) with the PSID, instead of a prompt."
)
_dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_drives(as_json: bool) -> None:
    """Show every disk: what kind of drive it is, and whether an appliance would take it.

    \b
    Example: airgap drive list
    Example: airgap drive list --json
    """
    from appliance.drive import listing

    _require_root()
    rows = listing.look()
    if as_json:
        show_json("airgap.drives/1", {"drives": [row.as_dict() for row in rows]})
        return
    for line in listing.table(rows):
        click.echo(line)


@command.command()
@_dry_run_option
def lock(dry_run: bool) -> None:
    """Stop the engines, unmount the data volume and close it; its key leaves memory, and the drive locks.

    \b
    Example: airgap drive lock
    Example: airgap drive lock --dry-run
    """
    from appliance.drive import config, volume

    settings = config.load()
    changed = volume.lock(settings.volume, dry_run=dry_run)
    if dry_run:
        click.echo("\n".join(f"would: {line}" for line in changed) or "would do nothing")
        return
    click.echo(f"locked: {settings.mount}" if changed else f"locked: {settings.mount} was closed already")


@command.command()
@click.argument("serial")
@_secrets_option("The newest escrow, opened (mode 0600); wanted by a drive that encrypts.")
@click.option(
    "--new-passphrase-file", type=_secret_file, help="File (mode 0600) with the new one, instead of a prompt."
)
@passphrase_option("the volume's passphrase")
@_dry_run_option
def rotate(
    serial: str,
    secrets_file: Path | None,
    new_passphrase_file: Path | None,
    passphrase_file: Path | None,
    dry_run: bool,
) -> None:
    """Change the drive's PINs, the volume's passphrase and its recovery key; the data stay, the volume may be in use.

    \b
    Example: airgap drive rotate S6CKNX0T123456 --secrets /run/escrow.json
    """
    from appliance.drive import rotate as core
    from appliance.drive.escrow import Secrets, read_opened

    _require_root()
    drive, disk = _reach(serial)
    click.echo(f"drive:  {disk}", err=True)
    mode = drive.luks.header().mode
    if secrets_file is None and mode != "luks":
        raise click.UsageError("give --secrets: the newest escrow, opened")
    old = read_opened(secrets_file, serial) if secrets_file else Secrets(serial, disk.model, "", "")
    if dry_run:
        click.echo(f"would change the {'PINs and the ' if mode != 'luks' else ''}two keys of the volume, mode {mode}")
        return
    passphrase = ask_passphrase(passphrase_file, "Passphrase in force")
    new = ask_passphrase(new_passphrase_file, "New passphrase", twice=True)
    if new == passphrase:
        raise SecretRefused("new passphrase: expected another one, found the one in force", "choose another")
    with drive.pending.alone():
        core.rotate(drive, old, passphrase, new)
    click.echo(f"rotated: {disk.serial}")


@command.command()
@passphrase_option("the volume's passphrase")
@_dry_run_option
def seal(passphrase_file: Path | None, dry_run: bool) -> None:
    """Seal a new key for unattended boots to the TPM, as the host was started this time.

    After a change of firmware settings or Secure Boot keys the volume waits for its passphrase; this ends that. Whether
    the volume opens by itself at all, the site file says (storage.unattended).

    \b
    Example: airgap drive seal
    """
    from appliance.drive import config, disks, unattended
    from appliance.drive.luks import Luks
    from appliance.drive.pending import Pending

    _require_root()
    settings = config.load()
    if not settings.unattended:
        hint = "storage.unattended in the site file, then airgap install"
        raise OperatorMistake("seal: expected a host whose volume opens by itself, found that it waits", hint)
    disk = disks.find(settings.serial)
    if disks.judge(disk, settings.mapper) is None:
        hint = "docs/how-to/recover-a-drive.md: The header is damaged"
        raise TargetRefused(f"{disk}: expected this host's data volume, found a blank disk", hint)
    if dry_run:
        click.echo(f"would seal a new key of {disk} to the TPM, PCR {unattended.PCRS}")
        return
    passphrase = ask_passphrase(passphrase_file, "Passphrase")
    with Pending(disk.serial).alone():
        unattended.seal(Luks(disk.path), passphrase)
    click.echo(f"sealed: {disk.serial} opens at boot by the TPM, PCR {unattended.PCRS}")


@command.command("restore-header")
@click.argument("serial")
@click.option(
    "--header", "header_file", type=_secret_file, required=True, help="SERIAL-NUMBER.header.cms of the escrow, opened."
)
@_secrets_option("SERIAL-NUMBER.cms of the same number, opened (mode 0600).")
@_dry_run_option
def restore_header(serial: str, header_file: Path, secrets_file: Path | None, dry_run: bool) -> None:
    """Write the backup of the volume's header back to the drive SERIAL. The data stay.

    For a header that is damaged; the volume is closed, and nothing else uses the disk. Passphrase and recovery key are
    those of the backup's number.

    \b
    Example: airgap drive restore-header S6CKNX0T123456 \\
                 --header /run/header --secrets /run/escrow.json
    """
    from appliance.drive import disks, unattended
    from appliance.drive import restore as core
    from appliance.drive.escrow import read_opened

    _require_root()
    if secrets_file is None:
        raise click.UsageError("give --secrets: the escrow with the number of the header, opened")
    drive, disk = _reach(serial)
    click.echo(f"drive:  {disk}", err=True)
    disks.refuse_used(disk, "")
    known = read_opened(secrets_file, serial)
    try:
        with header_file.open("rb") as stream:
            backup = stream.read(_HEADER_LIMIT_BYTES + 1)
    except OSError as error:
        raise InputInvalid(f"{header_file}: {error.strerror}", "docs/how-to/recover-a-drive.md") from error
    if dry_run:
        header = core.restore(drive, backup, known, dry_run=True)
        click.echo(f"would write the header of escrow {known.number}, mode {header.mode}, to {disk}")
        return
    with drive.pending.alone():
        header = core.restore(drive, backup, known)
    then = ", then airgap drive seal" if unattended.SLOT in header.slots else ""
    click.echo(f"restored: {disk.serial} has the header of escrow {known.number}; airgap unlock{then}")


@command.command()
@click.argument("serial")
@_psid_option
@_secrets_option("The newest escrow, opened (mode 0600): revert with SID's PIN instead of the PSID.")
@_dry_run_option
def revert(serial: str, psid_file: Path | None, secrets_file: Path | None, dry_run: bool) -> None:
    """Bring the drive SERIAL back to how it left the factory. All data on it are lost.

    Without --secrets it wants the PSID: 32 characters on the drive's label.

    \b
    Example: airgap drive revert S6CKNX0T123456
    """
    from appliance.drive import erase

    drive, disk, judged = _destroy(serial)
    if not judged.opal:
        raise TargetRefused(f"{disk}: expected a drive that can be reverted, found {judged.why}", "airgap drive list")
    if dry_run:
        click.echo(f"would revert {disk}: everything on it would be lost")
        return
    known, psid = _proof(serial, secrets_file, psid_file)
    with drive.pending.alone():
        erase.revert(drive, sid=known.sid if known else "", psid=psid)
        erase.end(drive)
    click.echo(f"reverted: {disk.serial} is as it left the factory")


@command.command()
@click.argument("serial")
@_psid_option
@_secrets_option("The newest escrow, opened (mode 0600); without it data that are locked are not compared.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Where the certificate goes.",
)
@_dry_run_option
def decommission(serial: str, psid_file: Path | None, secrets_file: Path | None, out: Path, dry_run: bool) -> None:
    """Erase the drive SERIAL, read back that the data are gone, and write a signed certificate.

    A drive that encrypts makes new keys; of another one the volume's keys are destroyed.

    \b
    Example: airgap drive decommission S6CKNX0T123456 \\
                 --secrets /run/escrow.json --out /root
    """
    import hashlib
    import socket

    from appliance import hostkey
    from appliance.drive import certificate, erase
    from custody.ledger.event import Event
    from custody.ledger.record import ready, record

    if not dry_run:
        ready()
    drive, disk, judged = _destroy(serial)
    if dry_run:
        click.echo(f"would erase {disk} and write {out}/{serial}-decommissioned.dsse.json and .pdf")
        return
    known, psid = _proof(serial, secrets_file, psid_file) if judged.opal else (None, "")
    sid, admin = (known.sid, known.admin) if known else ("", "")
    with drive.pending.alone():
        erased = erase.decommission(drive, disk.size_bytes, sid=sid, admin=admin, psid=psid)
        key = hostkey.load_or_make()
        drive.say("writing the certificate")
        files = certificate.write(certificate.certify(disk, erased, socket.gethostname(), key), key, out)
        erase.end(drive)
    for file in files:
        click.echo(f"certificate: {file}")
    record(Event("decommissioned", serial, f"sha256:{hashlib.sha256(files[0].read_bytes()).hexdigest()}"))
    seen = f"{erased.compared} blocks compared, {erased.unchanged} as they were; {erased.locked} were locked"
    click.echo(f"decommissioned: {disk.serial}; {seen}")


def _destroy(serial: str) -> tuple[Drive, Disk, Judged]:
    """What may be destroyed: a disk that nothing uses, our own volume closed."""
    from appliance.drive import disks, kinds

    _require_root()
    drive, disk = _reach(serial)
    click.echo(f"drive:  {disk}", err=True)
    if any(path == f"/dev/mapper/{drive.mapper}" for path, _kind, _mounted in disk.inside):
        raise TargetRefused(f"{disk}: expected a closed volume, found it open", "airgap drive lock")
    disks.refuse_used(disk, "")
    judged = kinds.judge(drive.sed.discover())
    click.echo(f"state:  {judged.why}", err=True)
    return drive, disk, judged


def _proof(serial: str, secrets_file: Path | None, psid_file: Path | None) -> tuple[Secrets | None, str]:
    """Who may revert: SID by the escrow, or whoever holds the drive's label."""
    from appliance.drive.escrow import read_opened

    if secrets_file is not None:
        return read_opened(secrets_file, serial), ""
    if psid_file is not None:
        return None, read_secret(psid_file)
    return None, ask_passphrase(None, "PSID on the drive's label")


def _reach(serial: str) -> tuple[Drive, Disk]:
    from appliance.drive import config, disks
    from appliance.drive.drive import Drive
    from appliance.drive.escrow import Escrow

    disk = disks.find(serial)
    settings = config.load() if config.CONFIG.exists() else None
    escrow = Escrow.to(settings.escrow_key) if settings else None
    mapper = settings.mapper if settings else "airgap-data"
    return Drive.on(disk, mapper, escrow, ConsoleReporter()), disk


def _require_root() -> None:
    if os.geteuid() != 0:
        raise OperatorMistake("drive: expected root", "run it as root")
