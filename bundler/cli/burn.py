"""`airgap burn`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from bundler.cli.verify import parse_fingerprint
from custody.errors import TargetRefused
from custody.report import ConsoleReporter
from custody.secret import ask_passphrase, passphrase_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--fingerprint", required=True, help="Of the root that the bundle must be signed under.")
@click.option("--serial", help="Serial of the medium, as on its label; asked for when not given.")
@click.option("--image", is_flag=True, help="TARGET is an image file to be made, not a disk.")
@click.option("--dry-run", is_flag=True, help="Check everything, show what would happen, write nothing.")
@click.option(
    "--paper", type=click.Path(path_type=Path, dir_okay=False), help="Also write the paper's text to this file."
)
@passphrase_option("the medium's passphrase")
def command(
    bundle: Path,
    target: Path,
    fingerprint: str,
    serial: str | None,
    image: bool,
    dry_run: bool,
    paper: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Write BUNDLE to the medium TARGET, encrypted, and read all of it back.

    \b
    Example: airgap burn /srv/bundles/demo-1 /dev/sdb \\
                 --fingerprint 3f9a... --serial 4C53000123
    """
    from bundler.bundle.read import FolderSource
    from bundler.cli.record import record_bundle
    from bundler.media import burn as media
    from bundler.media.device import describe, require_serial
    from bundler.media.volume import at_work, loop_device
    from custody.ledger.record import ready
    from custody.trust.verify import read_trust, verify_statement

    reporter = ConsoleReporter()
    if not dry_run:
        ready()
    pinned = parse_fingerprint(fingerprint)
    source = FolderSource(bundle)
    verified = verify_statement(source, read_trust(source, pinned))
    disk = target
    with ExitStack() as stack:
        stack.enter_context(at_work())
        if image:
            if target.exists():
                raise TargetRefused(f"{target}: exists already", "name a new file")
            if dry_run:
                click.echo(f"would make {target}, {media.needed_bytes(verified) / 1e9:.2f} GB")
                return
            part = target.with_name(target.name + ".part")
            with part.open("wb") as stream:
                stream.truncate(media.needed_bytes(verified))
            disk = stack.enter_context(loop_device(part))
        device = describe(disk)
        click.echo(f"medium:  {device}", err=True)
        for line in device.content or ("blank",):
            click.echo(f"holds:   {line}", err=True)
        media.check_size(verified, device)
        if not image and (serial or not dry_run):
            question = f"All data on it will be lost. Type the serial of {device.path} to go on"
            require_serial(device, serial or click.prompt(question, err=True))
        if dry_run:
            click.echo(f"would overwrite {device} with {verified.statement.predicate.bundle.id}")
            return
        passphrase = ask_passphrase(passphrase_file, "Passphrase for the medium", twice=True).encode()
        done = media.burn(verified, bundle, device, passphrase, pinned, reporter)
    if image:
        part.replace(target)
    record_bundle("burned", bundle, serial=device.serial or str(target), readback="every leaf")
    text = (
        f"bundle:            {done.bundle}\n"
        f"medium:            {device.serial or target}\n"
        f"{done.start[0]} of start:   {done.start[1]}\n"
        f"root fingerprint:  {done.fingerprint}\n"
        f"minimum version:   {done.version}\n"
    )
    if paper:
        paper.write_text(text)
    click.echo(text + "Every leaf was read back and compared. Send these lines apart from the medium.")
