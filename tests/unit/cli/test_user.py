"""`airgap user`: what it gives out, what it shows, and that a key is nowhere but where it was asked for."""

from __future__ import annotations

import datetime
import json
import os
import pty
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.gateway.directory import FILE, SECRET, Directory, read_secret
from appliance.gateway.identity import Identity, Limits
from bundler.cli import main
from custody.errors import EnvironmentProblem, InputInvalid, LedgerUnwritable, OperatorMistake, TargetRefused
from tests.attack.judges import state
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import printed


class Site:
    """A folder of people, and the command line over it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capfd = folder, capfd
        folder.mkdir()

    def run(self, *words: str) -> str:
        """Standard output of `airgap user`."""
        return printed(["user", *words, "--folder", str(self.folder)], self._capfd)

    def refused(self, *words: str) -> tuple[int, str]:
        """Exit code and standard error."""
        return refused(["user", *words, "--folder", str(self.folder)], self._capfd)

    def who(self, key: str) -> Identity | None:
        """As the gateway sees it, now."""
        return Directory(self.folder / FILE, read_secret(self.folder / SECRET)).by_key(key, time.time())


@pytest.fixture
def site(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path / "people", capfd)


def test_add_writes_the_key_to_a_private_file_alone(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "alice.key"
    told = site.run("add", "alice", "--group", "clinicians", "--concurrent", "2", "--key-out", str(out))
    assert told == ""
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    found = site.who(out.read_text().strip())
    assert found is not None
    assert (found.user_id, found.role, found.groups, found.expires_at) == ("alice", "user", {"clinicians"}, None)
    assert found.limits == Limits(concurrent=2)


def test_add_gives_the_key_to_a_pipe(site: Site) -> None:
    key = site.run("add", "bob", "--role", "auditor", "--expires-in", "8h").strip()
    found = site.who(key)
    assert found is not None
    assert found.role == "auditor"
    assert found.expires_at == pytest.approx(time.time() + 8 * 3600, abs=60)


def test_no_key_on_a_terminal(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        with pytest.raises(SystemExit) as stop:
            main(["user", "add", "alice", "--folder", str(site.folder)])
    os.close(ours)
    assert stop.value.code == OperatorMistake.exit_code
    assert list(site.folder.iterdir()) == []


def test_a_key_file_is_never_overwritten_and_never_a_leftover(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "alice.key"
    out.symlink_to("elsewhere")
    assert site.refused("add", "alice", "--key-out", str(out))[0] == TargetRefused.exit_code
    assert list(site.folder.iterdir()) == []
    assert not (tmp_path / "elsewhere").exists()
    other = tmp_path / "other.key"
    assert site.refused("add", "Not A Name", "--key-out", str(other))[0] == InputInvalid.exit_code
    assert not other.exists()


def test_a_key_stays_when_only_the_ledger_failed(
    site: Site, tmp_path: Path, ledger_here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from custody.ledger.log import Log

    append, failing = Log.append, [b'"added"', b'"rotated"']

    def full(log: Log, entries: Sequence[bytes]) -> range:
        if failing[0] in entries[-1]:
            raise LedgerUnwritable("no room", "df -h")
        return append(log, entries)

    monkeypatch.setattr(Log, "append", full)
    out = tmp_path / "alice.key"
    assert site.refused("add", "alice", "--key-out", str(out))[0] == LedgerUnwritable.exit_code
    assert site.who(out.read_text().strip()) is not None
    failing.pop(0)
    capfd.readouterr()
    with pytest.raises(SystemExit):
        main(["user", "rotate", "alice", "--folder", str(site.folder)])
    assert site.who(capfd.readouterr().out.strip()) is not None, "it is shown, since it is valid"


def test_no_key_stays_when_the_ledger_refuses_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from custody.ledger import record

    def broken() -> bool:
        raise LedgerUnwritable("no room", "df -h")

    out = tmp_path / "alice.key"
    with monkeypatch.context() as patch:
        patch.setattr(record, "ready", broken)
        assert site.refused("add", "alice", "--key-out", str(out))[0] == LedgerUnwritable.exit_code
        assert not out.exists()
        with pytest.raises(SystemExit):
            main(["user", "add", "alice", "--folder", str(site.folder)])
        assert capfd.readouterr().out == ""
    site.run("add", "alice", "--key-out", str(out))
    assert site.who(out.read_text().strip()) is not None


def test_list_and_show_tell_no_secret(site: Site) -> None:
    key = site.run("add", "alice", "--requests-per-minute", "30").strip()
    site.run("add", "bob", "--group", "night")
    site.run("revoke", "bob")
    listed = json.loads(site.run("list", "--json"))
    assert (listed["schema"], [user["user_id"] for user in listed["users"]]) == ("airgap.users/1", ["alice"])
    everybody = json.loads(site.run("list", "--all", "--json"))["users"]
    assert [(user["user_id"], user["state"]) for user in everybody] == [("alice", "active"), ("bob", "revoked")]
    shown = json.loads(site.run("show", "alice", "--json"))
    assert shown["schema"] == "airgap.user/1"
    assert shown["keys"][0]["key_id"] == key.split("-")[1]
    assert shown["limits"]["requests_per_minute"] == 30
    text = site.run("show", "alice") + site.run("list", "--all") + json.dumps([everybody, shown])
    assert "mac" not in shown["keys"][0]
    assert key.split("-")[2] not in text
    assert site.refused("show", "carol")[0] == InputInvalid.exit_code


def test_a_list_fits_80_columns_and_tells_nobody_from_no_database(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    code, told = site.refused("list")
    assert (code, "people.db: expected the people, found no file" in told) == (EnvironmentProblem.exit_code, True)
    site.run("init")
    capfd.readouterr()
    main(["user", "list", "--folder", str(site.folder)])
    assert capfd.readouterr() == ("", "nobody may use the service; next: airgap user add --help\n")
    site.run("add", "alice", *(word for number in range(9) for word in ("--group", f"night-shift-{number}")))
    site.run("add", "x" * 32, "--role", "y" * 32)
    lines = site.run("list").splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).count("night-shift-") == 9


def test_rotate_revoke_group_and_change(site: Site) -> None:
    first = site.run("add", "alice").strip()
    second = site.run("rotate", "alice", "--overlap", "2d", "--expires-in", "90d").strip()
    old, new = site.who(first), site.who(second)
    assert old and new and old.expires_at and new.expires_at
    assert round(new.expires_at - old.expires_at) == 88 * 86400
    third = site.run("rotate", "alice", "--overlap", "0").strip()
    assert site.who(first) is site.who(second) is None
    site.run("group", "alice", "--add", "a", "--add", "b")
    site.run("group", "alice", "--remove", "a")
    site.run("change", "alice", "--role", "admin", "--concurrent", "3")
    site.run("change", "alice", "--concurrent", "0", "--output-max-tokens", "9")
    found = site.who(third)
    assert found is not None
    assert (found.role, found.groups, found.limits) == ("admin", {"b"}, Limits(output_max_tokens=9))
    site.run("revoke", "alice", "--key-id", third.split("-")[1])
    assert site.who(third) is None


def certificate(file: Path) -> str:
    """A certificate; returns its fingerprint."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day.replace(year=2030)).sign(
        key, hashes.SHA256()
    )
    file.write_bytes(made.public_bytes(Encoding.PEM))
    return made.fingerprint(hashes.SHA256()).hex()


