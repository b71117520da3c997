"""`airgap policy`: checks, tests, the table, and persons who must agree before anything changes."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from appliance.gateway.policy import SHIPPED, Policies
from bundler.bundle.trustfolder import TrustFolder
from bundler.install.state import State
from custody.errors import (
    EnvironmentProblem,
    InputInvalid,
    LedgerUnwritable,
    PolicyRefused,
    SignatureRejected,
    TargetRefused,
)
from custody.ledger import record
from custody.ledger.event import parse
from custody.ledger.log import open_log
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.root import Person, Root
from tests.attack.judges import state
from tests.bundles import make_trust
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import PASSPHRASE, printed

DEFAULT, CLINICAL = SHIPPED / "default", SHIPPED / "clinical"
VERSIONS = {folder: Policies.load(folder).version for folder in (DEFAULT, CLINICAL)}


class Site:
    """Policies in force, a root with three persons, and what the host remembers of it."""

    def __init__(self, tmp: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._tmp, self._capfd = tmp, capfd
        self.live, self.state, self.trust = tmp / "live", tmp / "state.json", tmp / "trust"
        self.live.mkdir()
        self.keys = {name: PrivateKey.generate() for name in ("alice", "bob", "bob-2", "carol", "mallory")}
        public = {name: key.public for name, key in self.keys.items()}
        persons = (
            Person("alice", ("root", "builder"), (public["alice"],)),
            Person("bob", ("root", "approver"), (public["bob"], public["bob-2"])),
            Person("carol", ("root", "approver"), (public["carol"],)),
        )
        root = Root(1, persons, {"root": 2, "builder": 1, "approver": 1})
        make_trust(self.trust, root, [self.keys["alice"], self.keys["bob"]])
        self.remember()
        for name, key in self.keys.items():
            (tmp / f"{name}.key").write_bytes(key.dump(PASSPHRASE.encode()))
        (tmp / "secret").touch(mode=0o600)
        (tmp / "secret").write_text(PASSPHRASE)

    def remember(self) -> None:
        """What `install` keeps, after the newest roots and revocations."""
        kept = State().with_trust(TrustFolder(self.trust).trust())
        self.state.write_text(json.dumps(kept.model_dump(mode="json")))

    def demand(self, persons: int, roles: str = "[approver]") -> None:
        """The site wants so many persons."""
        (self.live / "approval.yml").write_text(f"schema_version: 1\npersons: {persons}\nroles: {roles}\n")

    def approve(self, folder: Path, *names: str, replaces: str = "none", reason: str = "why") -> Path:
        """An approval of these keys."""
        out = self._tmp / f"{folder.name}-{'-'.join(names)}-{replaces[:6]}.approval"
        for name in names:
            printed(
                ["policy", "approve", str(folder), "--replaces", replaces, "--reason", reason, "--out", str(out),
                 "--key", str(self._tmp / f"{name}.key"), "--passphrase-file", str(self._tmp / "secret")],
                self._capfd,
            )  # fmt: skip
        return out

    def words(self, folder: Path, approval: Path | None) -> list[str]:
        """`airgap policy apply`."""
        more = [] if approval is None else ["--approval", str(approval)]
        return ["policy", "apply", str(folder), "--live", str(self.live), "--state", str(self.state), *more]

    def apply(self, folder: Path, approval: Path | None = None, *more: str) -> str:
        return printed([*self.words(folder, approval), *more], self._capfd)

    def refused(self, folder: Path, approval: Path | None = None) -> tuple[int, str]:
        (self.live / "lock").touch()
        before = state(self.live)
        found = refused(self.words(folder, approval), self._capfd)
        assert state(self.live) == before
        return found


@pytest.fixture
def site(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capfd)


def test_check_tells_what_is_in_a_folder(capfd: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(["policy", "check", str(CLINICAL), "--json"], capfd))
    assert (told["schema"], told["version"], told["cases"]) == ("airgap.policy-check/1", VERSIONS[CLINICAL], 7)
    assert told["policies"]["clinical-needs-16-bit"] == "forbid"
    assert told["guard"][0]["name"] == "uk-nhs"
    text = printed(["policy", "check", str(CLINICAL)], capfd)
    assert "forbid clinical-needs-16-bit" in text


def test_check_refuses_a_typo_with_its_own_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.cedar").write_text('@id("a") permit (principal, action, resource) when { resource.lable == "x" };')
    code, told = refused(["policy", "check", str(tmp_path)], capfd)
    assert code == PolicyRefused.exit_code == 25
    assert "lable" in told


def test_test_ends_with_25_when_an_answer_is_another(capfd: pytest.CaptureFixture[str]) -> None:
    cases = str(CLINICAL / "cases.yml")
    assert "WRONG" not in printed(["policy", "test", str(CLINICAL), cases], capfd)
    code, told = refused(["policy", "test", str(DEFAULT), cases, "--json"], capfd)
    assert (code, "3 of 7 cases" in told) == (25, True)
    told = printed(["policy", "test", str(CLINICAL), cases, "--json"], capfd)
    assert [case["as_expected"] for case in json.loads(told)["cases"]] == [True] * 7


def test_simulate_shows_only_differences(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["policy", "simulate", str(CLINICAL), "--against", str(DEFAULT), "--role", "user", "--bits", "16"]
    words += ["--client-ip", "10.20.1.1", "--purpose", "treatment"]
    text = printed(words, capfd).splitlines()
    assert text[0].split() == ["before", "->", "after", "why", "for", "every"]
    row = "deny -> allow clinicians-ask-clinical group clinicians; label clinical; hours 6-21"
    assert " ".join(" ".join(text[1:]).split()) == row
    assert max(map(len, text)) <= 80
    told = json.loads(printed([*words, "--all", "--json"], capfd))
    assert told["schema"] == "airgap.policy-simulate/1"
    assert {row["after"]["decision"] for row in told["rows"]} == {"allow", "deny"}
    assert len(told["rows"]) > 1
    code, _ = refused([*words, *(word for number in range(2000) for word in ("--group", f"g{number}"))], capfd)
    assert code == InputInvalid.exit_code


def test_apply_and_show(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert "would replace none" in site.apply(DEFAULT, None, "--dry-run")
    assert "replace none; 6 cases" in site.apply(DEFAULT)
    assert VERSIONS[DEFAULT] in site.apply(CLINICAL)
    assert "in force already" in site.apply(CLINICAL)
    (site.live / VERSIONS[CLINICAL] / "guard.yml").unlink()
    assert "would be written anew" in site.apply(CLINICAL, None, "--dry-run")
    assert "were written anew" in site.apply(CLINICAL)
    assert "in force already" in site.apply(CLINICAL)
    told = json.loads(printed(["policy", "show", "--live", str(site.live), "--json"], capfd))
    assert (told["schema"], told["version"], told["persons"]) == ("airgap.policy/1", VERSIONS[CLINICAL], 0)
    assert told["others"] == [VERSIONS[DEFAULT]]
    assert f"earlier: {VERSIONS[DEFAULT]}" in printed(["policy", "show", "--live", str(site.live)], capfd)


def test_two_persons_agree_and_the_ledger_knows(site: Site, ledger_here: Path) -> None:
    site.demand(2)
    approval = site.approve(DEFAULT, "bob", "carol")
    assert "approved: bob, carol" in site.apply(DEFAULT, approval)
    with open_log(ledger_here) as log:
        event = parse(log.view.entry(log.size - 1))
    assert (event["event"], event["details"]["approved_by"]) == ("policy changed", "bob,carol")
    assert "in force already" in site.apply(DEFAULT)


def test_persons_who_agreed_are_told_by_the_command_that_records_later(
    site: Site, ledger_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.demand(2)
    approval = site.approve(DEFAULT, "bob", "carol")
    with open_log(ledger_here) as log, monkeypatch.context() as patch:  # busy: it takes nothing
        patch.setattr(record, "ready", lambda: True)
        code, told = refused(site.words(DEFAULT, approval), site._capfd)
    assert (code, "done, but not recorded" in told) == (LedgerUnwritable.exit_code, True)
    assert "in force already" in site.apply(DEFAULT, approval)
    with open_log(ledger_here) as log:
        events = [parse(log.view.entry(number)) for number in range(1, log.size)]
    assert [(event["event"], event["details"]["approved_by"]) for event in events] == [("policy changed", "bob,carol")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("bob",), "found 1 (bob)"),
        (("bob", "bob-2"), "found 1 (bob)"),
        (("bob", "alice"), "found 1 (bob)"),
        (("bob", "mallory"), "found 1 (bob)"),
        (("mallory",), "found 0 (nobody)"),
    ],
)
def test_apply_refuses_too_few_persons(site: Site, names: tuple[str, ...], said: str) -> None:
    """Two keys of one person, a person of another role, somebody unknown."""
    site.demand(2)
    code, told = site.refused(DEFAULT, site.approve(DEFAULT, *names))
    assert (code, said in told) == (SignatureRejected.exit_code, True), told


def test_roles_that_may_approve_are_the_sites(site: Site) -> None:
    site.demand(2, "[approver, builder]")
    assert "approved: alice, bob" in site.apply(DEFAULT, site.approve(DEFAULT, "bob", "bob-2", "alice"))


def test_apply_refuses_without_an_approval(site: Site) -> None:
    site.demand(1)
    assert site.refused(DEFAULT)[0] == SignatureRejected.exit_code


def test_apply_refuses_an_approval_of_another_folder(site: Site) -> None:
    site.demand(1)
    code, told = site.refused(DEFAULT, site.approve(CLINICAL, "bob"))
    assert (code, "expected an approval of" in told) == (SignatureRejected.exit_code, True)


def test_apply_refuses_last_years_approval(site: Site) -> None:
    """The policies that bob once approved do not come back by that approval."""
    site.demand(1)
    old = site.approve(DEFAULT, "bob")
    site.apply(DEFAULT, old)
    site.apply(CLINICAL, site.approve(CLINICAL, "carol", replaces=VERSIONS[DEFAULT]))
    assert site.refused(DEFAULT, old)[0] == SignatureRejected.exit_code


def test_apply_refuses_a_revoked_key(site: Site) -> None:
    site.demand(1)
    approval = site.approve(DEFAULT, "bob")
    TrustFolder(site.trust).revoke({site.keys["bob"].public.keyid: "lost"}, {})
    for name in ("alice", "carol"):
        TrustFolder(site.trust).sign(site.keys[name])
    site.remember()
    assert site.refused(DEFAULT, approval)[0] == SignatureRejected.exit_code


def test_apply_refuses_a_false_signature(site: Site) -> None:
    site.demand(1)
    approval = site.approve(DEFAULT, "bob")
    envelope = Envelope.parse(approval.read_bytes(), "a")
    (keyid, signature), *_ = envelope.signatures.items()
    other = bytes([*signature[:-1], signature[-1] ^ 1])
    approval.write_bytes(Envelope(envelope.payload_type, envelope.payload, {keyid: other}).dump())
    assert site.refused(DEFAULT, approval)[0] == SignatureRejected.exit_code


@pytest.mark.parametrize(("old", "new"), [("why", "because"), (VERSIONS[DEFAULT], VERSIONS[CLINICAL])])
def test_apply_refuses_an_approval_whose_text_was_changed(site: Site, old: str, new: str) -> None:
    site.demand(1)
    approval = site.approve(DEFAULT, "bob")
    envelope = Envelope.parse(approval.read_bytes(), "a")
    payload = envelope.payload.replace(old.encode(), new.encode())
    approval.write_bytes(Envelope(envelope.payload_type, payload, envelope.signatures).dump())
    assert site.refused(DEFAULT if old == "why" else CLINICAL, approval)[0] == SignatureRejected.exit_code


def test_apply_refuses_other_signed_things(site: Site) -> None:
    """A root's envelope, an approval with a field too many, garbage."""
    site.demand(1)
    site_file = site.trust / "1.root.json"
    assert site.refused(DEFAULT, site_file)[0] == SignatureRejected.exit_code
    approval = site.approve(DEFAULT, "bob")
    envelope = Envelope.parse(approval.read_bytes(), "a")
    payload = envelope.payload[:-1] + b',"zzz":1}'
    more = Envelope(envelope.payload_type, payload, {}).signed_by(site.keys["bob"])
    approval.write_bytes(more.dump())
    assert site.refused(DEFAULT, approval)[0] == SignatureRejected.exit_code
    approval.write_bytes(base64.b64encode(b"garbage"))
    assert site.refused(DEFAULT, approval)[0] == 13


