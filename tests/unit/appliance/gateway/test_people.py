"""Adding, changing and revoking people: what is kept, what is refused, and that the ledger knows."""

from __future__ import annotations

import os
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.gateway import people
from appliance.gateway.directory import FILE, KEY, SECRET, Directory, read_secret
from appliance.gateway.identity import NAME, Limits
from appliance.gateway.people import People, id_of, new_key
from custody.errors import AirgapError, EnvironmentProblem, InputInvalid, LedgerUnwritable, SecretRefused
from custody.ledger import record
from custody.ledger.event import parse
from custody.ledger.log import Log, open_log
from custody.ledger.view import View
from tests.attack.judges import state

NOW = 1_800_000_000


def add(folder: Path, name: str = "alice", **more: object) -> str:
    key = new_key()
    People(folder).add(name, "user", (), Limits(), None, NOW, key=key, **more)  # type: ignore[arg-type]
    return key


def opened(folder: Path) -> Directory:
    return Directory(folder / FILE, read_secret(folder / SECRET))


def events(ledger: Path) -> list[dict[str, object]]:
    with open_log(ledger) as log:
        size = log.size
    return [parse(entry) for _number, entry in View(ledger).entries(0, size)]


def changes(ledger: Path) -> list[tuple[object, object]]:
    """Of people: who, and what."""
    told = [event for event in events(ledger) if event["event"] == "people changed"]
    return [(event["subject"], event["details"]["change"]) for event in told]  # type: ignore[index]


def test_keys_have_their_form_and_never_repeat() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(KEY.fullmatch(key) for key in keys)
    assert len({id_of(key) for key in keys}) == 1000


def test_nothing_of_a_key_but_its_id_is_kept(tmp_path: Path) -> None:
    key = add(tmp_path)
    _, key_id, secret = key.split("-")
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key_id.encode() in kept
    assert secret.encode() not in kept
    assert secret.upper().encode() not in kept


def test_files_are_for_root_and_the_folders_group(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    if os.geteuid() == 0:
        os.chown(tmp_path, 0, 65534)
    add(tmp_path)
    for name in (FILE, SECRET):
        found = (tmp_path / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, tmp_path.stat().st_gid)
    assert stat.S_IMODE((tmp_path / "people.lock").stat().st_mode) == 0o600


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_names_are_strict(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    people = People(tmp_path_factory.getbasetemp(), dry_run=True)
    for user, role, group in ((name, "user", "g"), ("alice", name, "g"), ("alice", "user", name)):
        try:
            people.add(user, role, (group,), Limits(), None, NOW, key=new_key())
        except InputInvalid:
            assert not NAME.fullmatch(name)
        else:
            assert NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", "Alice", "../alice", "alice;--", "a" * 65, "-alice", ".a", "alice\n", "ällie", "a b", 'a"', "a'"]
)
def test_people_refuse_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputInvalid, match="expected 1 to 64"):
        add(tmp_path, name)
    assert not (tmp_path / FILE).exists()


def test_a_name_is_never_given_twice(tmp_path: Path) -> None:
    old = add(tmp_path)
    People(tmp_path).revoke("alice", NOW)
    with pytest.raises(InputInvalid, match="there is, or was"):
        add(tmp_path)
    with pytest.raises(InputInvalid, match="was revoked"):
        People(tmp_path).rotate("alice", new_key(), 0, None, NOW)
    assert opened(tmp_path).by_key(old, NOW) is None


def test_a_certificate_is_one_users(tmp_path: Path) -> None:
    add(tmp_path, certificate="ab" * 32)
    with pytest.raises(InputInvalid, match="somebody's"):
        add(tmp_path, "bob", certificate="ab" * 32)
    assert [user.user_id for user in People(tmp_path).users()] == ["alice"]


