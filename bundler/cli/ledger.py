"""`airgap ledger`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.key import key_options, opened
from custody.errors import InputInvalid, TargetRefused
from custody.report import show_folded, show_json

if TYPE_CHECKING:
    from custody.ledger.checkpoint import Checkpoint
    from custody.ledger.view import View


def _default() -> Path:
    from custody.ledger.record import default_folder

    return default_folder()


ledger_option = click.option(
    "--ledger", "folder", type=click.Path(path_type=Path, file_okay=False), default=_default,
    show_default="/var/lib/airgap/ledger", help="The log's folder.",
)  # fmt: skip
_key_option = click.option(
    "--log-key", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="log.vkey from another hand; without it the folder's own is believed.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Show, verify and prove what happened to bundles, media and hosts.

    \b
    Example: airgap ledger show
    """


@command.command()
@click.argument("origin")
@click.option(
    "--after", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Checkpoint of the log that this one goes on from: the factory's, or the one of an earlier key.",
)  # fmt: skip
@ledger_option
def init(origin: str, after: Path | None, folder: Path) -> None:
    """Begin a ledger named ORIGIN, with a key of its own. From then on commands that belong into it write to it.

    \b
    Example: airgap ledger init site-7.example/custody --after factory.checkpoint
    """
    from custody.ledger.note import Note
    from custody.ledger.record import begin
    from custody.ledger.view import View

    before = after.read_bytes() if after is not None else b""
    if before:
        Note.parse(before, str(after))
    begin(folder, origin, before=before)
    click.echo(f"ledger: {folder}\nkey:    {View(folder).key.vkey}")


@command.command()
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@ledger_option
def show(last: int | None, as_json: bool, folder: Path) -> None:
    """Verify the ledger and show its events.

    \b
    Example: airgap ledger show --last 20
    """
    from custody.ledger.event import parse
    from custody.ledger.verify import verify as core

    view = _view(folder, None)
    size = core(view).size
    events = [(number, parse(entry)) for number, entry in view.entries(0, size)]
    events = events[-last:] if last is not None else events
    if as_json:
        show_json("airgap.ledger/1", {"events": [{"number": number, **event} for number, event in events]})
        return
    for number, event in events:
        details = "  ".join(f"{name}={value}" for name, value in event["details"].items() if name != "checkpoint")
        line = f"{number:<6} {event['time']} {event['event']:14} {event['subject']}  by {event['who']}@{event['host']}"
        show_folded("  ".join(part for part in (line, event["digest"], details) if part), 3)


@command.command()
@click.option(
    "--against", type=click.Path(path_type=Path, dir_okay=False, exists=True), multiple=True, metavar="CHECKPOINT",
    help="A checkpoint that left the host earlier; the log must go on from it. May be given again.",
)  # fmt: skip
@_key_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@ledger_option
def verify(against: tuple[Path, ...], log_key: Path | None, as_json: bool, folder: Path) -> None:
    """Read all of the ledger: is it intact, and does it go on from every checkpoint that is given?

    \b
    Example: airgap ledger verify --against 2026-10.checkpoint \\
                 --log-key site-7.vkey
    """
    from custody.ledger.checkpoint import open_checkpoint
    from custody.ledger.verify import verify as core

    view = _view(folder, log_key)
    heads = [open_checkpoint(file.read_bytes(), view.key, str(file))[0] for file in against]
    found = core(view, heads)
    if as_json:
        content = {
            "verdict": "intact", "origin": view.key.name, "entries": found.size, "root": found.root.hex(),
            "signed": found.signed, "compared": found.compared, "torn_bytes": found.torn_bytes,
            "expired": [{"first": e.stone.first, "last": e.stone.last, "tombstone": e.seq} for e in found.expired],
        }  # fmt: skip
        show_json("airgap.ledger-verify/1", content)
        return
    click.echo(f"log:       {view.key.name}\nentries:   {found.size}, of which a checkpoint covers {found.signed}")
    for each in found.expired:
        stone = each.stone
        click.echo(f"expired:   entries {stone.first} to {stone.last}, by the tombstone at entry {each.seq}")
    if found.torn_bytes:
        click.echo(f"torn:      {found.torn_bytes} bytes that were never acknowledged, or are being written")
    click.echo(f"compared:  with {found.compared} checkpoints that left the host\nverdict:   intact")


