"""`python -m tests.bench.diode [FOLDER]`: how fast a log goes through the diode, sender and receiver on one machine.

Root, for the wire between two network namespaces and for a large buffer. FOLDER: where log and copy are made, and
removed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from custody.ledger import origin
from custody.ledger.log import open_log
from tests.unit.appliance.diode.wire import FAR, PORT, ROOT, End, wire

#: About the size of an audit entry.
ENTRY = b'{"seq":%08d,"text":"' + b"x" * 450 + b'"}'
COUNT, GROUP = 200_000, 512
AIRGAP = Path(sys.executable).with_name("airgap")


def start(end: End, *argv: str | Path) -> subprocess.Popen[bytes]:
    """A program at one end of the wire."""
    return subprocess.Popen(end.argv(*argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Processor time so far, of itself alone: proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(base: Path, rate: int, repeat: int) -> None:
    """Send the log at a rate and print what came of it."""
    log, far_folder = base / "log", base / f"far-{rate}-{repeat}"
    settings = {
        "schema_version": 1, "log": str(log), "position": str(base / f"position-{rate}-{repeat}"), "address": FAR,
        "port": PORT, "repeat": repeat, "rate": rate, "idle_s": 0.5,
    }  # fmt: skip
    (base / "diode.json").write_text(json.dumps(settings))
    with wire() as (near, far):
        listen = ("--listen", f"{FAR}:{PORT}", "--log-key", log / "log.vkey", "--folder", far_folder)
        receiver = start(far, AIRGAP, "diode", "receive", *listen)
        while not (far_folder / "receiving.lock").exists():
            time.sleep(0.1)
        time.sleep(1)
        sender, begun_s = start(near, sys.executable, "-m", "appliance.diode", base / "diode.json"), time.monotonic()
        while (found := state(far_folder)).get("sent") != COUNT:
            time.sleep(0.05)
        span_s, spent_s = time.monotonic() - begun_s, (cpu_s(sender), cpu_s(receiver))
        sender.kill()
        receiver.send_signal(signal.SIGTERM)
        sender.wait()
        receiver.wait()
    each_us = [1e6 * spent / found["datagrams"] for spent in spent_s]
    print(
        f"cap {rate:6} x {repeat}: {COUNT / span_s:7.0f} records/s, {found['datagrams'] / span_s:7.0f} datagrams/s, "
        f"{found['dropped']} dropped; {each_us[0]:.0f} µs of processor a datagram to send, {each_us[1]:.0f} to receive"
    )


def state(far_folder: Path) -> dict[str, Any]:
    """What the receiver has saved."""
    try:
        found: dict[str, Any] = json.loads((far_folder / "received/state.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def main(*base: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=base[0] if base else None) as name:
        origin.make(Path(name) / "log", "bench.example/log")
        with open_log(Path(name) / "log") as log:
            for start in range(0, COUNT, GROUP):
                log.append([ENTRY % seq for seq in range(start, min(COUNT, start + GROUP))])
            log.checkpoint()
        for rate, repeat in ((10_000, 2), (100_000, 1), (100_000, 2)):
            run(Path(name), rate, repeat)


if __name__ == "__main__":
    main(*sys.argv[1:])
