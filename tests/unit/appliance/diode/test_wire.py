"""Through a wire that goes one way only, with loss: every gap told, all of it by file, nothing back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from custody.ledger import origin
from custody.ledger.export import export
from custody.ledger.log import open_log
from custody.ledger.view import View
from tests.attack.judges import AIRGAP
from tests.unit.appliance.diode.conftest import ORIGIN, entries
from tests.unit.appliance.diode.wire import FAR, FAR_MAC, NEAR, PORT, ROOT, End, wire

pytestmark = pytest.mark.root

COUNT = 50_000
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}


def airgap(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run([AIRGAP, *argv], capture_output=True, text=True, env=ENVIRONMENT)


def status(folder: Path) -> dict[str, Any]:
    """`airgap diode status --json`."""
    found: dict[str, Any] = json.loads(airgap("diode", "status", folder, "--json").stdout)
    return found


def start(end: End, said: Path, *argv: str | Path) -> subprocess.Popen[bytes]:
    """A program at one end of the wire."""
    with said.open("ab") as stream:
        return subprocess.Popen(end.argv(*argv), stdout=stream, stderr=stream, env=ENVIRONMENT, cwd=ROOT)


def wait(met: Any, said: Path) -> None:
    """Until something holds."""
    until = time.monotonic() + 300
    while not met():
        assert time.monotonic() < until, said.read_text()
        time.sleep(0.1)


def came(far: Path) -> set[int]:
    """Numbers of the entries that lie at the far side, by the text of its files alone."""
    waiting = "".join(path.read_text() for path in (far / "received").glob("*.part"))
    verified = "".join(path.read_text() for path in (far / "segments").glob("*.log"))
    found = [*re.findall(r"^(\d+) \{", waiting, re.MULTILINE), *re.findall(r'^\{"seq":(\d+),', verified, re.MULTILINE)]
    return set(map(int, found))


@pytest.mark.parametrize("repeat", [1, 2])
def test_with_loss_every_gap_is_told_and_the_file_brings_all_of_it(tmp_path: Path, repeat: int) -> None:
    log, far_folder, said = tmp_path / "log", tmp_path / "far", tmp_path / "said"
    origin.make(log, ORIGIN)
    with open_log(log) as opened:
        opened.append(entries(COUNT))
        opened.checkpoint()
    settings = {
        "schema_version": 1, "log": str(log), "position": str(tmp_path / "position"), "address": FAR, "port": PORT,
        "repeat": repeat, "rate": 10_000, "idle_s": 0.5, "interface": "wire",
    }  # fmt: skip
    (tmp_path / "diode.json").write_text(json.dumps(settings))
    with wire(loss_percent=1) as (near, far), near.capture() as back:
        options = ("--listen", f"{FAR}:{PORT}", "--log-key", log / "log.vkey", "--folder", far_folder)
        receiver = start(far, said, AIRGAP, "diode", "receive", *options)
        wait(lambda: b"listening" in said.read_bytes(), said)
        sender = start(near, said, sys.executable, "-m", "appliance.diode", tmp_path / "diode.json")
        wait(lambda: status(far_folder)["sent"] == COUNT, said)
        far.shout((NEAR, PORT), (NEAR, 22), ("10.9.0.77", 53), ("255.255.255.255", 67))
        sender.terminate()
        sender.wait(60)
        receiver.send_signal(signal.SIGTERM)
        receiver.wait(60)
        wanted_back, lost, left, refused = (
            far.counter("back"), far.counter("lost"), near.counter("log"), near.counter("refused out"),
        )  # fmt: skip
    assert wanted_back > 0
    assert back == {}
    assert refused == 0
    found = status(far_folder)
    missing = {number for first, last in found["missing"] for number in range(first, last + 1)}
    assert missing == set(range(COUNT)) - came(far_folder)
    assert found["datagrams"] + found["dropped"] + lost == left
    assert (found["dropped"], found["refused"], found["conflicts"]) == (0, 0, 0)
    assert found["missing_entries"] == len(missing)
    assert lost > 0
    if repeat == 1:
        assert 0 < len(missing) <= lost
        assert airgap("diode", "status", far_folder).returncode == 50
    assert len(missing) < COUNT / 50
    (tmp_path / "export").mkdir()
    export(View(log), tmp_path / "export")
    filled = airgap("diode", "fill", far_folder, tmp_path / "export")
    assert f"verified:  {COUNT} entries, {len(missing)} of which" in filled.stdout, filled.stderr
    assert (status(far_folder)["verdict"], status(far_folder)["missing"]) == ("complete", [])
    assert (
        "verdict:   intact" in airgap("ledger", "verify", "--ledger", far_folder, "--log-key", log / "log.vkey").stdout
    )
    assert [entry for _number, entry in View(far_folder).entries()] == entries(COUNT)
    number = min(missing, default=7)
    assert airgap("ledger", "prove", str(number), tmp_path / "kit", "--ledger", far_folder).returncode == 0
    check = ["sh", tmp_path / "kit/check", tmp_path / "kit", log / "log.pem"]
    assert subprocess.run(check, capture_output=True).returncode == 0


def test_a_wire_that_could_go_both_ways_is_held_to_one_flow(tmp_path: Path) -> None:
    with wire(one_way=False) as (near, far), far.capture() as out, near.capture() as back:
        far.run("ip", "neighbour", "replace", NEAR, "lladdr", "02:00:00:00:09:01", "nud", "permanent", "dev", "wire")
        near.run("ip", "route", "add", "10.9.0.0/24", "dev", "wire")
        near.shout(
            (FAR, PORT), (FAR, 53), (FAR, 123), ("10.9.0.3", PORT), ("10.9.0.255", PORT), ("255.255.255.255", 67)
        )
        far.shout((NEAR, PORT), (NEAR, 22), ("255.255.255.255", 67))
        near.shout((FAR, PORT))
        wait(lambda: near.counter("log") == 2, Path(os.devnull))
        refused, arrived = near.counter("refused out"), far.counter("back")
    assert out == {f"{FAR_MAC} 0800 {FAR} {PORT}": 2}
    assert sum(back.values()) >= 3  # it came onto the wire, and nothing was made of it
    assert refused > 0
    assert arrived > 0


def test_the_wire_has_one_neighbour_and_one_route() -> None:
    with wire() as (near, _far):
        neighbours = json.loads(near.run("ip", "-json", "neighbour"))
        assert [(each["dst"], each["lladdr"], each["state"]) for each in neighbours] == [(FAR, FAR_MAC, ["PERMANENT"])]
        routes = json.loads(near.run("ip", "-json", "route"))
        assert [(route["dst"], route["dev"]) for route in routes] == [(FAR, "wire")]
        (card,) = [card for card in json.loads(near.run("ip", "-json", "address")) if card["ifname"] == "wire"]
        assert "NOARP" in card["flags"]
        assert [(each["local"], each["prefixlen"]) for each in card["addr_info"]] == [(NEAR, 32)]
