"""`airgap policy`."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from custody.errors import InputInvalid
from custody.report import show_json
from custody.secret import ask_passphrase, passphrase_option

if TYPE_CHECKING:
    from appliance.gateway.policy import Decision, Policies
    from appliance.gateway.simulate import Row


def _default() -> Path:
    from appliance.gateway.live import FOLDER

    return FOLDER


def _state_default() -> Path:
    from appliance.gateway.approval import STATE

    return STATE


_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
_live_option = click.option(
    "--live", type=click.Path(path_type=Path, file_okay=False), default=_default,
    show_default="/etc/airgap/policies", help="Where the policies in force lie.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Check, try out and change what users may ask: Cedar policies and the guard's rules.

    \b
    Example: airgap policy check policies
    """


@command.command()
@_FOLDER
@_json_option
def check(folder: Path, as_json: bool) -> None:
    """Load FOLDER as the gateway would, and put its own cases to it.

    \b
    Example: airgap policy check policies
    """
    from appliance.gateway.cases import require_own_cases
    from appliance.gateway.folder import read_folder
    from appliance.gateway.policy import Policies

    content = read_folder(folder)
    policies = Policies(content)
    cases = require_own_cases(policies, content)
    if as_json:
        content_told = {"version": policies.version, "cases": cases, **_policies_told(policies)}
        show_json("airgap.policy-check/1", content_told)
        return
    click.echo(f"version: {policies.version}")
    _list(policies)
    click.echo(f"cases:   {cases}, all as expected")


