"""The audit process as the gateway meets it: durable before acknowledged, and nothing taken from strangers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.audit import fields
from appliance.audit.complete import judge
from custody.ledger.moment import Moment
from custody.ledger.verify import verify
from custody.ledger.view import View
from tests.killing import SEED
from tests.unit.appliance.audit.conftest import ADMITTED, AUDITOR, Process, completed


def entries(process: Process) -> list[dict[str, Any]]:
    return [json.loads(entry) for _seq, entry in View(process.folder).entries()]


def of_kind(process: Process, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in entries(process) if entry["kind"] == kind]


def test_a_request_is_admitted_and_completed(process: Process) -> None:
    gateway = process.start().gateway()
    seq = gateway.ask(admitted=ADMITTED)["seq"]
    (admitted,) = of_kind(process, "admitted")
    assert (admitted["seq"], admitted["user_id"], admitted["epoch"]) == (seq, "alice", 1)
    assert set(admitted) >= {"time", "boot_id", "monotonic_ms", "model_digest", "policy_id", "decision", "prompt_hmac"}
    number = gateway.send(completed=completed(seq))
    assert gateway.answer(number) == {"id": number, "ok": True}
    (ended,) = of_kind(process, "completed")
    assert (ended["of"], ended["tokens_out"], ended["latency_ms"], ended["status"]) == (seq, 5, 12, "ok")
    assert "sha256" not in json.dumps([admitted, ended])
    assert process.end() == 0
    assert [entry["kind"] for entry in entries(process)] == ["started", "admitted", "completed", "stopped"]
    assert verify(View(process.folder)).signed == 4
    assert judge(View(process.folder).entries(), is_live=False).gaps == []


def test_answers_come_for_many_requests_under_way(process: Process) -> None:
    gateway = process.start().gateway()
    numbers = [gateway.send(admitted={**ADMITTED, "request_id": f"r{i}"}) for i in range(300)]
    seqs = [gateway.answer(number)["seq"] for number in reversed(numbers)]
    ends = [gateway.send(completed=completed(seq)) for seq in seqs]
    assert all(gateway.answer(number)["ok"] for number in ends)
    assert {entry["seq"]: entry["request_id"] for entry in of_kind(process, "admitted")} == {
        seq: f"r{i}" for i, seq in enumerate(reversed(seqs))
    }


@pytest.mark.parametrize("message", [
    {"admitted": {**ADMITTED, "decision": "maybe"}},
    {"admitted": {**ADMITTED, "prompt_sha256": "the prompt itself"}},
    {"admitted": {**ADMITTED, "seq": 7}},
    {"admitted": {name: value for name, value in ADMITTED.items() if name != "user_id"}},
    {"admitted": {**ADMITTED, "reason": "x" * 5000}},
    {"admitted": {**ADMITTED, "user_id": 7}},
    {"admitted": ADMITTED, "completed": completed(0)},
    {"completed": completed(0)},
    {"completed": completed(99)},
    {"completed": completed(-1)},
    {},
    {"rotate": True},
])  # fmt: skip
def test_what_is_not_a_request_is_answered_with_an_error_and_not_written(
    process: Process, message: dict[str, Any]
) -> None:
    gateway = process.start().gateway()
    answer = gateway.ask(**message)
    assert set(answer) == {"id", "error"}
    assert "the prompt itself" not in answer["error"]
    assert [entry["kind"] for entry in entries(process)] == ["started"]
    assert "seq" in gateway.ask(admitted=ADMITTED)


def test_a_request_ends_once_and_a_denied_one_not_at_all(process: Process) -> None:
    gateway = process.start().gateway()
    seq = gateway.ask(admitted=ADMITTED)["seq"]
    denied = gateway.ask(admitted={**ADMITTED, "decision": "deny"})["seq"]
    assert gateway.ask(completed=completed(seq))["ok"]
    assert gateway.ask(completed=completed(seq))["ok"], "said again: the answer may have been lost"
    assert "no admitted request" in gateway.ask(completed=completed(seq, status="other"))["error"]
    process.end(signal.SIGKILL)
    gateway = process.start().gateway()
    assert gateway.ask(completed=completed(seq))["ok"], "and after a crash"
    assert len(of_kind(process, "completed")) == 1
    assert "no admitted request" in gateway.ask(completed=completed(denied))["error"]


def test_unreadable_messages_end_the_connection_and_nothing_else(process: Process) -> None:
    process.start()
    for data in (b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
        gateway = process.gateway()
        gateway._socket.sendall(data)
        assert gateway.is_closed()
    gateway = process.gateway()
    gateway.send_raw(b"not json")
    assert gateway.answer()["id"] is None
    assert "seq" in gateway.ask(admitted=ADMITTED)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
def test_strangers_are_turned_away(tmp_path: Path) -> None:
    process = Process(tmp_path, clients=["nobody"]).start()
    try:
        gateway = process.gateway()
        try:
            gateway.send(admitted=ADMITTED)
            assert gateway.is_closed()
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert [entry["kind"] for entry in entries(process)] == ["started"]
    finally:
        process.kill()


def test_kills_lose_no_acknowledged_record_and_are_told(process: Process) -> None:
    chance, admitted, ended = random.Random(SEED), {}, set()  # type: random.Random, dict[int, str], set[int]
    print(f"AIRGAP_TEST_SEED={SEED}")
    for kill in range(5):
        gateway = process.start().gateway()
        waiting = {gateway.send(admitted={**ADMITTED, "request_id": f"{kill}-{i}"}): f"{kill}-{i}" for i in range(200)}
        until = time.monotonic() + 0.02 + chance.random() * 0.1
        try:
            while waiting and time.monotonic() < until:
                answer = gateway.answer()
                if "seq" in answer:
                    admitted[answer["seq"]] = waiting.pop(answer["id"])
                    gateway.send(completed=completed(answer["seq"]))
                else:
                    assert answer["ok"]
        finally:
            process.end(signal.SIGKILL)
        gateway.close()
        found = {entry["seq"]: entry["request_id"] for entry in of_kind(process, "admitted")}
        assert found.items() >= admitted.items()
        ended |= {entry["of"] for entry in of_kind(process, "completed")}
    assert admitted
    process.start().gateway().close()
    process.end()
    verify(View(process.folder))
    gaps = judge(View(process.folder).entries(), is_live=False).gaps
    assert len([gap for gap in gaps if "killed" in gap.what]) == 5
    assert {gap.seq for gap in gaps if "without an end" in gap.what} == set(found) - ended


def test_what_was_open_at_a_crash_may_still_end(process: Process) -> None:
    seq = process.start().gateway().ask(admitted=ADMITTED)["seq"]
    process.end(signal.SIGKILL)
    gateway = process.start().gateway()
    assert gateway.ask(completed=completed(seq, status="engine gone"))["ok"]


def test_a_disk_that_takes_nothing_refuses_and_then_goes_on(process: Process) -> None:
    """The process's files may not grow for a while, as on a full disk; what could not end may end later."""
    switch = process.folder.parent / "full"
    before = f"""
import os, pathlib
from custody.ledger import disk
real = disk._OpenFile.write
def write(self, offset, data):
    if pathlib.Path({str(switch)!r}).exists():
        raise OSError(28, "No space left on device")
    real(self, offset, data)
disk._OpenFile.write = write
"""
    gateway = process.start(before=before).gateway()
    seq = gateway.ask(admitted=ADMITTED)["seq"]
    switch.touch()
    assert "No space left" in gateway.ask(admitted=ADMITTED)["error"]
    assert "No space left" in gateway.ask(completed=completed(seq))["error"]
    switch.unlink()
    assert gateway.ask(completed=completed(seq))["ok"]
    for _ in range(40):
        answer = gateway.ask(admitted=ADMITTED)
        if "seq" in answer:
            break
        assert "the disk is full" in answer["error"]
        time.sleep(0.1)
    assert answer["seq"] == seq + 2
    assert process.end() == 0
    verify(View(process.folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs: needs root")
def test_on_a_full_disk_nothing_begins_and_what_began_ends(tmp_path: Path) -> None:
    script = f"""
import json, os, sys
from pathlib import Path
from appliance.audit import fields
from appliance.audit.book import Book
from appliance.audit.epoch import Epochs
from appliance.audit.reserve import Reserve
from custody.errors import AirgapError, LedgerUnwritable
from custody.ledger import origin
from custody.ledger.log import open_log
from custody.report import SilentReporter
from tests.unit.appliance.audit.conftest import ADMITTED, AUDITOR, completed
folder = Path({str(tmp_path)!r}) / "log"
origin.make(folder, "o")
admitted = fields.Admitted.model_validate(ADMITTED)
def opened(log):
    return Book(log, Epochs(folder, "o", AUDITOR.public, 3600), Reserve(folder, 1 << 17), SilentReporter())
def write(book, record):
    (found,) = book.write([record])
    if isinstance(found, AirgapError):
        raise found
    return found
with open_log(folder) as log:
    book = opened(log)
    begun = [write(book, admitted) for _ in range(20)]
    try:
        while True:
            begun.append(write(book, admitted))
    except LedgerUnwritable:
        pass
    for number in begun[:50]:
        ended = fields.Completed.model_validate(completed(number))
        try:
            write(book, ended)
        except LedgerUnwritable:
            write(book, ended)
    try:
        write(book, admitted)
    except LedgerUnwritable as error:
        assert "the disk is full" in error.message
    else:
        raise SystemExit("admitted on a full disk")
    book.close()
print("open", len(begun) - 50)
(folder.parent / "ballast").unlink()
with open_log(folder) as log:
    book = opened(log)
    write(book, admitted)
    book.close()
"""
    command = 'mount -t tmpfs -o size=1m tmpfs "$1" && head -c 524288 /dev/zero >"$1/ballast"; shift; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", tmp_path, sys.executable, "-c", script],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 100


def test_the_auditor_opens_an_epoch_and_finds_a_text_with_openssl_alone(process: Process, tmp_path: Path) -> None:
    text = b"What is the patient's name?"
    gateway = process.start().gateway()
    gateway.ask(admitted={**ADMITTED, "prompt_sha256": hashlib.sha256(text).hexdigest()})
    process.end()
    escrow = process.folder / "epochs/000001.cms"
    (started,) = of_kind(process, "started")
    assert started["escrow_sha256"] == hashlib.sha256(escrow.read_bytes()).hexdigest()
    private = AUDITOR._key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    key = tmp_path / "auditor.pem"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    done = subprocess.run(
        ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", escrow, "-inkey", key], capture_output=True, check=True
    )
    opened = json.loads(done.stdout)
    (tmp_path / "text").write_bytes(text)
    (command,) = (line.strip() for line in (fields.__doc__ or "").splitlines() if "hexkey:KEY" in line)
    made = subprocess.run(
        ["sh", "-c", command.replace("KEY", opened["key"])], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert made.stdout.split()[-1] == of_kind(process, "admitted")[0]["prompt_hmac"]


def test_entries_are_canonical_json() -> None:
    moment = Moment("2026-11-21T10:00:00.000Z", "b", 7)
    record = fields.Admitted.model_validate(
        {**ADMITTED, "reason": 'ümlaut "quoted" \\ \n\t\x00\x1f\x7f\u2028 \U0001f512'}
    )
    data = fields.admitted_entry(3, moment, record, 1, b"key")
    assert data == rfc8785.dumps(json.loads(data))
    assert b"\n" not in data
