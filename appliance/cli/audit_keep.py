"""`airgap audit hold`, `expire` and `explain`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from appliance.cli.audit_log import config_option, log_option, open_view
from custody.report import show_folded, show_json


@click.group()
def hold() -> None:
    """Keep what a proceeding may want: while a hold reaches into a segment's time, it does not expire.

    \b
    Example: airgap audit hold list
    """


@hold.command("add")
@click.argument("name")
@click.option("--from", "since", default="", help="2026-01-01 (UTC) or 2026-01-01T08:00Z; default: from the beginning.")
@click.option("--until", default="", help="The same; a day is included; default: without an end.")
@click.option("--reason", required=True, help="Why; the log keeps it for good.")
@config_option
def hold_add(name: str, since: str, until: str, reason: str, file: Path) -> None:
    """Add the hold NAME, as root; the log records it.

    \b
    Example: airgap audit hold add case-17 --from 2026-01-01 --until 2026-06-30 \\
                 --reason "subpoena 4711"
    """
    _order_hold(file, "add", name, since, until, reason)


@hold.command("lift")
@click.argument("name")
@click.option("--reason", required=True, help="Why; the log keeps it for good.")
@config_option
def hold_lift(name: str, reason: str, file: Path) -> None:
    """Lift the hold NAME, as root; the log records it.

    \b
    Example: airgap audit hold lift case-17 --reason "case closed"
    """
    _order_hold(file, "lift", name, "", "", reason)


def _order_hold(file: Path, action: Any, name: str, since: str, until: str, reason: str) -> None:
    from appliance.audit import config
    from appliance.audit.keeper import HoldOrder, Order, instant, send
    from custody.ledger.event import who

    fields = {
        "name": name,
        "since": instant(since),
        "until": instant(until, is_end=True),
        "reason": reason,
        "who": who(),
    }
    seq = send(config.load(file).keep, Order(hold=_checked(HoldOrder, {"action": action, **fields})))
    click.echo(f"hold: {name}, {action}: entry {seq}")


def _checked(kind: Any, fields: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from custody.errors import InputInvalid

    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputInvalid(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "see --help") from error


@hold.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@log_option
def hold_list(as_json: bool, folder: Path) -> None:
    """Show the holds that are in force.

    \b
    Example: airgap audit hold list
    """
    from appliance.audit.keeping import holds

    found = holds(open_view(folder, None)).values()
    if as_json:
        show_json("airgap.audit-holds/1", {"holds": [dataclasses.asdict(each) for each in found]})
        return
    for each in found:
        span = f"{each.since[:10] or 'the beginning'} to {each.until[:10] or 'no end'}"
        click.echo(f"{each.name:20} {span}, entry {each.seq}, by {each.who}: {each.reason}")


@click.command()
@click.option(
    "--receipt", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="KEEP/SIZE.cosigned of `airgap ledger collect --key`: that somebody read an export.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would expire and what not, and why; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@config_option
def expire(receipt: Path | None, dry_run: bool, as_json: bool, file: Path) -> None:
    """Take away the text of segments whose time is over, as root; for good.

    Each leaves a tombstone in the log, and the hashes of its entries: everything else verifies as before. The audit
    process does it, and judges for itself: what is not past its days, is held, or is in no export that the
    collector's key signed for, stays.

    \b
    Example: airgap audit expire --receipt 00000000000000131372.cosigned --dry-run
    """
    from appliance.audit import config, keeping
    from appliance.audit.keeper import ExpireOrder, Order, send
    from custody.ledger.event import who
    from custody.ledger.moment import now

    settings = config.load(file)
    view, data = open_view(settings.folder, None), receipt.read_bytes() if receipt is not None else b""
    held, at, shown = keeping.holds(view), now().time, []
    for span in list(keeping.due(view, settings.rules, at)):
        step = keeping.judge(view, span, settings.rules, held, data, at)
        seq, said = None, step.why or "expires"
        if not step.why and not dry_run:
            seq = send(settings.keep, Order(expire=ExpireOrder(first=span.first, receipt=data.decode(), who=who())))
            said = f"expired: tombstone at entry {seq}"
        shown.append({**dataclasses.asdict(span), "days": step.days, "why": step.why, "tombstone": seq})
        if not as_json:
            click.echo(f"entries {span.first} to {span.last}, until {span.until[:10]}: {said}")
    if as_json:
        show_json("airgap.audit-expire/1", {"dry_run": dry_run, "segments": shown})
    elif not shown:
        click.echo("no complete segment has its text")


@click.command()
@click.argument("seq", type=click.IntRange(min=0))
@click.option(
    "--policies", type=click.Path(path_type=Path, exists=True, file_okay=False), default="/etc/airgap/policies",
    show_default=True, help="Where versions of the policies lie; the one that decided is asked again.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@log_option
def explain(seq: int, policies: Path, as_json: bool, folder: Path) -> None:
    """Say why the request with this SEQ was allowed or denied, and whether the same policies say so again.

    \b
    Example: airgap audit explain 12
    """
    from appliance.audit.explain import explain as core

    found = core(json.loads(open_view(folder, None).entry(seq)), policies)
    if as_json:
        show_json("airgap.audit-explain/1", dataclasses.asdict(found))
        return
    for name, value in (*found.facts.items(), ("again", found.again)):
        show_folded(f"{name + ':':12} {value}", 4)  # a digest stays whole
