"""Search, the two verdicts, and what somebody does to the index."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from appliance.audit.complete import judge
from appliance.audit.fields import entry
from appliance.audit.index import Index
from custody import errors
from custody.errors import LedgerBroken
from custody.ledger import origin
from custody.ledger.log import open_log
from custody.ledger.moment import Moment
from custody.ledger.view import View
from tests.unit.appliance.audit.conftest import ADMITTED, ORIGIN, Process, completed
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import printed


@pytest.fixture
def log(process: Process) -> Path:
    """Three allowed requests and a denied one; the process has stopped."""
    gateway = process.start().gateway()
    for number, user in enumerate(("alice", "bob", "alice")):
        seq = gateway.ask(admitted={**ADMITTED, "user_id": user, "request_id": f"r{number}"})["seq"]
        gateway.ask(completed=completed(seq))
    gateway.ask(
        admitted={**ADMITTED, "user_id": "mallory", "request_id": "r9", "decision": "deny", "reason": "no such model"}
    )
    process.end()
    return process.folder


def test_search_by_user_decision_request_and_time(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def search(*options: str) -> list[int]:
        found = json.loads(printed(["audit", "search", "--log", str(log), "--json", *options], capfd))
        assert found["schema"] == "airgap.audit-search/1"
        return [each["seq"] for each in found["entries"]]

    assert search("--user", "alice") == [1, 5]
    assert search("--decision", "deny") == [7]
    assert search("--request-id", "r1") == [3]
    assert search("--of", "3") == [4]
    assert search("--since", "2020-01-01", "--until", "2020-01-02") == []
    assert search() == list(range(9))
    assert search("--user", "' OR 1=1 --") == []
    text = printed(["audit", "search", "--log", str(log), "--user", "mallory"], capfd)
    assert 'reason="no such model"' in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_that_a_client_chose_looks_like_a_row(process: Process, capfd: pytest.CaptureFixture[str]) -> None:
    gateway = process.start().gateway()
    row = "9        2026-11-21T10:00:00.000Z admitted   user_id=eve"
    digest = f"sha256:{'c' * 64}"
    names = (row.rjust(200), row.replace(" ", "\u3000"), "9" * 256, "x=" + "9" * 254, "\u4e00" * 256, "a\x1b[2K\nb")
    for model in names:
        gateway.ask(admitted={**ADMITTED, "model": model, "model_digest": digest, "policy_sha256": "d" * 64})
    process.end()
    lines = printed(["audit", "search", "--log", str(process.folder)], capfd).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.isascii() for line in lines)
    rows = [line.split()[:3:2] for line in lines if not line.startswith("   ")]
    assert rows == [["0", "started"], *([str(n), "admitted"] for n in range(1, 7)), ["7", "stopped"]]
    words = [word for line in lines for word in line.split()]
    hmacs = [word for word in words if word.startswith("prompt_hmac=")]
    assert {len(word) for word in hmacs} == {len("prompt_hmac=") + 64}, "digests are whole, to copy"
    assert len(hmacs) == words.count(digest) == words.count("d" * 64) == len(names)


def test_search_takes_times_as_its_help_has_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    times = ("07:59:30", "08:00:00", "08:00:05", "08:01:30")
    origin.make(tmp_path, ORIGIN)
    with open_log(tmp_path) as log:
        moments = [Moment(f"2026-11-21T{time}.000Z", "b", 0) for time in times]
        log.append([entry("started", seq, moment, {}) for seq, moment in enumerate(moments)])
        log.checkpoint()

    def search(*options: str) -> list[int]:
        found = json.loads(printed(["audit", "search", "--log", str(tmp_path), "--json", *options], capfd))
        return [each["seq"] for each in found["entries"]]

    for instant in ("2026-11-21T08:00Z", "2026-11-21T08:00:00Z", "2026-11-21T09:00+01:00"):
        assert (search("--since", instant), search("--until", instant)) == ([1, 2, 3], [0])
    assert search("--since", "2026-11-21", "--until", "2026-11-22") == [0, 1, 2, 3]
    assert search("--until", "2026-11-21") == []
    for bad in (["--since", "yesterday"], ["--until", "20261121"], ["--since", "2026-11-21T08"]):
        code, said = refused(["audit", "search", "--log", str(tmp_path), *bad], capfd)
        assert (code, "2026-11-21T08:00Z" in said) == (errors.InputInvalid.exit_code, True)
    for bad_day in ("2026", "2026-11-2", "20261121", "2026-11-31", ""):
        code, said = refused(["audit", "page", str(tmp_path / "p"), "--log", str(tmp_path), "--day", bad_day], capfd)
        assert (code, "expected a day" in said) == (errors.InputInvalid.exit_code, True)


def test_two_verdicts(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "verdict:   intact, complete" in printed(["audit", "verify", "--log", str(log)], capfd)
    found = json.loads(printed(["audit", "verify", "--log", str(log), "--json"], capfd))
    counts = {name: found[name] for name in ("entries", "admitted", "denied", "completed", "gaps")}
    assert counts == {"entries": 9, "admitted": 3, "denied": 1, "completed": 3, "gaps": []}


def test_bytes_behind_the_last_group_are_told(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    segment = next((log / "segments").iterdir())
    segment.write_bytes(segment.read_bytes() + b'{"kind":"admitted","user_id":"mallory"}\n')
    said = printed(["audit", "verify", "--log", str(log)], capfd)
    assert "torn:      40 bytes that were never acknowledged" in said
    assert json.loads(printed(["audit", "verify", "--log", str(log), "--json"], capfd))["torn_bytes"] == 40


def test_a_request_without_an_end_and_a_kill_are_gaps(
    log: Path, process: Process, capfd: pytest.CaptureFixture[str]
) -> None:
    process.start().gateway().ask(admitted=ADMITTED)
    live = json.loads(printed(["audit", "verify", "--log", str(log), "--json"], capfd))
    assert live["complete"] is True, "it runs, and the request may still end"
    process.kill()
    found = json.loads(printed(["audit", "verify", "--log", str(log), "--json"], capfd))
    assert (found["intact"], found["complete"]) == (True, False)
    assert {gap["seq"] for gap in found["gaps"]} == {10}


def test_a_changed_log_is_not_intact_and_not_exported(
    log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    segment = next((log / "segments").iterdir())
    segment.write_text(segment.read_text().replace('"user_id":"bob"', '"user_id":"eve"'))
    code, said = refused(["audit", "verify", "--log", str(log)], capfd)
    assert (code, "entry 3 was changed" in said) == (errors.LedgerBroken.exit_code, True)
    assert refused(["audit", "export", str(tmp_path / "out"), "--log", str(log)], capfd)[0] == code
    assert not (tmp_path / "out").exists()


def test_proof_and_export(log: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed(["audit", "prove", "3", str(tmp_path / "kit"), "--log", str(log)], capfd)
    subprocess.run(["sh", tmp_path / "kit/check", tmp_path / "kit", log / "log.pem"], check=True, capture_output=True)
    printed(["audit", "export", str(tmp_path / "out"), "--log", str(log)], capfd)
    assert (tmp_path / "out/epochs/000001.cms").exists()
    assert not list((tmp_path / "out").rglob("*.key"))
    code, _said = refused(["audit", "verify", "--log", str(tmp_path / "none")], capfd)
    assert code == errors.InputInvalid.exit_code


@pytest.mark.parametrize("statement", [
    "UPDATE entries SET user_id = 'eve' WHERE seq = 3",
    "DELETE FROM entries WHERE seq = 3",
    "INSERT OR REPLACE INTO entries SELECT seq, sha256, kind, time, 'eve', key_id, client_ip, role, model, policy_id, "
    "decision, request_id, \"of\" FROM entries WHERE seq = 3",
    "REPLACE INTO entries (seq, sha256) VALUES (3, x'00')",
])  # fmt: skip
def test_the_index_takes_inserts_alone(log: Path, statement: str) -> None:
    Index(View(log)).close()
    db = sqlite3.connect(log / "index.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="insert only"):
        db.execute(statement)
    db.rollback()
    opened = Index(View(log))
    assert opened.verify() == 9


@pytest.mark.parametrize("statement", [
    "DROP TRIGGER no_update",
    "DROP TRIGGER no_update; UPDATE entries SET user_id = 'eve' WHERE seq = 3;"
    " CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'insert only'); END",
    "DROP TRIGGER no_delete; DELETE FROM entries WHERE seq = 3; CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN"
    " SELECT RAISE(ABORT, 'insert only'); END",
    "INSERT INTO entries (seq, sha256, user_id) VALUES (99, x'00', 'eve')",
    "DROP TABLE entries",
    "DROP TABLE entries; CREATE TABLE entries (seq)",
])  # fmt: skip
def test_what_is_done_to_the_index_is_found(log: Path, statement: str, capfd: pytest.CaptureFixture[str]) -> None:
    Index(View(log)).close()
    db = sqlite3.connect(log / "index.sqlite")
    db.executescript(statement)
    db.close()
    code, said = refused(["audit", "verify", "--log", str(log)], capfd)
    assert (code, "index.sqlite" in said) == (errors.LedgerBroken.exit_code, True)
    (log / "index.sqlite").unlink()
    assert "intact, complete" in printed(["audit", "verify", "--log", str(log)], capfd)


@pytest.mark.parametrize("name", [b"REATE TABLE entries", b"no_update", b"entries"])
def test_a_damaged_index_is_found(log: Path, name: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    Index(View(log)).close()
    file = log / "index.sqlite"
    data = file.read_bytes()
    assert name in data
    file.write_bytes(data.replace(name, bytes([name[0] ^ 0x80]) + name[1:], 1))
    code, said = refused(["audit", "verify", "--log", str(log)], capfd)
    assert (code, "index.sqlite" in said) == (errors.LedgerBroken.exit_code, True)


def test_an_index_of_another_log_is_found(log: Path, tmp_path: Path) -> None:
    second = Process(tmp_path / "second" if (tmp_path / "second").mkdir() is None else tmp_path)
    gateway = second.start().gateway()
    gateway.ask(admitted={**ADMITTED, "user_id": "eve"})
    second.end()
    Index(View(second.folder), log / "index.sqlite").close()
    opened = Index(View(log))
    with pytest.raises(LedgerBroken, match="row 0 is not of entry 0"):
        opened.verify()
    with pytest.raises(LedgerBroken, match="is not of the entry"):
        list(opened.search({"user_id": "eve"}))


def test_a_page_holds_what_was_asked_and_no_markup_of_others(
    log: Path, tmp_path: Path, process: Process, capfd: pytest.CaptureFixture[str]
) -> None:
    process.start().gateway().ask(admitted={**ADMITTED, "user_id": "<script>alert(1)</script>"})
    process.kill()
    out = tmp_path / "page.html"
    assert "5 requests" in printed(["audit", "page", str(out), "--log", str(log)], capfd)
    text = out.read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "no such model" in text
    assert "intact, with" in text
    for option, value, count in (("--user", "alice", 2), ("--decision", "deny", 1), ("--day", "2020-01-01", 0)):
        name = str(tmp_path / f"{value}.html")
        assert f"{count} requests" in printed(["audit", "page", name, "--log", str(log), option, value], capfd)
    assert refused(["audit", "page", str(out), "--log", str(log)], capfd)[0] == errors.TargetRefused.exit_code


_NOON = "2026-11-21T12:00:00.000Z"


def _made(*kinds: tuple[str, dict[str, object]], boot: str = "b") -> list[tuple[int, bytes]]:
    return [
        (seq, entry(kind, seq, Moment(f"2026-11-21T10:00:{seq:02}.000Z", boot, 1000 * seq), content))
        for seq, (kind, content) in enumerate(kinds)
    ]


@pytest.mark.parametrize(("entries", "said"), [
    (_made(("admitted", {"decision": "allow"})), "had not started"),
    (_made(("started", {}), ("completed", {"of": 7}), ("stopped", {})), "was not open"),
    (_made(("started", {}), ("started", {}), ("stopped", {})), "had not stopped"),
    (_made(("started", {}), ("recovered", {"size_bytes": 5}), ("stopped", {})), "5 bytes"),
    (_made(("started", {})), "without the process having stopped"),
    (_made(("started", {}), ("admitted", {"decision": "allow"}), ("stopped", {})), "without an end"),
    ([*_made(("started", {})), (1, entry("stopped", 1, Moment("2026-11-21T09:00:00.000Z", "b", 9), {}))], "-3600.0 s"),
    ([*_made(("started", {})), (1, entry("stopped", 1, Moment("2026-11-21T10:00:09.000Z", "b", 9), {}))], "by 9.0 s"),
    ([*_made(("started", {})), (1, entry("stopped", 1, Moment("2026-11-21T09:59:00.000Z", "c", 9), {}))], "by -60.0 s"),
    ([*_made(("started", {})), (1, entry("stopped", 1, Moment(_NOON, "b", -1), {}))], "another host"),
    ([(0, b'{"kind":"started"}')], "not an audit entry"),
    ([(0, entry("started", 4, Moment(_NOON, "b", 9), {}))], "not an audit entry"),
])  # fmt: skip
def test_every_kind_of_gap_is_named(entries: list[tuple[int, bytes]], said: str) -> None:
    assert any(said in gap.what for gap in judge(entries, is_live=False).gaps)


def test_a_request_that_can_no_longer_be_under_way_is_a_gap_of_a_live_log_too() -> None:
    entries = _made(
        ("started", {}),
        ("admitted", {"decision": "allow"}),
        ("admitted", {"decision": "allow"}),
        ("completed", {"of": 1}),
    )
    for now, gaps in (("2026-11-22T10:00:01.500Z", []), ("2026-11-22T10:00:02.500Z", [2])):
        found = judge(entries, is_live=True, now=now)
        assert ([gap.seq for gap in found.gaps], found.completed) == (gaps, 1)