@settings(max_examples=30, deadline=None)
@given(overlap=st.integers(0, 1000), first=st.none() | st.integers(1, 1000), later=st.integers(0, 2000))
def test_rotation_overlaps_as_stated(
    tmp_path_factory: pytest.TempPathFactory, overlap: int, first: int | None, later: int
) -> None:
    folder = tmp_path_factory.mktemp("rotated")
    people, zero, one, two = People(folder), new_key(), new_key(), new_key()
    people.add("alice", "user", (), Limits(), None, NOW, key=zero)
    people.rotate("alice", one, 0, None if first is None else NOW + first, NOW)
    people.rotate("alice", two, overlap, None, NOW)
    here = opened(folder)
    assert here.by_key(zero, NOW + later) is None
    assert (here.by_key(one, NOW + later) is not None) == (later < min(overlap, first or overlap))
    assert here.by_key(two, NOW + later) is not None


def test_revoking_twice_or_what_is_anothers_is_refused(tmp_path: Path) -> None:
    key = add(tmp_path)
    add(tmp_path, "bob")
    people = People(tmp_path)
    with pytest.raises(InputInvalid, match="has no key"):
        people.revoke("bob", NOW, key_id=id_of(key))
    with pytest.raises(InputInvalid, match="has no certificate"):
        people.revoke("bob", NOW, certificate="ab" * 32)
    with pytest.raises(InputInvalid, match="no such user"):
        people.revoke("carol", NOW)
    people.revoke("alice", NOW, key_id=id_of(key))
    with pytest.raises(InputInvalid, match="has no key"):
        people.revoke("alice", NOW, key_id=id_of(key))


def test_change_and_groups(tmp_path: Path) -> None:
    key, people = add(tmp_path), People(tmp_path)
    people.change("alice", NOW, role="admin", limits={"concurrent": 4}, expires_at=NOW + 9, certificate="ab" * 32)
    people.change("alice", NOW, limits={"requests_per_minute": 7, "concurrent": None})
    people.group("alice", ("b", "a", "a"), ())
    people.group("alice", ("c",), ("b",))
    with pytest.raises(InputInvalid, match="is not in the group b"):
        people.group("alice", ("d",), ("b",))
    with pytest.raises(InputInvalid, match="nothing to change"):
        people.change("alice", NOW)
    with pytest.raises(InputInvalid, match="nothing to change"):
        people.group("alice", (), ())
    found = opened(tmp_path).by_key(key, NOW)
    assert found is not None
    assert (found.role, found.groups, found.expires_at) == ("admin", {"a", "c"}, NOW + 9)
    assert found.limits == Limits(requests_per_minute=7)
    assert [shown.sha256 for shown in people.user("alice").certificates] == ["ab" * 32]