@pytest.mark.parametrize(
    "text", ["", "persons: 2\n", "schema_version: 1\npersons: 0\n", "schema_version: 1\npersons: 1\npersons: 2\n", "{"]
)
def test_a_demand_that_cannot_be_read_lets_nothing_through(site: Site, text: str) -> None:
    (site.live / "approval.yml").write_text(text)
    assert site.refused(DEFAULT)[0] == PolicyRefused.exit_code


@pytest.mark.parametrize("text", ["", "{}", '{"root_fingerprints": [], "root_fingerprint": null, "root": null}'])
def test_a_host_that_remembers_no_root_lets_nothing_through(site: Site, text: str) -> None:
    site.demand(1)
    approval = site.approve(DEFAULT, "bob")
    site.state.write_text(text)
    assert site.refused(DEFAULT, approval)[0] == EnvironmentProblem.exit_code


def test_approve_adds_to_the_same_approval_only(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    approval = site.approve(DEFAULT, "bob")
    words = ["policy", "approve", str(DEFAULT), "--out", str(approval), "--key", str(tmp_path / "carol.key")]
    words += ["--passphrase-file", str(tmp_path / "secret"), "--replaces", "none", "--reason"]
    assert refused([*words, "another"], capfd)[0] == TargetRefused.exit_code
    assert refused([*words, "two\nlines"], capfd)[0] == InputInvalid.exit_code
    assert "2 signature(s)" in printed([*words, "why"], capfd)


def test_without_cedarpy_policy_says_so(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cedarpy", None)
    code, told = refused(["policy", "check", str(DEFAULT)], capfd)
    assert (code, "cedarpy is not installed" in told) == (EnvironmentProblem.exit_code, True)
