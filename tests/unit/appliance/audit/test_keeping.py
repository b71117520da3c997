"""What is compressed, held and taken away: by the audit process alone, after its time, and never unseen."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.audit import fields, keeping
from appliance.audit.complete import judge
from appliance.audit.index import Index
from appliance.audit.keeper import ExpireOrder, HoldOrder, Order, instant, send
from custody import errors
from custody.errors import InputInvalid, LedgerBroken, OperatorMistake
from custody.ledger import gone, segment
from custody.ledger.log import open_log
from custody.ledger.moment import Moment, now
from custody.ledger.residue import line_of
from custody.ledger.tree import leaf_hash
from custody.ledger.verify import verify
from custody.ledger.view import View
from tests.killing import SEED
from tests.unit.appliance.audit.conftest import ADMITTED, Process
from tests.unit.appliance.audit.old import RULES, SIZE, make_old, moment
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import printed

FIRST, SECOND = segment.name_of(0), segment.name_of(SIZE)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 2018, its export, and the collector's word on that; to be copied."""
    base = tmp_path_factory.mktemp("keeping")
    make_old(base)
    return base


@pytest.fixture
def kept(made: Path, tmp_path: Path) -> Iterator[Process]:
    shutil.copytree(made / "log", tmp_path / "log")
    process = Process(tmp_path, warm_days=36525, **RULES)
    yield process
    process.kill()


def run(process: Process) -> Path:
    """Start it; returns where it takes orders."""
    process.start().gateway().close()
    return process.folder.parent / "keep.sock"


def airgap(process: Process, *words: str) -> list[str]:
    return ["audit", *words, "--config", str(process.folder.parent / "audit.json")]