def test_the_ledger_knows_who_changed_whom(tmp_path: Path, ledger_here: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    key, people, other = add(folder), People(folder), new_key()
    people.rotate("alice", other, 60, NOW + 5, NOW)
    people.group("alice", ("night",), ())
    people.change("alice", NOW, limits={"concurrent": None})
    people.revoke("alice", NOW)
    told = [event for event in events(ledger_here) if event["event"] == "people changed"]
    assert [event["subject"] for event in told] == ["alice"] * 5
    details = [event["details"] for event in told]
    assert [each["change"] for each in details] == ["added", "rotated", "groups", "changed", "revoked"]  # type: ignore[index]
    assert details[0]["key_id"] == id_of(key)  # type: ignore[index]
    assert {"key_id": id_of(other), "overlap_s": 60}.items() <= details[1].items()  # type: ignore[attr-defined]
    assert details[1]["expires_at"] == "2027-01-15T08:00:05Z"  # type: ignore[index]
    assert all(event["who"] for event in told)
    whole = str(told)
    assert key.split("-")[2] not in whole
    assert other.split("-")[2] not in whole


def test_a_ledger_that_takes_nothing_stops_the_change(tmp_path: Path, ledger_here: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    add(folder)
    before = (folder / FILE).read_bytes()
    segments = [file for file in ledger_here.rglob("*") if file.is_file() and "checkpoint" in file.name]
    assert segments
    for file in segments:
        file.write_bytes(b"broken")
    with pytest.raises(AirgapError):
        People(folder).revoke("alice", NOW)
    assert (folder / FILE).read_bytes() == before


def test_what_was_done_and_not_recorded_says_so(
    tmp_path: Path, ledger_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    add(folder)

    def full(*_: object) -> list[int]:
        raise LedgerUnwritable("no room", "df -h")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "append", full)
        with pytest.raises(LedgerUnwritable, match="done, but not recorded"):
            People(folder).revoke("alice", NOW)
        assert People(folder).user("alice").revoked_at == NOW
    assert changes(ledger_here) == [("alice", "added")]
    with pytest.raises(InputInvalid):
        People(folder).revoke("alice", NOW)  # the next command records it, whatever it does itself
    add(folder, "bob")
    assert changes(ledger_here) == [("alice", "added"), ("alice", "revoked"), ("bob", "added")]


def test_a_command_that_was_killed_is_recorded_by_the_next_if_it_changed_anything(
    tmp_path: Path, ledger_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "people"
    folder.mkdir()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    People(folder).begin()
    for place, name, user in ((people, "write_whole", "alice"), (record, "record", "bob")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, killed)
            with pytest.raises(KeyboardInterrupt):
                add(folder, user)
    add(folder, "carol")
    assert changes(ledger_here) == [("bob", "added"), ("carol", "added")]
    assert not list((ledger_here / "promised").iterdir())


def test_a_dry_run_checks_all_and_changes_nothing(tmp_path: Path) -> None:
    dry = People(tmp_path, dry_run=True)
    dry.add("alice", "user", ("a",), Limits(), None, NOW, key=new_key(), certificate="ab" * 32)
    assert list(tmp_path.iterdir()) == []
    add(tmp_path)
    before = state(tmp_path)
    dry.rotate("alice", new_key(), 5, None, NOW)
    dry.group("alice", ("b",), ())
    dry.change("alice", NOW, role="admin")
    dry.revoke("alice", NOW)
    with pytest.raises(InputInvalid):
        dry.add("alice", "user", (), Limits(), None, NOW)
    assert state(tmp_path) == before


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    names = [f"user-{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        keys = dict(zip(names, pool.map(lambda name: add(tmp_path, name), names), strict=True))
    here = opened(tmp_path)
    assert {name: here.by_key(key, NOW).user_id for name, key in keys.items()} == {name: name for name in names}  # type: ignore[union-attr]


def test_a_writer_that_was_killed_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            add(tmp_path, "bob")
    assert (tmp_path / FILE).read_bytes() == before
    (tmp_path / f".{FILE}.part").write_bytes(b"half")  # what SIGKILL would leave
    add(tmp_path, "bob")
    assert [user.user_id for user in People(tmp_path).users()] == ["alice", "bob"]


def test_a_torn_database_is_refused_and_stays(tmp_path: Path) -> None:
    add(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:5000])
    with pytest.raises(EnvironmentProblem, match="broken"):
        add(tmp_path, "bob")
    assert (tmp_path / FILE).stat().st_size == 5000


def test_a_lost_secret_is_not_made_anew(tmp_path: Path) -> None:
    add(tmp_path)
    (tmp_path / SECRET).unlink()
    with pytest.raises(SecretRefused, match="gone"):
        add(tmp_path, "bob")
    assert not (tmp_path / SECRET).exists()


def test_no_folder_means_no_appliance(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="expected the people"):
        People(tmp_path / "none").users()
    with pytest.raises(EnvironmentProblem, match="expected a folder"):
        add(tmp_path / "none")


def test_any_sqlite_reads_it(tmp_path: Path) -> None:
    add(tmp_path)
    with closing(sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("SELECT schema_version FROM about").fetchone() == (1,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert database.execute("SELECT user_id, role FROM user").fetchall() == [("alice", "user")]