@command.command("test")
@_FOLDER
@click.argument("cases", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_json_option
def test_cases(folder: Path, cases: Path, as_json: bool) -> None:
    """Put the questions in CASES to FOLDER's policies; exit code 25 when an answer is another than expected.

    \b
    Example: airgap policy test policies cases.yml
    """
    from appliance.gateway.cases import read_cases, tell, try_cases
    from appliance.gateway.policy import Policies
    from custody.errors import PolicyRefused

    policies = Policies.load(folder)
    try:
        text = cases.read_text()
    except UnicodeDecodeError as error:
        raise PolicyRefused(f"{cases}: not UTF-8 text: {error}", "save it as UTF-8") from error
    tried = try_cases(policies, read_cases(text, str(cases)))
    wrong = sum(not each.is_as_expected for each in tried)
    if as_json:
        told = [
            {"name": each.case.name, "expected": each.case.expect, **_decision_told(each.decision),
             "as_expected": each.is_as_expected}
            for each in tried
        ]  # fmt: skip
        show_json("airgap.policy-test/1", {"version": policies.version, "wrong": wrong, "cases": told})
    else:
        for each in tried:
            click.echo(f"{'ok   ' if each.is_as_expected else 'WRONG'} {each.case.name}: {tell(each)}")
    if wrong:
        raise PolicyRefused(
            f"{folder}: {wrong} of {len(tried)} cases are not as expected", "mend the policy or the case"
        )


@command.command()
@_FOLDER
@click.option(
    "--against", type=click.Path(path_type=Path), default=lambda: _default() / "current",
    show_default="/etc/airgap/policies/current", help="The policies to compare with.",
)  # fmt: skip
@click.option("--role", "roles", multiple=True, help="Ask for these alone. Repeat it.")
@click.option("--group", "groups", multiple=True, help="Ask for these alone. Repeat it.")
@click.option("--label", "labels", multiple=True, help="Ask for these alone. Repeat it.")
@click.option("--bits", type=click.IntRange(1, 64), multiple=True, help="Ask for these alone. Repeat it.")
@click.option("--purpose", "purposes", multiple=True, help="Ask for these alone. Repeat it.")
@click.option("--client-ip", "networks", multiple=True, help="Ask from these addresses alone. Repeat it.")
@click.option("--all", "everything", is_flag=True, help="What stays as it is, too.")
@_json_option
def simulate(
    folder: Path, against: Path, roles: tuple[str, ...], groups: tuple[str, ...], labels: tuple[str, ...],
    bits: tuple[int, ...], purposes: tuple[str, ...], networks: tuple[str, ...], everything: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show what FOLDER would change: every question that either set of policies can tell apart, at every hour.

    \b
    Example: airgap policy simulate policies
    Example: airgap policy simulate new --against old --role user --label clinical
    """
    from appliance.gateway.policy import Policies
    from appliance.gateway.simulate import COLUMNS, Questions, questions
    from appliance.gateway.simulate import simulate as core

    before, after = Policies.load(against), Policies.load(folder)
    given = Questions(
        roles=list(roles), groups=list(groups), labels=list(labels), bits=list(bits), purposes=list(purposes),
        networks=list(networks),
    )  # fmt: skip
    asked = questions((before, after), given)
    rows = core(before, after, asked, time.time())
    shown = [row for row in rows if everything or row.is_change]
    if as_json:
        told = [
            {name: getattr(row, name) for name in COLUMNS}
            | {"before": _decision_told(row.before), "after": _decision_told(row.after)}
            for row in shown
        ]
        content = {"before": before.version, "after": after.version, "asked": dataclasses.asdict(asked), "rows": told}
        show_json("airgap.policy-simulate/1", content)
        return
    alike = {name for name in COLUMNS if len({getattr(row, name) for row in rows}) == 1}
    _show_steps([(_answers(row), _why(row), _asked(row, set(COLUMNS) - alike)) for row in shown])
    changed = sum(row.is_change for row in rows)
    click.echo(f"rows that change: {changed}; {before.version[:16]} -> {after.version[:16]}", err=True)
    if always := _asked(rows[0], alike):
        click.echo(f"asked in all of them: {always}", err=True)


@command.command()
@_FOLDER
@click.option("--replaces", required=True, metavar="VERSION|none", help="The version in force: `airgap policy show`.")
@click.option("--reason", required=True, help="Kept with the approval; ASCII, one line.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The approval; signed again, it grows.",
)
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE",
    help="NAME.key of the person who approves.",
)  # fmt: skip
@passphrase_option("the key's passphrase")
def approve(folder: Path, replaces: str, reason: str, out: Path, key: Path, passphrase_file: Path | None) -> None:
    """Approve that FOLDER replaces the policies in force, as one person; the others repeat it with the same --out.

    \b
    Example: airgap policy approve policies --replaces none \\
                 --reason "first policies" --out first.approval --key bob.key
    """
    from appliance.gateway.approval import Approval
    from appliance.gateway.approval import approve as core
    from appliance.gateway.policy import Policies
    from custody.trust.keys import PrivateKey

    version = Policies.load(folder).version
    approval = Approval(version, "" if replaces == "none" else replaces, reason)
    try:
        pem = key.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{key}: {error.strerror}", "name the .key file that `airgap keys new` made") from error
    signer = PrivateKey.load(pem, ask_passphrase(passphrase_file, f"Passphrase for {key}").encode(), str(key))
    count = core(approval, out, signer)
    click.echo(f"approval: {out}, {count} signature(s)\nversion:  {version}\nreplaces: {replaces}")


@command.command()
@_FOLDER
@click.option(
    "--approval", type=click.Path(path_type=Path, dir_okay=False),
    help="What persons signed with `policy approve`, where the site wants it.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Check all of it, and change nothing.")
@_live_option
@click.option(
    "--state", type=click.Path(path_type=Path, dir_okay=False), default=_state_default,
    show_default="/var/lib/airgap/state.json", help="The root of trust that this host remembers.",
)  # fmt: skip
def apply(folder: Path, approval: Path | None, dry_run: bool, live: Path, state: Path) -> None:
    """Put FOLDER's policies in force, at once. What does not load, or fails its own cases, leaves the old ones there.

    \b
    Example: airgap policy apply policies --approval second.approval
    """
    from appliance.gateway.live import apply as core

    done = core(folder, live, approval=approval, state=state, dry_run=dry_run)
    if done.is_mended:
        said = "would be" if dry_run else "were"
        click.echo(f"policies: {done.after} are in force; somebody had changed their files, which {said} written anew")
        return
    if done.before == done.after:
        click.echo(f"policies: {done.after} are in force already")
        return
    said = "would replace" if dry_run else "replace"
    click.echo(f"policies: {done.after} {said} {done.before or 'none'}; {done.cases} cases as expected")
    if done.persons:
        click.echo(f"approved: {', '.join(done.persons)}")


@command.command()
@_json_option
@_live_option
def show(as_json: bool, live: Path) -> None:
    """Show the policies in force, their version, and which versions lie here to go back to.

    \b
    Example: airgap policy show
    """
    from appliance.gateway.approval import read_demand
    from appliance.gateway.folder import VERSION
    from appliance.gateway.live import CURRENT
    from appliance.gateway.policy import Policies

    policies, demand = Policies.load(live / CURRENT), read_demand(live)
    others = sorted(path.name for path in live.iterdir() if VERSION.fullmatch(path.name))
    others.remove(policies.version)
    wanted = demand.persons if demand else 0
    if as_json:
        content = {"version": policies.version, "others": others, "persons": wanted, **_policies_told(policies)}
        show_json("airgap.policy/1", content)
        return
    click.echo(f"version: {policies.version}\npersons: {wanted or 'none'} to approve a change")
    _list(policies)
    for version in others:
        click.echo(f"earlier: {version}")


def _list(policies: Policies) -> None:
    """Policies and rules, a line each."""
    for name, effect in policies.engine.effects.items():
        click.echo(f"policy:  {effect:6} {name}")
    for rule in policies.guard.rules:
        click.echo(f"guard:   {rule.action:6} {rule.name} ({rule.kind}) for {', '.join(sorted(rule.labels))}")


def _policies_told(policies: Any) -> dict[str, Any]:
    guard = [{**dataclasses.asdict(rule), "labels": sorted(rule.labels)} for rule in policies.guard.rules]
    return {"policies": policies.engine.effects, "guard": guard}


def _decision_told(decision: Decision) -> dict[str, Any]:
    policies = decision.policy_id.split(",") if decision.policy_id else []
    return {"decision": "allow" if decision.allowed else "deny", "policies": policies, "reason": decision.reason}


def _show_steps(rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("before -> after", no_wrap=True)
    table.add_column("why", overflow="fold", max_width=24)
    table.add_column("for every", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=80, highlight=False, markup=False).print(table)


def _answers(row: Row) -> str:
    old, new = ("allow" if each.allowed else "deny" for each in (row.before, row.after))
    return f"{old} -> {new}" if old != new else new


def _why(row: Row) -> str:
    return row.after.policy_id or row.after.reason


def _asked(row: Row, names: set[str]) -> str:
    """What a row asks, of these dimensions, where it is not about all of one."""
    from appliance.gateway.simulate import COLUMNS

    told = {name: getattr(row, name) for name in COLUMNS if name in names}
    return "; ".join(f"{name} {value}" for name, value in told.items() if value != "any")
