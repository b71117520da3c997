"""Policies: what they decide, what never loads, and how they come into force."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.gateway import cedar, live
from appliance.gateway.cases import require_own_cases
from appliance.gateway.folder import MAX_BYTES, read_folder
from appliance.gateway.identity import Identity, Limits
from appliance.gateway.live import apply, current_version
from appliance.gateway.policy import ACTIONS, SHIPPED, Decision, Model, Policies
from appliance.gateway.simulate import questions, simulate
from custody.errors import EnvironmentProblem, InputInvalid, LedgerBroken, LedgerUnwritable, PolicyRefused
from custody.ledger import record
from custody.ledger.event import parse
from custody.ledger.log import open_log
from custody.ledger.verify import verify
from custody.ledger.view import View
from tests.attack.judges import state

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
ALLOW_ALL = '@id("all") permit (principal, action, resource);\n'
MODEL = Model("llama", "sha256:00", "general", 16)


def user(role: str = "user", *groups: str) -> Identity:
    return Identity("alice", "k", role, frozenset(groups), Limits(), None)


def write(folder: Path, cedar_text: str = ALLOW_ALL, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "p.cedar").write_text(cedar_text)
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text)
    return folder


def decide(policies: Policies, who: Identity | None = None, model: Model = MODEL, **more: object) -> Decision:
    asked = {"action": "chat", "client_ip": "10.0.0.1", "purpose": "", "now": NOON, **more}
    return policies.decide(who or user(), model, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["default", "clinical"])
def test_shipped_policies_load_and_pass_their_own_cases(name: str) -> None:
    content = read_folder(SHIPPED / name)
    assert require_own_cases(Policies(content), content) >= 6


def test_nothing_is_allowed_that_no_policy_permits(tmp_path: Path) -> None:
    policies = Policies.load(write(tmp_path, '@id("no") forbid (principal is User, action, resource) when { false };'))
    for action in ACTIONS:
        assert decide(policies, action=action) == Decision(False, "", "no policy permits this")


def test_forbid_wins_and_all_names_are_told(tmp_path: Path) -> None:
    text = (
        ALLOW_ALL
        + '@id("b-no") forbid (principal, action, resource);\n@id("a-no") forbid (principal, action, resource);'
    )
    assert decide(Policies.load(write(tmp_path, text))) == Decision(False, "a-no,b-no", "forbidden by a-no, b-no")
    assert decide(Policies.load(write(tmp_path))) == Decision(True, "all", "permitted by all")


def test_a_forbid_that_fails_while_it_is_evaluated_denies(tmp_path: Path) -> None:
    """Cedar passes over it, and would allow."""
    text = ALLOW_ALL + (
        '@id("sum") forbid (principal, action, resource) when { 9223372036854775807 + resource.quantization_bits > 1 };'
    )
    found = decide(Policies.load(write(tmp_path, text)))
    assert not found.allowed
    assert "cannot be judged" in found.reason
    assert "`sum`" in found.reason


@pytest.mark.parametrize(
    ("action", "client_ip", "purpose", "now"),
    [
        ("delete", "10.0.0.1", "", NOON),
        ("Chat", "10.0.0.1", "", NOON),
        ("chat", "", "", NOON),
        ("chat", "10.0.0.1, 10.20.0.1", "", NOON),
        ("chat", "10.0.0.0/8", "", NOON),
        ("chat", "localhost", "", NOON),
        ("chat", "10.0.0.1", 'x"] || true', NOON),
        ("chat", "10.0.0.1", "Ä", NOON),
        ("chat", "10.0.0.1", "", float("nan")),
        ("chat", "10.0.0.1", "", 1e300),
    ],
)
def test_what_cannot_be_judged_is_denied(tmp_path: Path, action: str, client_ip: str, purpose: str, now: float) -> None:
    found = decide(Policies.load(write(tmp_path)), action=action, client_ip=client_ip, purpose=purpose, now=now)
    assert (found.allowed, found.policy_id) == (False, "")


_SHARED = Policies.load(SHIPPED / "clinical")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.floats())
def test_no_input_raises_or_allows(name: str, ip: str, purpose: str, label: str, now: float) -> None:
    who = Identity(name, "k", name, frozenset({label}), Limits(), None)
    found = decide(_SHARED, who, Model(name, "", "clinical", 16), client_ip=ip, purpose=purpose, now=now)
    assert not found.allowed


@pytest.mark.parametrize("client_ip", ["10.20.0.7", "::ffff:10.20.0.7"])
def test_an_address_counts_however_a_socket_writes_it(client_ip: str) -> None:
    model = Model("m", "", "clinical", 16)
    who = user("user", "clinicians")
    assert decide(_SHARED, who, model, client_ip=client_ip, purpose="treatment").allowed
    assert not decide(_SHARED, who, model, client_ip="fe80::1%eth0", purpose="treatment").allowed


def test_hours_are_those_of_the_sites_zone(tmp_path: Path) -> None:
    text = '@id("noon") permit (principal, action, resource) when { context.hour == 13 && context.weekday == 5 };'
    berlin = Policies.load(write(tmp_path, text, settings="schema_version: 1\ntimezone: Europe/Berlin\n"))
    assert decide(berlin).allowed
    assert not decide(Policies.load(write(tmp_path / "utc", text))).allowed
    until = '@id("u") permit (principal, action, resource) when { context.time < datetime("2026-11-20T12:00:01Z") };'
    assert decide(Policies.load(write(tmp_path / "u", until))).allowed
    assert not decide(Policies.load(write(tmp_path / "u", until)), now=NOON + 1).allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('@id("a") permt (principal, action, resource);', "invalid policy effect"),
        ('@id("a") permit (principal, action, resource) when { resource.labl == "general" };', "labl"),
        ('@id("a") permit (principal, action, resource) when { context.hour == "9" };', "a"),
        ('@id("a") permit (principal, action == Action::"chatt", resource);', "chatt"),
        ('@id("a") permit (principal in Grup::"x", action, resource);', "Grup"),
        ("permit (principal, action, resource);", "expected @id"),
        ('@id("A b") permit (principal, action, resource);', "expected @id"),
        ('@id("a,b") permit (principal, action, resource);', "expected @id"),
        ('@id("limits") forbid (principal, action, resource);', "a policy is called limits"),
        ('@id("guard") permit (principal, action, resource);', "a policy is called guard"),
        (ALLOW_ALL + ALLOW_ALL, "two policies are called all"),
        ('@id("t") permit (principal == ?principal, action, resource);', "template"),
        ("}", "p.cedar"),
        ("\xff", "p.cedar"),
    ],
)
def test_a_policy_with_a_typo_never_loads(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PolicyRefused, match=said):
        Policies.load(write(tmp_path, text))


def test_the_error_names_file_and_policy(tmp_path: Path) -> None:
    text = ALLOW_ALL + '@id("ward") permit (principal, action, resource) when { resource.ward == "a" };'
    with pytest.raises(PolicyRefused, match=r"p\.cedar: for policy `ward`"):
        Policies.load(write(tmp_path, text))


_GUARD = "schema_version: 1\nrules:\n  - {name: a, labels: [general], action: mask, kind: email}\n"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"settings": "schema_version: 1\ntimezone: UTC\ntimezone: UTC\n"}, r"yml:3: 'timezone' is given twice"),
        ({"settings": "schema_version: 1\nzone: UTC\n"}, "zone"),
        ({"settings": "schema_version: 1\ntimezone: Europe/Nowhere\n"}, "no such zone"),
        ({"settings": "schema_version: 1\ntimezone: ../../etc/passwd\n"}, "timezone"),
        ({"settings": "schema_version: '1'\n"}, "schema_version"),
        ({"settings": "schema_version: 2\n"}, "schema_version"),
        ({"settings": "- 1\n"}, "the whole"),
        ({"settings": ""}, "the whole"),
        ({"settings": "a: [\n"}, "settings.yml"),
        ({"settings": "[" * 100_000}, "settings.yml"),
        ({"guard": _GUARD.replace("mask", "maks")}, "action"),
        ({"guard": _GUARD.replace("kind: email", "kind: email, kind: iban")}, "twice"),
        ({"guard": _GUARD.replace("email", "emial")}, "emial"),
        ({"guard": "schema_version: 1\nrules: &a [*a]\n"}, "anchors"),
        ({"guard": "schema_version: 1\nrules: !!python/object:os.system []\n"}, "tags"),
        ({"guard": _GUARD.replace("[general]", "[]")}, "labels"),
        ({"guard": _GUARD.replace("name: a", "name: true")}, "name"),
        ({"guard": "schema_version: 1\ntrue: 1\n"}, "plain word"),
    ],
)  # fmt: skip
def test_yaml_that_is_not_as_it_must_be_never_loads(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(PolicyRefused, match=said):
        Policies.load(write(tmp_path, **files))


def _unknown(folder: Path) -> None:
    (folder / "p.cedar~").touch()


def _hidden(folder: Path) -> None:
    (folder / ".git").mkdir()


def _linked_file(folder: Path) -> None:
    (folder / "more.cedar").symlink_to("/etc/passwd")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "more.cedar")


def _folder_inside(folder: Path) -> None:
    (folder / "more.cedar").mkdir()


def _large(folder: Path) -> None:
    (folder / "more.cedar").write_bytes(b" " * MAX_BYTES)


def _many(folder: Path) -> None:
    for number in range(64):
        (folder / f"p{number}.cedar").touch()


def _empty(folder: Path) -> None:
    (folder / "p.cedar").unlink()


@pytest.mark.parametrize(
    "spoil", [_unknown, _hidden, _linked_file, _pipe, _folder_inside, _large, _many, _empty], ids=lambda f: f.__name__
)
def test_a_folder_with_anything_odd_never_loads(tmp_path: Path, spoil: object) -> None:
    folder = write(tmp_path / "p")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(PolicyRefused):
        Policies.load(folder)


def test_a_linked_folder_is_refused_unless_it_is_the_current_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "p")
    (tmp_path / "other").symlink_to("p")
    (tmp_path / "current").symlink_to("p")
    for name in ("other", "current", "none"):
        with pytest.raises(PolicyRefused):
            Policies.load(tmp_path / name)
    (tmp_path / "current").unlink()
    version = Policies.load(folder).version
    folder.rename(tmp_path / version)
    (tmp_path / "current").symlink_to(version)
    assert Policies.load(tmp_path / "current").version == version
    (tmp_path / version / "p.cedar").write_text(ALLOW_ALL.replace("all", "none"))
    with pytest.raises(PolicyRefused, match="somebody changed it"):
        Policies.load(tmp_path / "current")


def test_a_shell_makes_the_same_version(tmp_path: Path) -> None:
    write(tmp_path, guard=_GUARD)
    made = subprocess.run(
        ["sh", "-c", "LC_ALL=C; cd $0 && sha256sum -- * | sha256sum", str(tmp_path)], capture_output=True, check=True
    )
    assert Policies.load(tmp_path).version == made.stdout[:64].decode()


def test_without_cedarpy_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cedarpy", None)
    with pytest.raises(EnvironmentProblem, match="cedarpy is not installed"):
        Policies.load(write(tmp_path))


def test_a_decision_parses_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decide(_SHARED)
    monkeypatch.setattr(cedar, "_entities", None)
    monkeypatch.setattr(cedar, "_cedar", None)
    assert decide(_SHARED).allowed


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    return folder


def test_apply_switches_and_goes_back(tmp_path: Path, site: Path, ledger_here: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two", ALLOW_ALL.replace("all", "other"))
    first = apply(one, site)
    assert (first.before, first.after) == ("", Policies.load(site / "current").version)
    second = apply(two, site)
    assert (second.before, second.after) == (first.after, current_version(site))
    assert decide(Policies.load(site / "current")).policy_id == "other"
    assert apply(two, site).before == second.after  # nothing to do
    back = apply(site / first.after, site)
    assert (back.before, current_version(site)) == (second.after, first.after)
    with open_log(ledger_here) as log:
        told = [parse(log.view.entry(number)) for number in range(log.size)][1:]
    assert [(event["event"], event["digest"], event["details"]["before"]) for event in told] == [
        ("policy changed", f"sha256:{first.after}", "none"),
        ("policy changed", f"sha256:{second.after}", first.after),
        ("policy changed", f"sha256:{first.after}", second.after),
    ]


def changes(ledger: Path) -> list[tuple[str, str]]:
    """Of the policies: from which version to which."""
    told = [parse(entry) for _number, entry in View(ledger).entries()]
    return [
        (event["details"]["before"], event["digest"].removeprefix("sha256:"))
        for event in told
        if event["event"] == "policy changed"
    ]


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def full(*_: object) -> None:
    raise LedgerUnwritable("no room", "df -h", is_done=True)


@pytest.mark.parametrize("dies", [killed, full])
def test_a_change_that_was_not_recorded_is_recorded_by_the_same_command_again(
    tmp_path: Path, site: Path, ledger_here: Path, monkeypatch: pytest.MonkeyPatch, dies: Callable[..., None]
) -> None:
    one = write(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(record, "record", dies)
        with pytest.raises((KeyboardInterrupt, LedgerUnwritable)):
            apply(one, site)
    version = current_version(site)
    assert changes(ledger_here) == []
    for _ in range(2):
        assert apply(one, site).before == version  # nothing to do
        assert changes(ledger_here) == [("none", version)]
    assert verify(View(ledger_here)).size == 2


def test_a_change_that_was_not_recorded_is_recorded_before_the_next_one(
    tmp_path: Path, site: Path, ledger_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(record, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(write(tmp_path / "one"), site)
    first = current_version(site)
    second = apply(write(tmp_path / "two", ALLOW_ALL.replace("all", "other")), site).after
    assert changes(ledger_here) == [("none", first), (first, second)]


def test_a_change_that_was_not_made_is_not_recorded(
    tmp_path: Path, site: Path, ledger_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two", ALLOW_ALL.replace("all", "other"))
    first = apply(one, site).after
    with monkeypatch.context() as patch:
        patch.setattr(live, "_switch", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(two, site)
    assert list((ledger_here / "promised").iterdir())
    apply(one, site)
    assert changes(ledger_here) == [("none", first)]
    assert not list((ledger_here / "promised").iterdir())


def test_a_typo_leaves_the_old_policies_in_force(tmp_path: Path, site: Path) -> None:
    apply(write(tmp_path / "one"), site)
    before = state(site)
    for text in ("permit", ALLOW_ALL.replace("principal", "pricipal"), ""):
        with pytest.raises(PolicyRefused):
            apply(write(tmp_path / "two", text), site)
    cases = "schema_version: 1\ncases:\n"
    cases += "  - {name: never, user: {role: user}, model: {label: a}, action: chat, expect: deny}\n"
    with pytest.raises(PolicyRefused, match="never: expected deny, found allow: permitted by all"):
        apply(write(tmp_path / "three", cases=cases), site)
    assert state(site) == before


def test_a_dry_run_of_apply_changes_nothing(tmp_path: Path, site: Path) -> None:
    before = state(site)
    assert apply(write(tmp_path / "one"), site, dry_run=True).before == ""
    assert state(site) == before


def test_apply_killed_at_any_step_leaves_old_or_new(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two", ALLOW_ALL.replace("all", "other"), guard=_GUARD)
    old = apply(one, site).after
    new = Policies.load(two).version
    names = ("open", "rename", "replace", "symlink_to", "mkdir", "chmod")
    seen = set()
    for name in names:
        for step in range(6):
            left, real = [step], getattr(Path, name)

            def dies(
                self: Path, *args: object, _left: list[int] = left, _real: object = real, **more: object
            ) -> object:
                if str(self).startswith(str(site)):
                    _left[0] -= 1
                    if _left[0] < 0:
                        raise KeyboardInterrupt
                return _real(self, *args, **more)  # type: ignore[operator]

            with monkeypatch.context() as patch:
                patch.setattr(Path, name, dies)
                try:
                    apply(two, site)
                except KeyboardInterrupt:
                    seen.add(name)
            assert Policies.load(site / "current").version in (old, new)
            apply(two, site)
            apply(one, site)
            shutil.rmtree(site / new)
    assert seen == set(names)


def test_a_version_that_somebody_changed_is_written_anew(tmp_path: Path, site: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two", ALLOW_ALL.replace("all", "other"))
    version = apply(one, site).after
    apply(two, site)
    (site / version / "p.cedar").write_text("permit (principal, action, resource); // mine")
    apply(one, site)
    assert (site / version / "p.cedar").read_text() == ALLOW_ALL


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "p.cedar").write_text(ALLOW_ALL + "// mine"), lambda folder: (folder / "mine").touch(),
    shutil.rmtree,
], ids=["edited", "added", "gone"])  # fmt: skip
def test_policies_in_force_that_somebody_changed_are_written_anew(
    tmp_path: Path, site: Path, ledger_here: Path, spoil: Callable[[Path], object]
) -> None:
    """What `read_folder` tells whoever meets them to do."""
    one = write(tmp_path / "one")
    version = apply(one, site).after
    spoil(site / version)
    with pytest.raises(PolicyRefused):
        Policies.load(site / "current")
    before = state(site)
    assert apply(one, site, dry_run=True).is_mended
    assert state(site) == before
    assert apply(one, site).is_mended
    assert Policies.load(site / "current").version == version
    assert not apply(one, site).is_mended
    with open_log(ledger_here) as log:
        told = [parse(log.view.entry(number)) for number in range(log.size)][1:]
    assert [event["details"]["before"] for event in told] == ["none", version]


def test_a_broken_ledger_stops_a_change_of_policies(tmp_path: Path, site: Path, ledger_here: Path) -> None:
    for file in ledger_here.rglob("*checkpoint*"):
        file.write_bytes(b"broken")
    with pytest.raises(LedgerBroken):
        apply(write(tmp_path / "one"), site)
    assert current_version(site) == ""


@pytest.mark.parametrize("target", ["../elsewhere", "p", "/etc"])
def test_a_link_to_something_else_is_not_the_policies_in_force(tmp_path: Path, site: Path, target: str) -> None:
    (site / "current").symlink_to(target)
    with pytest.raises(EnvironmentProblem):
        apply(write(tmp_path / "one"), site)
    with pytest.raises(PolicyRefused):
        Policies.load(site / "current")


def test_the_table_shows_what_changes_and_nothing_else() -> None:
    before, after = (Policies.load(SHIPPED / name) for name in ("default", "clinical"))
    asked = questions((before, after))
    assert asked.groups == ["", "clinicians"]
    assert asked.labels == ["clinical", "general"]
    assert asked.bits == [15, 16]
    assert asked.networks == ["10.20.0.0", "192.0.2.1"]
    asked.purposes, asked.actions = ["", "treatment"], ["chat"]
    rows = [row for row in simulate(before, after, asked, NOON) if row.is_change]
    assert [
        (row.group, row.label, row.bits, row.purpose, row.network, row.hours, row.after.policy_id) for row in rows
    ] == [("clinicians", "clinical", "16", "treatment", "10.20.0.0", "6-21", "clinicians-ask-clinical")]
    assert [row for row in simulate(after, after, asked, NOON) if row.is_change] == []


def test_the_table_knows_weekdays(tmp_path: Path) -> None:
    text = '@id("all") permit (principal, action, resource) when { context.weekday < 6 };'
    week, always = Policies.load(write(tmp_path / "a", text)), Policies.load(write(tmp_path / "b"))
    rows = [row for row in simulate(week, always, questions((week, always)), NOON) if row.is_change]
    assert [(row.weekday, row.hours, row.before.allowed, row.after.allowed) for row in rows] == [
        ("6, 7", "any", False, True)
    ]


def test_a_table_that_never_ends_is_refused() -> None:
    asked = questions((_SHARED,))
    asked.groups = [f"g{number}" for number in range(10_000)]
    with pytest.raises(InputInvalid, match="at most"):
        simulate(_SHARED, _SHARED, asked, NOON)


def test_two_changes_at_once_are_one_after_the_other(tmp_path: Path, site: Path) -> None:
    from custody.errors import AlreadyRunning
    from custody.lock import alone

    with alone(site / "lock", "another change of policies"), pytest.raises(AlreadyRunning):
        apply(write(tmp_path / "one"), site)
    assert live.current_version(site) == ""