def test_a_user_with_a_certificate_alone(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "alice.pem"
    shown = certificate(file)
    assert site.run("add", "alice", "--no-key", "--certificate", str(file)) == ""
    here = Directory(site.folder / FILE, bytes(32))
    found = here.by_certificate(shown, time.time())
    assert found is not None
    assert found.user_id == "alice"
    site.run("revoke", "alice", "--certificate", shown.upper())
    here.refresh()
    assert here.by_certificate(shown, time.time()) is None
    assert site.refused("add", "bob", "--no-key")[0] == InputInvalid.exit_code
    file.write_text("no certificate")
    assert site.refused("add", "bob", "--certificate", str(file))[0] == InputInvalid.exit_code


@pytest.mark.parametrize(
    "words",
    [
        ("--expires", "yesterday"), ("--expires", "2020-01-01"), ("--expires", "2026-02-30"), ("--expires", "20991231"),
        ("--expires", "9999-12-31"), ("--expires-in", "0h"), ("--expires-in", "8"), ("--expires-in", "-8h"),
        ("--expires-in", "999999d"), ("--expires-in", "1h", "--expires", "2030-01-01"), ("--expires-in", "8 h"),
    ],
)  # fmt: skip
def test_ends_that_make_no_sense_are_refused(site: Site, words: tuple[str, ...]) -> None:
    assert site.refused("add", "alice", *words)[0] == InputInvalid.exit_code
    assert not (site.folder / FILE).exists()


def test_a_day_ends_when_it_is_over(site: Site) -> None:
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=3)
    site.run("add", "alice", "--expires", day.isoformat())
    end = json.loads(site.run("show", "alice", "--json"))["expires_at"]
    assert datetime.datetime.fromtimestamp(end, datetime.UTC).date() == day + datetime.timedelta(days=1)


def test_dry_runs_change_nothing(site: Site, tmp_path: Path) -> None:
    site.run("add", "alice", "--group", "a")
    before = state(tmp_path)
    for words in (
        ("add", "bob", "--key-out", str(tmp_path / "bob.key")),
        ("rotate", "alice"),
        ("change", "alice", "--role", "admin"),
        ("group", "alice", "--remove", "a"),
        ("revoke", "alice"),
    ):
        assert site.run(*words, "--dry-run") == ""
    assert site.refused("add", "alice", "--dry-run")[0] == InputInvalid.exit_code
    assert state(tmp_path) == before


def test_a_host_that_is_no_appliance_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, told = refused(["user", "add", "alice", "--folder", str(tmp_path / "none")], capfd)
    assert code == EnvironmentProblem.exit_code
    assert "airgap install" in told