@command.command()
@click.option("--out", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Default: standard output.")
@click.option("--name", help="With --key: who countersigns.")
@key_options(required=False)
@ledger_option
def checkpoint(
    out: Path | None, name: str | None, key: str | None, module: Path | None, passphrase_file: Path | None, folder: Path
) -> None:
    """Sign what the ledger is now; a person or token may countersign with P-384. Keep it where the host cannot reach.

    \b
    Example: airgap ledger checkpoint -o 2026-11.checkpoint
    Example: airgap ledger checkpoint -o 2026-11.checkpoint \\
                 --name alice --key alice.key
    """
    from custody.atomic import write_whole
    from custody.ledger.log import open_log
    from custody.ledger.note import Note, countersign
    from custody.ledger.view import CHECKPOINT

    if (name is None) != (key is None):
        raise click.UsageError("--name and --key go together")
    if out is not None and out.exists():
        raise TargetRefused(f"{out}: exists already", "name a new file")
    with open_log(folder) as log:
        log.checkpoint()
    data = (folder / CHECKPOINT).read_bytes()
    if name is not None and key is not None:
        with opened(key, module, passphrase_file) as signer:
            data = countersign(Note.parse(data, CHECKPOINT), [(name, signer)]).dump()
    if out is None:
        click.echo(data, nl=False)
    else:
        write_whole(out, data)
        click.echo(f"checkpoint: {out}")


@command.command()
@click.argument("entry", type=click.IntRange(min=0))
@click.argument("out", type=click.Path(path_type=Path))
@_key_option
@ledger_option
def prove(entry: int, out: Path, log_key: Path | None, folder: Path) -> None:
    """Write the proof of entry number ENTRY to the new folder OUT, with a script that checks it with openssl alone.

    \b
    Example: airgap ledger prove 12 /media/audit/entry-12
    """
    from custody.ledger.kit import write_kit

    write_kit(_view(folder, log_key), entry, out)
    click.echo(f"proof: {out}\ncheck: sh {out}/check {out} LOG.PEM, with the log's key from another hand")


@command.command()
@click.argument("old", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@_key_option
@ledger_option
def prove_growth(old: Path, out: Path, log_key: Path | None, folder: Path) -> None:
    """Write the proof that the newest checkpoint goes on from the checkpoint OLD; a C2SP witness takes it as it is.

    \b
    Example: airgap ledger prove-growth 2026-10.checkpoint 2026-11.growth
    """
    from custody.ledger.checkpoint import open_checkpoint
    from custody.ledger.proof import Growth
    from custody.ledger.view import CHECKPOINT

    if out.exists():
        raise TargetRefused(f"{out}: exists already", "name a new file")
    view = _view(folder, log_key)
    before, head = open_checkpoint(old.read_bytes(), view.key, str(old))[0], view.checkpoint()
    if head is None:
        raise InputInvalid(f"{folder}: nothing was signed yet", "airgap ledger checkpoint")
    path = view.prove_growth(before, head)
    out.write_bytes(Growth(before.size, tuple(path), (folder / CHECKPOINT).read_bytes()).dump())
    click.echo(f"growth: {out}, from {before.size} to {head.size} entries")


@command.command()
@click.argument("out", type=click.Path(path_type=Path))
@ledger_option
def export(out: Path, folder: Path) -> None:
    """Write the ledger to the new folder OUT as C2SP tlog-tiles, which other people's tools read.

    \b
    Example: airgap ledger export /media/audit/ledger
    """
    from custody.atomic import new_folder
    from custody.ledger.export import export as core
    from custody.ledger.verify import verify as core_verify

    view = _view(folder, None)
    core_verify(view)
    new_folder(out)
    head: Checkpoint = core(view, out)
    click.echo(f"export: {out}, {head.size} entries of {head.origin}")


@command.command()
@click.argument("export", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("keep", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--log-key", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="log.vkey from another hand; wanted the first time, remembered in KEEP.",
)  # fmt: skip
@click.option("--name", help="With --key: who countersigns.")
@key_options(required=False)
def collect(
    export: Path, keep: Path, log_key: Path | None, name: str | None, key: str | None, module: Path | None,
    passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Hold the export of a log against every checkpoint that was collected before in the folder KEEP, and keep its own.

    It works on exports of the ledger and of the audit log, on a machine that the host cannot reach. With --key the
    collector countersigns (P-384): KEEP/SIZE.cosigned.

    \b
    Example: airgap ledger collect /media/audit/ledger /srv/collected/site-7 \\
                 --log-key site-7.vkey
    Example: airgap ledger collect /media/audit/ledger /srv/collected/site-7 \\
                 --name alice --key alice.key
    """
    from custody.atomic import write_whole
    from custody.ledger.collect import begin
    from custody.ledger.collect import collect as core
    from custody.ledger.note import countersign
    from custody.ledger.origin import VKEY, read_public

    if (name is None) != (key is None):
        raise click.UsageError("--name and --key go together")
    if log_key is not None:
        begin(keep, read_public(log_key))
    elif not (keep / VKEY).exists():
        raise click.UsageError("Missing option '--log-key': KEEP knows no log yet")
    found = core(export, keep)
    if name is not None and key is not None:
        with opened(key, module, passphrase_file) as signer:
            cosigned = keep / f"{found.head.size:020}.cosigned"
            write_whole(cosigned, countersign(found.note, [(name, signer)]).dump())
            click.echo(f"cosigned:  {cosigned}")
    click.echo(f"log:       {found.head.origin}\nentries:   {found.head.size}, every one read")
    click.echo(f"compared:  with {found.compared} earlier checkpoints\nverdict:   goes on from all of them")


def _view(folder: Path, log_key: Path | None) -> View:
    from custody.ledger.origin import read_public
    from custody.ledger.view import View

    if not folder.is_dir():
        raise InputInvalid(f"{folder}: expected a ledger, found none", "airgap ledger init ORIGIN")
    return View(folder, key=read_public(log_key) if log_key is not None else None)
