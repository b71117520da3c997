"""`airgap diode`: the side that the audit log is sent to."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from custody.errors import InputInvalid
from custody.report import show_json

if TYPE_CHECKING:
    from appliance.diode.standing import Standing

_SHOWN_RUNS = 20


@click.group()
def command() -> None:
    """Receive an appliance's audit log out of a data diode, on a machine beyond it.

    \b
    Example: airgap diode status /srv/diode/site-7
    """


@command.command()
@click.option("--listen", required=True, metavar="ADDRESS:PORT", help="Where it comes out; a port above 1023.")
@click.option(
    "--log-key", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="log.vkey from another hand; wanted the first time, remembered in the folder.",
)  # fmt: skip
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where it is kept; made if new."
)
@click.option("--json", "as_json", is_flag=True, help="At the end, one JSON object on standard output.")
def receive(listen: str, log_key: Path | None, folder: Path, as_json: bool) -> None:
    """Take what comes until SIGTERM or SIGINT, say what is missing, verify checkpoints.

    It may be killed at any moment, and goes on where it was. What is verified lies in the folder as a ledger does:
    airgap ledger verify --ledger FOLDER.

    \b
    Example: airgap diode receive --listen 10.9.0.2:5514 --log-key log.vkey \\
                 --folder /srv/diode/site-7
    """
    from appliance.diode.receive import RECEIVING, Receiver
    from appliance.diode.receive import listen as core_listen
    from appliance.diode.receive import receive as core
    from custody.atomic import write_whole
    from custody.ledger import collect
    from custody.ledger.origin import PEM, VKEY, load_public, read_public
    from custody.lock import alone
    from custody.report import ConsoleReporter

    address, port = _place(listen)
    if log_key is not None:
        key = read_public(log_key)
        collect.begin(folder, key)
        write_whole(folder / PEM, key.pem)
    elif not (folder / VKEY).exists():
        raise click.UsageError("Missing option '--log-key': the folder knows no log yet")
    key = load_public(folder)
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: ended.append(got))
    reporter = ConsoleReporter()
    with ExitStack() as stack:
        stack.enter_context(alone(folder / RECEIVING, "another receiver"))
        source = stack.enter_context(core_listen(address, port, reporter))
        receiver = Receiver(folder, key, reporter)
        stack.callback(receiver.close)
        reporter.note(f"{key.name}: listening on {listen}")
        core(source, receiver, lambda: bool(ended))
    _show(folder, as_json)


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("export", type=click.Path(path_type=Path, file_okay=False, exists=True))
def fill(folder: Path, export: Path) -> None:
    """Bring what the diode lost: EXPORT is what airgap audit export wrote, come by file. FOLDER is a receiver's.

    Every entry is verified first, against the export's checkpoint and all that came out of the diode. A receiver may
    run meanwhile.

    \b
    Example: airgap diode fill /srv/diode/site-7 /srv/incoming/audit-2026-11
    """
    from appliance.diode.fill import fill as core
    from custody.report import ConsoleReporter

    found = core(folder, export, ConsoleReporter())
    click.echo(f"verified:  {found.size} entries, {found.brought} of which the diode had not brought")
    click.echo(f"compared:  with {found.compared} checkpoints out of the diode")
    for seq in found.overruled[:_SHOWN_RUNS]:
        click.echo(f"other:     {seq} had come out of the diode with another content")


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--silence", type=click.IntRange(min=1), default=300, show_default=True,
    help="Seconds without a checkpoint that are too many.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def status(folder: Path, silence: int, as_json: bool) -> None:
    """Show what came, what is missing, and whether it is what the log signed. FOLDER is a receiver's.

    Exit code 50 when entries are missing or nothing is heard, 19 when what came is not what was signed.

    \b
    Example: airgap diode status /srv/diode/site-7
    """
    _show(folder, as_json, silence)


def _show(folder: Path, as_json: bool, silence_s: float | None = None) -> None:
    from appliance.diode.standing import judge

    found = judge(folder, silence_s)
    if as_json:
        show_json("airgap.diode/1", found.dump())
    else:
        _print(found)
    if found.problem is not None:
        raise found.problem


def _print(found: Standing) -> None:
    heard = found.heard
    click.echo(f"log:       {found.origin}")
    click.echo(f"entries:   {found.verified} verified; the newest checkpoint covers {found.signed}")
    click.echo(f"heard:     {heard.at or 'never'}; {heard.datagrams} datagrams, {heard.copies} of them copies,")
    click.echo(f"           {heard.refused} refused, {heard.dropped} dropped by this machine")
    for what, runs in (("missing", found.missing), ("too long", found.too_long)):
        for run in runs[:_SHOWN_RUNS]:
            click.echo(
                f"{what + ':':10} {run.start} to {run.stop - 1}" if len(run) > 1 else f"{what + ':':10} {run.start}"
            )
        if len(runs) > _SHOWN_RUNS:
            click.echo(f"           and {len(runs) - _SHOWN_RUNS} more; all of them: --json")
    if heard.conflicts:
        click.echo(f"other:     {heard.conflicts} records contradict an earlier one: {heard.conflicting[:_SHOWN_RUNS]}")
    click.echo(f"verdict:   {found.verdict}")


def _place(listen: str) -> tuple[str, int]:
    import ipaddress

    address, _colon, port = listen.rpartition(":")
    try:
        if not 0 < int(port) < 65536:
            raise ValueError("no port")
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)
    except ValueError as error:
        raise InputInvalid(f"--listen {listen}: expected an IP address and a port", "10.9.0.2:5514") from error
