"""Who a key or certificate stands for: what the gateway believes, and when it believes nothing."""

from __future__ import annotations

import hmac
import os
import statistics
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.gateway import directory as module
from appliance.gateway.directory import FILE, SECRET, Directory, read_secret
from appliance.gateway.identity import Limits
from appliance.gateway.people import People, id_of, new_key
from custody.errors import SecretRefused

NOW = 1_800_000_000
CERTIFICATE = "ab" * 32


def opened(folder: Path) -> Directory:
    return Directory(folder / FILE, read_secret(folder / SECRET))


@pytest.fixture
def alice(tmp_path: Path) -> str:
    """A user with a key and a certificate; returns the key."""
    key = new_key()
    limits = Limits(requests_per_minute=30, concurrent=2)
    people = People(tmp_path)
    people.add("alice", "user", ("clinicians", "night"), limits, NOW + 100, NOW, key=key, certificate=CERTIFICATE)
    return key


def test_a_key_stands_for_its_user(tmp_path: Path, alice: str) -> None:
    found = opened(tmp_path).by_key(alice, NOW)
    assert found is not None
    assert (found.user_id, found.role, found.groups) == ("alice", "user", {"clinicians", "night"})
    assert (found.key_id, found.expires_at) == (id_of(alice), NOW + 100)
    assert found.limits == Limits(requests_per_minute=30, concurrent=2)


def test_a_certificate_stands_for_its_user(tmp_path: Path, alice: str) -> None:
    here = opened(tmp_path)
    found = here.by_certificate(CERTIFICATE.upper(), NOW)
    assert found is not None
    assert (found.user_id, found.key_id) == ("alice", f"cert-{CERTIFICATE[:16]}")
    assert here.by_certificate("cd" * 32, NOW) is None
    assert here.by_certificate("", NOW) is None
    assert here.by_certificate(CERTIFICATE, NOW + 100) is None


def test_directory_refuses_forged_keys(tmp_path: Path, alice: str) -> None:
    here = opened(tmp_path)
    own = new_key()
    forged = [
        own,
        f"ag-{id_of(alice)}-{own.split('-')[2]}",
        f"ag-{id_of(own)}-{alice.split('-')[2]}",
        alice[:-1],
        alice + "a",
        alice.upper(),
        alice + "\n",
        f" {alice}",
        "",
        "ag--",
        "ag-" + "\x00" * 65,
        alice.replace("a", "а"),  # noqa: RUF001 - a Cyrillic letter
        "x" * 1_000_000,
    ]
    assert [key for key in forged if key != alice and here.by_key(key, NOW)] == []


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text("ag-z27", min_size=68, max_size=68))
def test_no_text_is_a_key_by_chance(text: str) -> None:
    here = Directory(Path("/nonexistent/people.db"), bytes(32))
    assert here.by_key(text, NOW) is None
    assert here.by_key(f"ag-{text[:12]}-{text[12:64]}", NOW) is None
    assert here.by_certificate(text, NOW) is None


def test_another_hosts_secret_opens_nothing(tmp_path: Path, alice: str) -> None:
    assert Directory(tmp_path / FILE, os.urandom(32)).by_key(alice, NOW) is None


def test_known_unknown_and_malformed_keys_take_one_path(
    tmp_path: Path, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, calls = opened(tmp_path), []
    digest, compare = hmac.digest, hmac.compare_digest
    monkeypatch.setattr(hmac, "digest", lambda *a: calls.append(("digest", len(a[1]))) or digest(*a))
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: calls.append(("same", len(a), len(b))) or compare(a, b))
    seen = []
    for key in (alice, new_key(), f"ag-{id_of(alice)}-{'a' * 52}", "", "x" * 10_000):
        calls.clear()
        here.by_key(key, NOW)
        seen.append(list(calls))
    assert seen == [[("digest", 68), ("same", 32, 32)]] * 5


def test_timing_tells_no_known_id_from_an_unknown_one(tmp_path: Path, alice: str) -> None:
    here = opened(tmp_path)
    known, unknown = f"ag-{id_of(alice)}-{'a' * 52}", new_key()
    times: dict[str, list[int]] = {known: [], unknown: []}
    for _ in range(3000):
        for key, taken in times.items():
            begun = time.perf_counter_ns()
            here.by_key(key, NOW)
            taken.append(time.perf_counter_ns() - begun)
    one, other = (statistics.median(taken) for taken in times.values())
    assert abs(one - other) < 0.25 * max(one, other)  # the regular expression and HMAC are all there is


