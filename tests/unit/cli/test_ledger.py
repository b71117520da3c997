"""`airgap ledger`, and the events that commands leave."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from bundler.cli import main
from custody import errors
from custody.ledger import event as event_module
from custody.ledger import record
from custody.ledger.event import Event, parse
from custody.ledger.log import open_log
from custody.ledger.moment import Moment
from custody.ledger.note import Note
from custody.ledger.view import View
from custody.trust.keys import PrivateKey
from tests.bundles import make, sealed
from tests.unit.cli.test_tree import PASSPHRASE, printed

ORIGIN = "site-7.example/custody"
DIGEST = f"sha256:{'5' * 64}"


@pytest.fixture
def ledger(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "ledger"
    printed(["ledger", "init", ORIGIN, "--ledger", str(folder)], capfd)
    record.record(Event("built", "demo-1", DIGEST), folder)
    record.record(Event("burned", "demo-1", DIGEST, {"serial": "4C530001"}), folder)
    return folder


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(str(stop.value.code)), capfd.readouterr().err


def test_show_tells_events_with_who_and_where(ledger: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = printed(["ledger", "show", "--ledger", str(ledger)], capfd)
    assert [line.split()[2] for line in text.splitlines() if line[0].isdigit()] == ["begun", "built", "burned"]
    assert max(map(len, text.splitlines())) <= 80
    assert "serial=4C530001" in text
    shown = json.loads(printed(["ledger", "show", "--last", "1", "--json", "--ledger", str(ledger)], capfd))
    (event,) = shown["events"]
    assert (shown["schema"], event["number"], event["event"], event["digest"]) == (
        "airgap.ledger/1",
        2,
        "burned",
        DIGEST,
    )
    assert set(event) >= {"who", "host", "time", "boot_id", "monotonic_ms", "subject", "details"}


def test_nothing_that_a_medium_says_looks_like_an_event(ledger: Path, capfd: pytest.CaptureFixture[str]) -> None:
    serial = "7      2026-11-21T10:00:00.000Z signed         demo-1  by alice@host " + "9" * 200
    record.record(Event("burned", "demo-2", DIGEST, {"serial": serial}), ledger)
    lines = printed(["ledger", "show", "--ledger", str(ledger)], capfd).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[2] for line in lines if line[0] != " "] == ["begun", "built", "burned", "burned"]


def test_a_promise_is_no_part_of_the_ledger(ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = printed(["ledger", "show", "--ledger", str(ledger)], capfd)
    record.promise(Event("policy changed", "/etc", DIGEST), ledger)
    file = ledger / "promised/policy-changed.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert printed(["ledger", "show", "--ledger", str(ledger)], capfd) == before
    out = tmp_path / "out"
    printed(["ledger", "export", str(out), "--ledger", str(ledger)], capfd)
    collect = ["ledger", "collect", str(out), str(tmp_path / "keep"), "--log-key", str(ledger / "log.vkey")]
    assert "entries:   3" in printed(collect, capfd)
    assert not list(out.rglob("promised"))


def test_a_promise_is_recorded_once_whenever_the_process_was_killed(ledger: Path) -> None:
    def said() -> list[str]:
        return [event["digest"] for _n, entry in View(ledger).entries() if (event := parse(entry))["subject"] == "/etc"]

    event, file = Event("policy changed", "/etc", DIGEST), ledger / "promised/policy-changed.json"
    record.promise(event, ledger)
    promised = file.read_bytes()
    record.record(event, ledger)
    assert (said(), file.exists()) == ([DIGEST], False)
    file.write_bytes(promised)  # killed after the entry, before this was removed
    record.settle(event.kind, DIGEST, ledger)
    assert (said(), file.exists()) == ([DIGEST], False)
    record.promise(event, ledger)  # a second change to the same state is another event
    record.settle(event.kind, DIGEST, ledger)
    assert said() == [DIGEST, DIGEST]
    record.promise(event, ledger)
    record.settle(event.kind, "sha256:" + "6" * 64, ledger)
    record.settle(event.kind, DIGEST, ledger)
    assert said() == [DIGEST, DIGEST]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema":"airgap.event/1","event":"policy changed"}', "other", "bad"]
)
def test_a_promise_that_cannot_be_read_is_named(ledger: Path, text: str) -> None:
    event, file = Event("policy changed", "/etc", DIGEST), ledger / "promised/policy-changed.json"
    record.promise(event, ledger)
    if text == "other":
        text = Event("people changed", "/etc", DIGEST).dump().decode()
    elif text == "bad":
        text = file.read_text().replace(DIGEST, "md5")
    file.write_text(text)
    with pytest.raises(errors.LedgerBroken, match=r"promised/policy-changed\.json"):
        record.settle(event.kind, DIGEST, ledger)
    assert file.exists()


def test_where_there_is_no_ledger_nothing_is_promised(tmp_path: Path) -> None:
    record.promise(Event("policy changed", "/etc", DIGEST), tmp_path)
    record.settle("policy changed", DIGEST, tmp_path)
    assert not list(tmp_path.iterdir())


def test_verify_checkpoint_and_a_truncated_ledger(
    ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.checkpoint"
    printed(["ledger", "checkpoint", "-o", str(kept), "--ledger", str(ledger)], capfd)
    found = json.loads(printed(["ledger", "verify", "--json", "--against", str(kept), "--ledger", str(ledger)], capfd))
    assert (found["verdict"], found["entries"], found["signed"], found["compared"]) == ("intact", 3, 3, 1)
    record.record(Event("built", "demo-2", DIGEST), ledger)
    grown = ["ledger", "prove-growth", str(kept), str(tmp_path / "growth"), "--ledger", str(ledger)]
    assert "from 3 to 4 entries" in printed(grown, capfd)
    assert refused(grown, capfd)[0] == errors.TargetRefused.exit_code
    segment = next((ledger / "segments").iterdir())
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:2]))
    for name in ("verify", "show"):
        code, said = refused(["ledger", name, "--ledger", str(ledger)], capfd)
        assert (code, "cut off" in said) == (errors.LedgerBroken.exit_code, True)


def test_a_checkpoint_is_never_written_over(ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.checkpoint"
    arguments = ["ledger", "checkpoint", "-o", str(kept), "--ledger", str(ledger)]
    printed(arguments, capfd)
    before = kept.read_bytes()
    record.record(Event("built", "demo-2", DIGEST), ledger)
    code, said = refused(arguments, capfd)
    assert (code, "exists already" in said, kept.read_bytes()) == (errors.TargetRefused.exit_code, True, before)


def test_a_person_countersigns_a_checkpoint(ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key, secret, out = tmp_path / "alice.key", tmp_path / "secret", tmp_path / "out"
    key.write_bytes(PrivateKey.generate().dump(PASSPHRASE.encode()))
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    arguments = ["--name", "alice", "--key", str(key), "--passphrase-file", str(secret), "--ledger", str(ledger)]
    printed(["ledger", "checkpoint", "-o", str(out), *arguments], capfd)
    assert [name for name, _id, _signature in Note.parse(out.read_bytes(), "out").signatures] == [ORIGIN, "alice"]
    printed(["ledger", "verify", "--against", str(out), "--ledger", str(ledger)], capfd)


def test_prove_writes_what_the_script_accepts(ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kit"
    printed(["ledger", "prove", "1", str(out), "--ledger", str(ledger)], capfd)
    assert parse((out / "entry").read_bytes())["subject"] == "demo-1"
    subprocess.run(["sh", out / "check", out, ledger / "log.pem"], check=True, capture_output=True)
    code, said = refused(["ledger", "prove", "3", str(tmp_path / "no"), "--ledger", str(ledger)], capfd)
    assert (code, "below 3" in said) == (errors.InputInvalid.exit_code, True)


def test_export_is_tiles(ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed(["ledger", "export", str(tmp_path / "out"), "--ledger", str(ledger)], capfd)
    assert (tmp_path / "out/tile/0/000.p/3").stat().st_size == 96
    code, _said = refused(["ledger", "export", str(tmp_path / "out"), "--ledger", str(ledger)], capfd)
    assert code == errors.TargetRefused.exit_code


def test_the_first_entry_holds_the_checkpoint_of_the_log_before(
    ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept, second = tmp_path / "kept", tmp_path / "second"
    printed(["ledger", "checkpoint", "-o", str(kept), "--ledger", str(ledger)], capfd)
    printed(["ledger", "init", "host-3.example/custody", "--after", str(kept), "--ledger", str(second)], capfd)
    assert parse(View(second).entry(0))["details"]["checkpoint"] == kept.read_text()
    code, _said = refused(["ledger", "init", "again", "--ledger", str(second)], capfd)
    assert code == errors.TargetRefused.exit_code


def test_no_ledger_records_nothing_and_a_bad_one_stops(ledger: Path, tmp_path: Path) -> None:
    assert record.ready(tmp_path / "none") is False
    assert record.record(Event("built", "demo-1"), tmp_path / "none") is None
    with open_log(ledger), pytest.raises(errors.LedgerUnwritable, match="done, but not recorded"):
        record.record(Event("built", "demo-2"), ledger)
    with open_log(ledger), pytest.raises(errors.AlreadyRunning):
        record.ready(ledger)


def test_what_a_crash_left_is_an_event(ledger: Path) -> None:
    segment = next((ledger / "segments").iterdir())
    segment.write_bytes(segment.read_bytes() + b'{"half')
    record.record(Event("built", "demo-2"), ledger)
    events = [parse(entry) for _number, entry in View(ledger).entries()]
    assert [event["event"] for event in events[-2:]] == ["recovered", "built"]
    assert events[-2]["details"] == {"entry": 3, "size_bytes": 6}


@pytest.mark.parametrize(("kind", "digest"), [("baked", ""), ("built", "5" * 64), ("built", "md5:00")])
def test_unknown_events_are_refused(kind: str, digest: str) -> None:
    with pytest.raises(errors.InputInvalid):
        Event(kind, "demo-1", digest)


def test_a_signature_is_an_event_and_a_ledger_that_takes_none_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made, folder = make(tmp_path / "made"), tmp_path / "ledger"
    monkeypatch.setattr(record, "FOLDER", folder)
    monkeypatch.setattr(record, "default_folder", lambda: folder)
    bundle, key, secret = sealed(tmp_path / "bundle"), tmp_path / "alice.key", tmp_path / "secret"
    key.write_bytes(made.builder.dump(PASSPHRASE.encode()))
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    sign = ["sign", str(bundle), "--key", str(key), "--trust", str(made.trust), "--passphrase-file", str(secret)]
    record.begin(folder, ORIGIN)
    printed([*sign, "--dry-run"], capfd)
    assert View(folder).checkpoint().size == 1  # type: ignore[union-attr]
    with open_log(folder):
        code, _said = refused(sign, capfd)
    assert code == errors.AlreadyRunning.exit_code
    assert not list((bundle / "carrier").glob("sig/*"))
    printed(sign, capfd)
    event = parse(View(folder).entry(1))
    statement = hashlib.sha256((bundle / "carrier/statement.json").read_bytes()).hexdigest()
    assert (event["event"], event["digest"], event["details"]) == (
        "signed", f"sha256:{statement}", {"person": "alice"},
    )  # fmt: skip


def test_a_host_s_ledger_is_begun_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "default_folder", lambda: tmp_path / "ledger")
    record.begin_here()
    record.begin_here()
    assert [parse(entry)["event"] for _number, entry in View(tmp_path / "ledger").entries()] == ["begun"]


@pytest.mark.parametrize(("boot", "time", "monotonic_ms", "step_ms"), [
    ("same", "2026-11-21T10:00:10.400Z", 10_000, 0),
    ("same", "2026-11-21T10:01:10.000Z", 10_000, 60_000),
    ("same", "2026-11-21T09:00:10.000Z", 10_000, -3_600_000),
    ("other", "2026-11-22T10:00:00.000Z", 5, 0),
    ("other", "2026-11-21T09:59:00.000Z", 5, -60_000),
])  # fmt: skip
def test_a_clock_that_was_set_is_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, time: str, monotonic_ms: int, step_ms: int
) -> None:
    for module in (record, event_module):
        monkeypatch.setattr(module, "now", lambda: Moment("2026-11-21T10:00:00.000Z", "same", 0))
    record.begin(tmp_path, ORIGIN)
    for module in (record, event_module):
        monkeypatch.setattr(module, "now", lambda: Moment(time, boot, monotonic_ms))
    record.record(Event("built", "demo-1"), tmp_path)
    events = [parse(entry) for _number, entry in View(tmp_path).entries()]
    said = [event["details"]["step_ms"] for event in events if event["event"] == "clock set"]
    assert said == ([step_ms] if step_ms else [])
