"""`airgap audit`."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import click

from appliance.cli.audit_keep import expire, explain, hold
from appliance.cli.audit_log import config_option, log_option, open_view
from custody.errors import InputInvalid, TargetRefused
from custody.report import show_folded, show_json


@click.group()
def command() -> None:
    """Search, verify, prove and keep what the service was asked.

    \b
    Example: airgap audit verify
    """


for _command in (hold, expire, explain):
    command.add_command(_command)


@command.command()
@config_option
def init(file: Path) -> None:
    """Begin the audit log that the settings name, as the user of the audit process; one that is there stays.

    \b
    Example: runuser -u airgap-audit -- airgap audit init
    """
    from appliance.audit.config import load
    from custody.ledger import origin

    settings = load(file)
    if not (settings.folder / origin.VKEY).exists():
        origin.make(settings.folder, settings.origin)
    key = origin.load(settings.folder).public
    if key.name != settings.origin:
        raise InputInvalid(f"{settings.folder}: expected the log {settings.origin}, found {key.name}", f"see {file}")
    click.echo(f"log: {settings.folder}\nkey: {key.vkey}")


#: Of entries.
_KINDS = ("admitted", "completed", "started", "stopped", "epoch", "recovered", "hold", "expired")

_index_option = click.option(
    "--index", metavar="PLACE",
    help="Where the index lies: a file, or postgresql:SOCKET-FOLDER/DATABASE; default: a file in the log's folder.",
)  # fmt: skip


@command.command()
@click.option("--user", help="Entries of this user.")
@click.option("--key-id", help="Entries of this key.")
@click.option("--client-ip", help="Entries of this address.")
@click.option("--model", help="Entries of this model.")
@click.option("--decision", type=click.Choice(["allow", "deny"]), help="Admissions decided so.")
@click.option("--request-id", help="One request, by the gateway's id.")
@click.option("--kind", type=click.Choice(_KINDS), help="What it tells.")
@click.option("--of", type=click.IntRange(min=0), help="How the request with this seq ended.")
@click.option("--since", default="", help="From this time on, as 2026-11-21 (UTC) or 2026-11-21T08:00Z.")
@click.option("--until", default="", help="Before this time; of a day, before it begins.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@_index_option
@log_option
def search(
    user: str | None, key_id: str | None, client_ip: str | None, model: str | None, decision: str | None,
    request_id: str | None, kind: str | None, of: int | None, since: str, until: str, as_json: bool,
    index: str | None, folder: Path,
) -> None:  # fmt: skip
    """Find entries. The index is only a help: what is shown was read from the log.

    \b
    Example: airgap audit search --user alice --since 2026-11-21
    Example: airgap audit search --decision deny --json
    """
    from appliance.audit.index import Index
    from appliance.audit.keeper import instant

    span = instant(since), instant(until)
    given = {
        "user_id": user, "key_id": key_id, "client_ip": client_ip, "model": model, "decision": decision,
        "request_id": request_id, "kind": kind, "of": of,
    }  # fmt: skip
    opened = Index(open_view(folder, None), index)
    try:
        wanted = {name: value for name, value in given.items() if value is not None}
        found = list(opened.search(wanted, *span))
    finally:
        opened.close()
    if as_json:
        show_json("airgap.audit-search/1", {"entries": found})
        return
    if not found:
        click.echo("no entry fits", err=True)
    for entry in found:
        known = {name: value for name, value in entry.items() if name not in _COMMON and value is not None}
        rest = "  ".join(f"{name}={_word(value)}" for name, value in known.items())
        # A row begins at column 0, what follows is indented: nothing that a client chose can look like a row.
        show_folded(f"{entry['seq']:<8} {entry['time']} {entry['kind']:10} {rest}", 3)


def _word(value: object) -> str:
    """A value as one word of ASCII; a text that is none, as JSON has it."""
    is_word = isinstance(value, str) and value.isascii() and value.isprintable() and value and " " not in value
    return str(value) if is_word else json.dumps(value)


#: Epochs without a copy that are named; all are counted.
_NAMED = 10
_COMMON = {"schema", "seq", "time", "kind", "boot_id", "monotonic_ms"}


@command.command()
@click.option(
    "--against", type=click.Path(path_type=Path, dir_okay=False, exists=True), multiple=True, metavar="CHECKPOINT",
    help="A checkpoint that left the host earlier; the log must go on from it. May be given again.",
)  # fmt: skip
@click.option(
    "--log-key", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="log.vkey from another hand; without it the folder's own is believed.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@_index_option
@log_option
def verify(
    against: tuple[Path, ...], log_key: Path | None, as_json: bool, index: str | None, folder: Path
) -> None:  # fmt: skip
    """Read all of the log. Two verdicts: is it intact, and is it complete?

    Intact: the entries are those that checkpoints were signed over, and those that have expired went by a tombstone,
    after their time, under no hold. Complete: every allowed request ended, and the process never went away unannounced;
    gaps are for people to explain. An index that lies there is compared too, and the auditor's copies of epochs' keys.

    \b
    Example: airgap audit verify --against 2026-10.checkpoint --log-key audit.vkey
    """
    from appliance.audit.complete import judge
    from appliance.audit.escrow import compare
    from appliance.audit.index import NAME, Index
    from appliance.audit.keeping import require_kept, unfinished
    from custody.ledger.checkpoint import open_checkpoint
    from custody.ledger.moment import now
    from custody.ledger.verify import verify as core

    view = open_view(folder, log_key)
    heads = [open_checkpoint(file.read_bytes(), view.key, str(file))[0] for file in against]
    found = core(view, heads)
    require_kept(view, found)
    expired = [
        {"first": each.stone.first, "last": each.stone.last, "tombstone": each.seq, "time": each.content["time"]}
        for each in found.expired
    ]
    half = unfinished(view)
    copies = compare(view)
    missing = [number for number, is_there in copies.items() if not is_there]
    if index is not None or (folder / NAME).exists():
        opened = Index(view, index)
        opened.verify()
        opened.close()
    judged = judge(view.entries(0, found.size), is_live=_is_live(folder), now=now().time)
    complete = "incomplete" if judged.gaps else "complete"
    if as_json:
        content = {
            "intact": True, "complete": not judged.gaps, "origin": view.key.name, "entries": found.size,
            "signed": found.signed, "compared": found.compared, "admitted": judged.admitted, "denied": judged.denied,
            "completed": judged.completed, "gaps": [dataclasses.asdict(gap) for gap in judged.gaps],
            "torn_bytes": found.torn_bytes, "epochs": len(copies), "epochs_missing": missing,
            "expired": expired, "unfinished": [{"first": first, "tombstone": seq} for seq, first in half],
        }  # fmt: skip
        show_json("airgap.audit-verify/1", content)
        return
    click.echo(f"log:       {view.key.name}\nentries:   {found.size}, of which a checkpoint covers {found.signed}")
    click.echo(f"requests:  {judged.admitted} allowed, {judged.completed} of them ended; {judged.denied} denied")
    for each in expired:
        click.echo(
            f"expired:   entries {each['first']} to {each['last']} on {each['time'][:10]},"
            f" by the tombstone at entry {each['tombstone']}"
        )
    for seq, first in half:
        click.echo(
            f"unfinished: text from entry {first} on is there, and its tombstone too, entry {seq}: expire it again"
        )
    if missing:
        named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        click.echo(f"epochs:    {len(missing)} of {len(copies)} copies for the auditor are not here: {named}")
    if found.torn_bytes:
        click.echo(f"torn:      {found.torn_bytes} bytes that were never acknowledged, or are being written")
    for gap in judged.gaps:
        click.echo(f"gap:       {gap.seq:8} {gap.what}")
    click.echo(f"compared:  with {found.compared} checkpoints that left the host\nverdict:   intact, {complete}")


@command.command()
@click.argument("seq", type=click.IntRange(min=0))
@click.argument("out", type=click.Path(path_type=Path))
@log_option
def prove(seq: int, out: Path, folder: Path) -> None:
    """Write the proof of entry SEQ to the new folder OUT, with a script that checks it with openssl alone.

    \b
    Example: airgap audit prove 12 /media/audit/entry-12
    """
    from custody.ledger.kit import write_kit

    write_kit(open_view(folder, None), seq, out)
    click.echo(f"proof: {out}\ncheck: sh {out}/check {out} LOG.PEM, with the log's key from another hand")


@command.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--segments",
    metavar="FIRST-LAST",
    help="Complete segments alone, by number from 0, for a medium that is written once; `0-` is all.",
)
@click.option(
    "--after", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="CHECKPOINT",
    help="With --segments: a checkpoint that left before; the proof that the log goes on from it is written too.",
)  # fmt: skip
@log_option
def export(out: Path, segments: str | None, after: Path | None, folder: Path) -> None:
    """Write the log to the new folder OUT as C2SP tlog-tiles, with the auditor's copies of the epochs' keys.

    The whole log is verified first. With --segments: the segments' text, compressed, with paths to the checkpoint, and
    a script that checks all of it with openssl and coreutils alone. A copy that is not the log's is told at the end,
    with exit code 19; the export is whole then.

    \b
    Example: airgap audit export /media/audit/log
    Example: airgap audit export /media/worm/2026 \\
                 --segments 0-3 --after 2025.checkpoint
    """
    from appliance.audit.epoch import FOLDER
    from appliance.audit.escrow import compare
    from appliance.audit.keeping import require_kept
    from custody.atomic import new_folder
    from custody.ledger.cold import names_of, write_cold
    from custody.ledger.export import export as core
    from custody.ledger.verify import verify as core_verify

    if after is not None and segments is None:
        raise click.UsageError("--after goes with --segments")
    view = open_view(folder, None)
    require_kept(view, core_verify(view))
    names = names_of(view, *_range(segments)) if segments is not None else []
    new_folder(out)
    head = write_cold(view, names, out, after.read_bytes() if after else b"") if names else core(view, out)
    escrows = sorted((folder / FOLDER).glob("*.cms"))
    (out / FOLDER).mkdir()
    for escrow in escrows:
        (out / FOLDER / escrow.name).write_bytes(escrow.read_bytes())
    what = f"{len(names)} segments" if names else f"{head.size} entries"
    click.echo(f"export: {out}, {what} of {head.origin}, {len(escrows)} epochs")
    compare(view)  # last: a copy that was damaged keeps no evidence back


def _range(text: str) -> tuple[int, int | None]:
    """`2-5`, `2-` or `2`."""
    match = re.fullmatch(r"(\d{1,9})(-(\d{1,9})?)?", text)
    if match is None:
        raise click.UsageError(f"--segments {text}: expected FIRST-LAST, like 0-3, or 0-")
    first = int(match[1])
    return first, first if match[2] is None else int(match[3]) if match[3] else None


@command.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--day", metavar="2026-11-21", help="Requests of this day (UTC).")
@click.option("--user", help="Requests of this user.")
@click.option("--decision", type=click.Choice(["allow", "deny"]), help="Requests decided so.")
@log_option
def page(out: Path, day: str | None, user: str | None, decision: str | None, folder: Path) -> None:
    """Write a page for people, OUT.html: what was asked on a day, by a user, or what was denied. It reads offline.

    The whole log is verified first; the index is not used.

    \b
    Example: airgap audit page 2026-11-21.html --day 2026-11-21
    """
    from appliance.audit.complete import judge
    from appliance.audit.daypage import make_page
    from appliance.audit.keeper import require_day
    from appliance.audit.keeping import require_kept
    from custody.atomic import write_whole
    from custody.ledger.moment import now
    from custody.ledger.verify import verify as core
    from custody.page import html

    if out.exists():
        raise TargetRefused(f"{out}: exists already", "name a new file")
    if day is not None:
        require_day(day)
    view = open_view(folder, None)
    found = core(view)
    require_kept(view, found)
    judged = judge(view.entries(0, found.size), is_live=_is_live(folder), now=now().time)
    entries = [json.loads(entry) for _seq, entry in view.entries(0, found.size)]
    ends = {entry["of"]: entry for entry in entries if entry["kind"] == "completed"}
    wanted = {"user_id": user, "decision": decision}
    shown = [
        entry for entry in entries
        if entry["kind"] == "admitted"
        and entry["time"].startswith(day or "")
        and all(value is None or entry[name] == value for name, value in wanted.items())
    ]  # fmt: skip
    what = ", ".join(part for part in (day, user, decision) if part) or "all requests"
    write_whole(out, html.render(make_page(f"{view.key.name}: {what}", shown, ends, found, judged)))
    click.echo(f"page: {out}, {len(shown)} requests")


def _is_live(folder: Path) -> bool:
    """Whether a process writes to the log now."""
    from custody.errors import AlreadyRunning
    from custody.lock import alone

    if not (folder / "lock").exists():
        return False
    try:
        with alone(folder / "lock", "the audit process"):
            return False
    except AlreadyRunning:
        return True
    except OSError:
        return False  # a copy, or not ours to lock
