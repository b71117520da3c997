"""The two programs, over loopback: killed at any moment they go on, and a file brings what was lost meanwhile."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody import errors
from custody.ledger import origin
from custody.ledger.export import export
from custody.ledger.log import open_log
from custody.ledger.view import View
from tests.attack.judges import AIRGAP
from tests.killing import points
from tests.unit.appliance.diode.conftest import ORIGIN, entries

ROOT = Path(__file__).parents[4]
COUNT = 20_000


class Programs:
    """A log, `python -m appliance.diode` and `airgap diode receive`."""

    def __init__(self, base: Path) -> None:
        self.log, self.far, self.said = base / "log", base / "far", base / "said"
        origin.make(self.log, ORIGIN)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "schema_version": 1, "log": str(self.log), "position": str(base / "position"), "address": "127.0.0.1",
            "port": self.port, "rate": 5000, "apart_s": 0.05, "idle_s": 0.2,
        }  # fmt: skip
        self.config = base / "diode.json"
        self.config.write_text(json.dumps(settings))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *options: str | Path) -> None:
        """`send` or `receive`."""
        argv = {
            "send": [sys.executable, "-m", "appliance.diode", self.config],
            "receive": [AIRGAP, "diode", "receive", "--listen", f"127.0.0.1:{self.port}", "--folder", self.far],
        }[name]
        with self.said.open("ab") as said:
            environment = {"PYTHONPATH": str(ROOT)}
            self.running[name] = subprocess.Popen(
                [*argv, *options], stdout=subprocess.PIPE, stderr=said, env=environment, cwd=ROOT
            )

    def listen(self) -> None:
        """Start the receiver and wait until it hears."""
        before = self.said.read_bytes().count(b"listening") if self.said.exists() else 0
        self.start("receive", "--log-key", self.log / "log.vkey", "--json")
        self.wait(lambda: self.said.read_bytes().count(b"listening") > before)

    def end(self, name: str, number: int) -> tuple[int, bytes]:
        """Signal it; its exit code, and what it printed."""
        process = self.running.pop(name)
        process.send_signal(number)
        printed = process.communicate(timeout=60)[0]
        return process.returncode, printed

    def wait(self, met: Any) -> None:
        """Until something holds."""
        until = time.monotonic() + 120
        while not met():
            assert time.monotonic() < until, self.said.read_text()
            for process in self.running.values():
                assert process.poll() is None, self.said.read_text()
            time.sleep(0.05)

    def status(self, *options: str) -> tuple[int, dict[str, Any]]:
        """`airgap diode status --json`: its exit code and what it says."""
        done = subprocess.run(
            [AIRGAP, "diode", "status", self.far, "--json", *options],
            capture_output=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    for name in list(made.running):
        made.end(name, signal.SIGKILL)


def test_what_is_written_arrives_and_is_told(programs: Programs) -> None:
    programs.listen()
    programs.start("send")
    with open_log(programs.log) as log:
        for start in range(0, 2000, 100):
            log.append(entries(100, start))
            log.checkpoint()
    programs.wait(lambda: programs.status()[1]["verified"] == 2000)
    code, found = programs.status()
    assert (code, found["schema"], found["verdict"]) == (0, "airgap.diode/1", "complete")
    code, printed = programs.end("receive", signal.SIGTERM)
    assert (code, json.loads(printed)["verified"]) == (0, 2000)
    done = subprocess.run([AIRGAP, "ledger", "verify", "--ledger", programs.far], capture_output=True, text=True)
    assert "verdict:   intact" in done.stdout, done.stderr
    assert "entries:   2000, of which a checkpoint covers 2000" in done.stdout


def test_both_are_killed_at_any_moment_and_go_on(programs: Programs, tmp_path: Path) -> None:
    with open_log(programs.log) as log:
        log.append(entries(COUNT))
        log.checkpoint()
    programs.listen()
    programs.start("send")
    at = 0.0
    for number, point in enumerate(points("diode", 6, 6.0)):
        time.sleep(max(0.0, point - at))
        at = point
        name = ("send", "receive")[number % 2]
        assert programs.end(name, signal.SIGKILL)[0] == -signal.SIGKILL
        if name == "send":
            programs.start("send")
        else:
            programs.listen()
    programs.wait(lambda: programs.status()[1]["sent"] == COUNT)
    programs.end("send", signal.SIGTERM)
    code, found = programs.status()
    assert found["verdict"] in ("complete", "missing")
    assert code == (0 if found["verdict"] == "complete" else errors.EntriesMissing.exit_code)
    assert found["verified"] + found["missing_entries"] <= COUNT
    assert (found["conflicts"], found["contradicted"], found["forked"]) == (0, None, None)
    (tmp_path / "export").mkdir()
    export(View(programs.log), tmp_path / "export")
    subprocess.run([AIRGAP, "diode", "fill", programs.far, tmp_path / "export"], check=True, capture_output=True)
    assert programs.status()[0] == 0
    assert programs.end("receive", signal.SIGINT)[0] == 0
    far = View(programs.far, key=origin.load_public(programs.log))
    assert [entry for _number, entry in far.entries()] == entries(COUNT)


def test_a_fill_that_is_killed_is_done_again(programs: Programs, tmp_path: Path) -> None:
    with open_log(programs.log) as log:
        log.append(entries(COUNT))
        log.checkpoint()
    programs.listen()
    assert programs.end("receive", signal.SIGTERM)[0] == errors.EntriesMissing.exit_code
    (tmp_path / "export").mkdir()
    export(View(programs.log), tmp_path / "export")
    command = [AIRGAP, "diode", "fill", programs.far, tmp_path / "export"]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    span_s = time.monotonic() - begun
    (programs.far / "checkpoint").unlink()
    for point in points("fill", 3, span_s):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(point)
        process.kill()
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    far = View(programs.far, key=origin.load_public(programs.log))
    assert [entry for _number, entry in far.entries()] == entries(COUNT)


def test_a_key_and_the_folder_for_one_receiver(programs: Programs) -> None:
    programs.start("receive", "--log-key", programs.log / "log.pem")
    assert programs.running.pop("receive").wait(60) == errors.InputInvalid.exit_code
    programs.listen()
    assert (programs.far / "log.vkey").read_text() == (programs.log / "log.vkey").read_text()
    first = programs.running.pop("receive")
    programs.start("receive")  # the folder is taken
    second, programs.running["receive"] = programs.running["receive"], first
    assert second.wait(60) == errors.AlreadyRunning.exit_code