def test_expiry_counts_to_the_second(tmp_path: Path, alice: str) -> None:
    here = opened(tmp_path)
    found = here.by_key(alice, NOW + 99.9)
    assert found is not None
    assert here.by_key(alice, NOW + 100) is None
    assert here.is_current(found, NOW + 99.9)
    assert not here.is_current(found, NOW + 100)


def test_a_revoked_key_ends_what_is_under_way(tmp_path: Path, alice: str) -> None:
    here = opened(tmp_path)
    by_key, by_certificate = here.by_key(alice, NOW), here.by_certificate(CERTIFICATE, NOW)
    assert by_key and by_certificate
    People(tmp_path).revoke("alice", NOW, key_id=id_of(alice))
    assert here.is_current(by_key, NOW)  # not read again yet
    here.refresh()
    assert not here.is_current(by_key, NOW)
    assert here.by_key(alice, NOW) is None
    assert here.is_current(by_certificate, NOW)
    People(tmp_path).revoke("alice", NOW)
    here.refresh()
    assert not here.is_current(by_certificate, NOW)
    assert here.by_certificate(CERTIFICATE, NOW) is None


def test_refresh_reads_only_what_changed(tmp_path: Path, alice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, reads = opened(tmp_path), []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda data, name: reads.append(name) or real(data, name))
    for _ in range(100):
        here.refresh()
    assert reads == []
    People(tmp_path).group("alice", ("day",), ())
    here.refresh()
    here.refresh()
    assert len(reads) == 1
    found = here.by_key(alice, NOW)
    assert found is not None
    assert "day" in found.groups


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 10_000])
def test_a_torn_database_lets_nobody_in(tmp_path: Path, alice: str, size: int) -> None:
    here = opened(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:size])
    here.refresh()
    assert here.by_key(alice, NOW) is None
    assert str(tmp_path / FILE) in here.problem
    (tmp_path / FILE).write_bytes(whole)
    here.refresh()
    assert here.by_key(alice, NOW) is not None
    assert here.problem == ""


def test_a_database_that_is_gone_lets_nobody_in(tmp_path: Path, alice: str) -> None:
    here = opened(tmp_path)
    (tmp_path / FILE).rename(tmp_path / "elsewhere")
    here.refresh()
    assert here.by_key(alice, NOW) is None
    assert here.problem


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_database_never_makes_another_user(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    key = new_key()
    People(folder).add("alice", "user", (), Limits(), None, NOW, key=key)
    whole = bytearray((folder / FILE).read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / FILE).write_bytes(whole)
    opened(folder).by_key(key, NOW)  # whatever was read: no exception, and ...
    assert opened(folder).by_key(new_key(), NOW) is None


@pytest.mark.parametrize("name", [b"sqlite_autoindex_key_1", b"REATE TABLE membership", b"STRICT"])
def test_a_name_that_is_no_text_lets_nobody_in(tmp_path: Path, alice: str, name: bytes) -> None:
    file = tmp_path / FILE
    data = file.read_bytes()
    assert name in data
    file.write_bytes(data.replace(name, bytes([name[0] ^ 0x80]) + name[1:], 1))
    here = opened(tmp_path)
    assert here.by_key(alice, NOW) is None
    assert "broken" in here.problem


def test_a_column_of_another_name_lets_nobody_in(tmp_path: Path, alice: str) -> None:
    file = tmp_path / FILE
    data = file.read_bytes()
    file.write_bytes(data.replace(b"expires_at INTEGER, revoked_at", b"expires_au INTEGER, revoked_at", 1))
    here = opened(tmp_path)
    assert here.by_key(alice, NOW) is None
    assert "broken" in here.problem


def test_another_schema_lets_nobody_in(tmp_path: Path, alice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEMA_VERSION", 2)
    here = opened(tmp_path)
    assert here.by_key(alice, NOW) is None
    assert "expected schema 2, found 1" in here.problem


def test_readers_see_whole_states_beside_a_writer(tmp_path: Path, alice: str) -> None:
    here, people, stop, odd = opened(tmp_path), People(tmp_path), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            here.refresh()
            found = here.by_key(alice, NOW)
            if found is None or ("x" in found.groups) != ("y" in found.groups):
                odd.append((found, here.problem))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        people.group("alice", ("x", "y"), ())
        people.group("alice", (), ("x", "y"))
    stop.set()
    reader.join()
    assert odd == []


@pytest.mark.parametrize("spoil", [lambda f: f.chmod(0o644), lambda f: f.write_bytes(b"short"), lambda f: f.unlink()])
def test_a_secret_that_others_could_know_is_refused(tmp_path: Path, alice: str, spoil: object) -> None:
    spoil(tmp_path / SECRET)  # type: ignore[operator]
    with pytest.raises(SecretRefused):
        read_secret(tmp_path / SECRET)