def test_text_goes_by_a_tombstone_and_everything_else_stays(
    kept: Process, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(kept)
    Index(View(kept.folder)).close()
    (kept.folder / "torn").mkdir()
    for number in (7, SIZE + 5):
        (kept.folder / "torn" / f"{number:020}").write_bytes(b'{"half')
    receipt = ["--receipt", str(made / "receipt")]
    said = printed(airgap(kept, "expire", *receipt, "--dry-run"), capfd)
    assert said == "entries 0 to 65535, until 2018-08-16: expires\n"
    assert (kept.folder / "segments" / FIRST).exists()
    printed(airgap(kept, "hold", "add", "case-17", "--from", "2018-08-01", "--reason", "subpoena 4711"), capfd)
    assert "case-17" in printed(["audit", "hold", "list", "--log", str(kept.folder)], capfd)
    for dry in (["--dry-run"], []):
        said = printed(airgap(kept, "expire", *receipt, *dry), capfd)
        assert "is held by case-17 (entry 65603): subpoena 4711" in said
    printed(airgap(kept, "hold", "lift", "case-17", "--reason", "closed"), capfd)
    held = json.loads(printed(["audit", "hold", "list", "--json", "--log", str(kept.folder)], capfd))
    assert held == {"schema": "airgap.audit-holds/1", "holds": []}

    assert "expired: tombstone at entry 65605" in printed(airgap(kept, "expire", *receipt), capfd)
    assert sorted(path.name for path in (kept.folder / "segments").iterdir()) == [FIRST.replace("log", "gone"), SECOND]
    assert not (kept.folder / "index.sqlite").exists(), "it had what the text had"
    assert [int(file.name) for file in (kept.folder / "torn").iterdir()] == [SIZE + 5]
    assert b"alice" not in (kept.folder / "segments" / FIRST.replace("log", "gone")).read_bytes()
    kept.end()
    day = now().time[:10]
    said = printed(["audit", "verify", "--log", str(kept.folder)], capfd)
    assert f"expired:   entries 0 to 65535 on {day}, by the tombstone at entry 65605" in said
    assert "verdict:   intact, complete" in said
    found = json.loads(printed(["audit", "verify", "--json", "--log", str(kept.folder)], capfd))
    assert (found["intact"], found["complete"], found["expired"][0]["last"]) == (True, True, 65535)
    code, said = refused(["audit", "prove", "7", str(kept.folder / "kit"), "--log", str(kept.folder)], capfd)
    assert (code, "entry 7 has expired" in said) == (errors.InputInvalid.exit_code, True)
    printed(["audit", "prove", "65540", str(kept.folder / "kit"), "--log", str(kept.folder)], capfd)
    assert len(json.loads(printed(["audit", "search", "--json", "--log", str(kept.folder)], capfd))["entries"]) < 100
    assert printed(airgap(kept, "expire", *receipt, "--dry-run"), capfd) == "no complete segment has its text\n"


def order(first: int = 0, receipt: bytes = b"") -> Order:
    return Order(expire=ExpireOrder(first=first, receipt=receipt.decode(), who="root"))


def hold(action: Any, name: str, since: str = "", until: str = "") -> Order:
    made = HoldOrder(action=action, name=name, since=instant(since), until=instant(until), reason="r", who="root")
    return Order(hold=made)


def test_what_may_not_go_stays(kept: Process, made: Path) -> None:
    receipt, path = (made / "receipt").read_bytes(), run(kept)
    for bad, said in (
        (order(), "no receipt"),
        (order(0, (made / "strange").read_bytes()), "expected the collector's signature"),
        (order(0, (kept.folder / "checkpoint").read_bytes()), "expected the collector's signature"),
        (order(0, receipt.replace(b"65602", b"65603")), "is false"),
        (order(0, b"x"), "not a signed note"),
        (order(5, receipt), "no complete segment begins there"),
        (order(SIZE, receipt), "no complete segment begins there"),
        (order(4 * SIZE, receipt), "no complete segment begins there"),
        (hold("lift", "nobody"), "is not in force"),
        (hold("add", "odd", "2020-01-01", "2019-01-01"), "ends before it begins"),
        (Order(), "expected one of"),
    ):
        with pytest.raises(OperatorMistake, match=said):
            send(path, bad)
    send(path, hold("add", "later", "2018-08-17"))
    send(path, hold("add", "within", "2018-02-01", "2018-02-02"))
    with pytest.raises(OperatorMistake, match="is in force already"):
        send(path, hold("add", "within"))
    with pytest.raises(OperatorMistake, match="is held by within"):
        send(path, order(0, receipt))
    send(path, hold("lift", "within"))
    assert send(path, order(0, receipt)) > SIZE
    with pytest.raises(OperatorMistake, match="whose text is kept"):
        send(path, order(0, receipt))


@pytest.mark.parametrize(("settings", "said"), [
    ({"retention_days": {"default": 36525}}, "is kept for 36525 days, until 2118-08-"),
    ({"retention_days": {"default": 1, "l": 36525}}, "is kept for 36525 days"),
    ({"collector_key": ""}, "no collector's key is set"),
])  # fmt: skip
def test_settings_decide(kept: Process, made: Path, tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    process = Process(tmp_path, warm_days=36525, **{**RULES, **settings})
    try:
        with pytest.raises(OperatorMistake, match=said):
            send(run(process), order(0, (made / "receipt").read_bytes()))
    finally:
        process.kill()


def test_requests_that_do_not_say_their_label_are_kept_for_the_longest_time() -> None:
    rules = keeping.Rules.of({"default": 10, "a": 5, "b": 90}, "")
    assert [rules.days(labels) for labels in ([], ["a"], ["a", "b"], ["other"], None)] == [10, 10, 90, 10, 90]
    for bad in ({"clinical": 1}, {}):
        with pytest.raises(InputInvalid, match="default"):
            keeping.Rules.of(bad, "")
    with pytest.raises(InputInvalid, match="collector_key"):
        keeping.Rules.of({"default": 1}, "AAAA")


def buried(
    folder: Path, made: Path, at: str, change: Callable[[dict[str, Any]], dict[str, Any]], *, removes: bool = True
) -> None:
    """By somebody who is root and has the log's key: a tombstone of his own, and the text removed."""
    view = View(folder)
    stone = gone.prepare(view, FIRST, keeping.keeps)
    span = keeping.span_of(view, FIRST)
    content = {
        **stone.content(), "since": span.since, "until": span.until, "labels": span.labels, "days": 2190,
        "receipt": (made / "receipt").read_text(), "who": "root",
    }  # fmt: skip
    with open_log(folder) as log:
        log.append([fields.entry("expired", log.size, Moment(at, "c", 7), change(content))])
        log.checkpoint()
    if removes:
        gone.remove_text(view, FIRST, stone)


_NOW, _EARLY = "2026-11-21T00:00:00.000Z", "2024-08-10T00:00:00.000Z"
_HELD = {"action": "add", "name": "h", "since": "", "until": "2018-01-01T00:00:00.000Z", "reason": "r", "who": "w"}


@pytest.mark.parametrize(("at", "change", "said"), [
    (_NOW, lambda stone: stone, ""),
    (_EARLY, lambda stone: stone, "were to be kept for 2190 days, until 2024-08-14"),
    (_EARLY, lambda stone: {**stone, "days": 2000}, "says 2000 days where the settings say 2190"),
    (_EARLY, lambda stone: {**stone, "until": "2018-08-10T00:00:00.000Z"}, "and entry 65536 is of"),
    (_NOW, lambda stone: {**stone, "since": "2018-02-10T00:00:00.000Z"}, "and entry 0 is of 2018-01-01"),
    (_NOW, lambda stone: {**stone, "labels": ["clinical"]}, "says 2190 days where the settings say 2900"),
    (_NOW, lambda stone: {**stone, "receipt": ""}, "not a signed note"),
    (_NOW, lambda stone: {**stone, "receipt": stone["receipt"].replace("65602", "65603")}, "is false"),
    (_NOW, lambda stone: {name: value for name, value in stone.items() if name != "days"}, "not one of this process"),
    (_NOW, lambda stone: {**stone, "days": "x"}, "says x days"),
    (_NOW, lambda stone: {**stone, "labels": 7}, "not one of this process"),
])  # fmt: skip
def test_verify_finds_what_was_taken_away_before_its_time_or_without_an_export(
    kept: Process, made: Path, capfd: pytest.CaptureFixture[str], at: str, change: Any, said: str
) -> None:
    buried(kept.folder, made, at, change)
    if not said:
        assert "expired: " in printed(["audit", "verify", "--log", str(kept.folder)], capfd)
        return
    with pytest.raises(LedgerBroken, match=said):
        keeping.require_kept(View(kept.folder), verify(View(kept.folder)))
    assert refused(["audit", "verify", "--log", str(kept.folder)], capfd)[0] == 19


def test_verify_finds_a_hold_that_was_ignored(kept: Process, made: Path) -> None:
    with open_log(kept.folder) as log:
        log.append([fields.entry("hold", log.size, moment(log.size), _HELD)])
    buried(kept.folder, made, _NOW, lambda stone: stone)
    with pytest.raises(LedgerBroken, match=r"were held by h \(entry 65602\)"):
        keeping.require_kept(View(kept.folder), verify(View(kept.folder)))


def test_a_hold_in_what_is_left_of_a_segment_cannot_be_hidden(
    kept: Process, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its line becomes its hash: the tree is the same, and the next segment would go."""
    buried(kept.folder, made, _NOW, lambda stone: stone)
    path = kept.folder / "segments" / FIRST.replace("log", "gone")
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(line_of(leaf_hash(first)) + b"\n" + rest)
    with pytest.raises(LedgerBroken, match=f"what is left of segment {FIRST} is not what its tombstone says"):
        keeping.holds(View(kept.folder))
    code, said = refused(["audit", "verify", "--log", str(kept.folder)], capfd)
    assert (code, "says that something else is left" in said) == (19, True)
    with pytest.raises(OperatorMistake, match="not what its tombstone says"):
        send(run(kept), hold("add", "case-17"))


def test_verify_finds_a_forged_tombstone_by_the_newest_settings_before_it(kept: Process, made: Path) -> None:
    with open_log(kept.folder) as log:
        longer = {**RULES, "retention_days": {"default": 36525}}
        log.append([fields.entry("started", log.size, moment(log.size), {"keeping": longer})])
    buried(kept.folder, made, _NOW, lambda stone: stone)
    with pytest.raises(LedgerBroken, match="where the settings say 36525"):
        keeping.require_kept(View(kept.folder), verify(View(kept.folder)))


def test_text_removed_without_a_tombstone_is_refused(kept: Process, capfd: pytest.CaptureFixture[str]) -> None:
    gone.prepare(View(kept.folder), FIRST, keeping.keeps)
    (kept.folder / "segments" / FIRST).unlink()
    code, said = refused(["audit", "verify", "--log", str(kept.folder)], capfd)
    assert (code, "no entry says that it expired" in said) == (19, True)
    (kept.folder / "segments" / FIRST.replace("log", "gone")).unlink()
    code, said = refused(["audit", "verify", "--log", str(kept.folder)], capfd)
    assert (code, FIRST in said) == (19, True)


def test_a_tombstone_whose_text_a_crash_left_is_told_and_finished(
    kept: Process, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    buried(kept.folder, made, _NOW, lambda stone: stone, removes=False)
    log = ["--log", str(kept.folder)]
    assert "its tombstone too, entry 65602: expire it again" in printed(["audit", "verify", *log], capfd)
    run(kept)
    said = printed(airgap(kept, "expire", "--receipt", str(made / "receipt")), capfd)
    assert "expired: tombstone at entry 65602" in said
    kept.end()
    found = json.loads(printed(["audit", "verify", "--json", *log], capfd))
    assert ([each["tombstone"] for each in found["expired"]], found["unfinished"]) == ([65602], [])
    said = printed(["ledger", "verify", "--ledger", str(kept.folder)], capfd)
    assert "expired:   entries 0 to 65535, by the tombstone at entry 65602" in said


_QUICK = "import appliance.audit.keeper as k; k._LOOK_S = 0.02\n"


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_the_process_compresses_old_segments_when_it_is_idle(kept: Process, tmp_path: Path) -> None:
    before = list(View(kept.folder).entries())
    process = Process(tmp_path, warm_days=90, **RULES)
    try:
        gateway = process.start(before=_QUICK).gateway()
        wait_for(lambda: not (kept.folder / "segments" / FIRST).exists())
        assert "seq" in gateway.ask(admitted=ADMITTED)
        assert process.end() == 0
    finally:
        process.kill()
    assert list(View(kept.folder).entries())[: len(before)] == before
    assert (kept.folder / "segments" / SECOND).exists(), "it is not complete"
    assert "is compressed to" in process.said.read_text()


def test_kills_while_segments_are_compressed_and_expire_cost_nothing(made: Path, kept: Process, tmp_path: Path) -> None:
    chance, receipt = random.Random(SEED), (made / "receipt").read_bytes()
    print(f"AIRGAP_TEST_SEED={SEED}")
    seen = set()
    for number in range(4):
        shutil.rmtree(kept.folder)
        shutil.copytree(made / "log", kept.folder)
        process = Process(tmp_path, warm_days=90, **RULES)
        try:
            path = run_quick(process)
            code = (
                f"from appliance.audit import keeper; from pathlib import Path; import sys\n"
                f"keeper.send(Path({str(path)!r}), keeper.Order.model_validate_json(sys.stdin.read()))"
            )
            asker = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )  # fmt: skip
            assert asker.stdin is not None
            asker.stdin.write(order(0, receipt).model_dump_json(exclude_none=True).encode())
            asker.stdin.close()
            until = time.monotonic() + chance.random() * 6
            while time.monotonic() < until and asker.poll() is None:
                time.sleep(0.005)
            process.end(signal.SIGKILL)
            asker.wait()
            view = View(kept.folder)
            seen.add(
                tuple(sorted(each.name.partition(".")[2] for each in (kept.folder / "segments").glob(f"{0:020}*")))
            )
            found = verify(view)
            keeping.require_kept(view, found)
            if not found.expired:
                again = run(process)
                assert send(again, order(0, receipt)) > SIZE
                process.end()
                found = verify(View(kept.folder))
            assert len(found.expired) == 1, number
        finally:
            process.kill()
    print(f"states that kills left: {sorted(seen)}")


def run_quick(process: Process) -> Path:
    process.start(before=_QUICK).gateway().close()
    return process.folder.parent / "keep.sock"


@pytest.mark.parametrize("data", [b"", b"not json", b'{"hold": 7}', b'{"rotate": {}}', b"x" * 70_000])
def test_what_is_no_order_is_answered_with_an_error(kept: Process, data: bytes) -> None:
    path = run(kept)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(path))
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            assert b'"error"' in peer.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            assert len(data) > 65_536
    assert send(path, hold("add", "goes-on")) > SIZE


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
def test_nobody_but_root_gives_orders(kept: Process) -> None:
    path = run(kept)
    for parent in (path, *path.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o777)  # not the modes decide, but the kernel's word on who asks
    script = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(20)
peer.connect({str(path)!r})
try:
    peer.sendall(b"{{}}")
    peer.shutdown(socket.SHUT_WR)
    print(len(peer.recv(4096)))
except (BrokenPipeError, ConnectionResetError):
    print(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_a_log_with_a_hole_is_judged_by_what_it_has() -> None:
    def made(*entries: tuple[int, str, dict[str, Any]]) -> list[tuple[int, bytes]]:
        return [(seq, fields.entry(kind, seq, moment(seq), content)) for seq, kind, content in entries]

    allowed = {"decision": "allow"}
    whole = made(
        (0, "started", {}), (9, "completed", {"of": 3}), (10, "admitted", allowed), (11, "completed", {"of": 10})
    )
    assert judge([*whole, *made((12, "stopped", {}))], is_live=False).gaps == []
    again = judge([*whole, *made((12, "completed", {"of": 10}), (13, "stopped", {}))], is_live=False)
    assert [gap.what for gap in again.gaps] == ["ends request 10, which was not open"]


def test_a_cold_export_of_the_audit_log(kept: Process, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = ["--log", str(kept.folder)]
    assert "1 segments" in printed(["audit", "export", str(tmp_path / "cold"), "--segments", "0-", *log], capfd)
    done = subprocess.run(
        ["dash", tmp_path / "cold/check", tmp_path / "cold", kept.folder / "log.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "verdict: accept" in done.stdout) == (0, True), done.stdout + done.stderr
    for bad in (["--segments", "x"], ["--after", str(kept.folder / "checkpoint")]):
        assert refused(["audit", "export", str(tmp_path / "no"), *bad, *log], capfd)[0] == 2
    assert not (tmp_path / "no").exists()


def test_times_are_days_or_instants() -> None:
    assert instant("2026-11-21") == "2026-11-21T00:00:00.000Z"
    assert instant("2026-11-21T09:00+01:00") == "2026-11-21T08:00:00.000Z"
    assert instant("2026-11-21", is_end=True) == "2026-11-21T23:59:59.999Z"
    assert instant("2026-11-21T09:00Z", is_end=True) == "2026-11-21T09:00:00.000Z"
    assert instant("", is_end=True) == ""
    assert instant("2026-11-21T08:00:05.25Z") == "2026-11-21T08:00:05.250Z"
    for bad in (
        "yesterday", "20260630", "2026-W27-2", "2026-181", "2026-06", "2026-06-31", "2026-06-30T08:00",
        "2026-06-30T08Z", "2026-06-30 08:00Z", "2026-06-30T25:00Z", "2026-06-30T08:00z", "2026-06-30\n",
        "0001-01-01T00:00+01:00",
    ):  # fmt: skip
        for is_end in (False, True):
            with pytest.raises(InputInvalid, match="expected a day"):
                instant(bad, is_end=is_end)
