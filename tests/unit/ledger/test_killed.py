"""Writers that are killed, and disks that are full: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custody.ledger import origin
from custody.ledger.log import open_log
from custody.ledger.verify import verify
from custody.ledger.view import View
from tests.killing import SEED

WRITER = Path(__file__).with_name("writer.py")


def kill_often(folder: Path, times: int) -> None:
    """Kill a writer of one log again and again; after each time all that it acknowledged is there."""
    chance, said = random.Random(f"{SEED} {folder.parent.name}"), Path(folder, "..", "said").resolve()
    print(f"AIRGAP_TEST_SEED={SEED}")
    origin.make(folder, "site-7.example/custody")
    checked = 0
    for _ in range(times):
        before = View(folder).checkpoint()
        with said.open("wb") as out:
            writer = subprocess.Popen([sys.executable, WRITER, folder], stdout=out)
            while not said.stat().st_size and writer.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.05)
            writer.send_signal(signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL, "the writer ended by itself"
        lines = said.read_bytes().split(b"\n")[:-1]
        acknowledged = [line.split(b" ", 1) for line in lines if not line.startswith(b"torn")]
        view = View(folder)
        kept = dict(view.entries(int(acknowledged[0][0]))) if acknowledged else {}
        for number, entry in acknowledged:
            assert kept[int(number)] == entry, f"entry {number} was acknowledged and is lost"
        verify(view, [before] if before is not None else [])
        checked += len(acknowledged)
    with open_log(folder) as log:
        log.append([b"{}"])
    print(f"{times} times killed, {checked} acknowledged entries, all there; the log has {verify(View(folder)).size}")


def test_fifty_kills_lose_no_acknowledged_entry(tmp_path: Path) -> None:
    kill_often(tmp_path / "log", 50)


@pytest.mark.nightly
def test_a_thousand_kills_lose_no_acknowledged_entry(tmp_path: Path) -> None:
    for number in range(20):  # a new log each time: all of it is read after every kill
        kill_often(tmp_path / str(number) / "log", 50)


def test_a_full_disk_refuses_entries_and_the_log_stays_intact(tmp_path: Path) -> None:
    """A file may not grow beyond the limit: the kernel writes a part, then refuses, as on a full disk."""
    origin.make(tmp_path, "site-7.example/custody")
    script = f"""
import resource, signal, sys
from pathlib import Path
from custody.errors import LedgerUnwritable
from custody.ledger.log import open_log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_log(Path({str(tmp_path)!r})) as log:
    log.append([b'{{"n":0}}'])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, {resource.RLIM_INFINITY}))
    refused = 0
    for _ in range(3):
        try:
            log.append([b'{{"x":"' + b"y" * 900 + b'"}}'])
        except LedgerUnwritable as error:
            assert "File too large" in error.message
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, ({resource.RLIM_INFINITY}, {resource.RLIM_INFINITY}))
    log.append([b'{{"room":"again"}}'])
    log.checkpoint()
    print(log.size, refused)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3 2\n"), done.stderr
    assert verify(View(tmp_path)).size == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs: needs root")
def test_a_full_and_a_read_only_file_system_refuse_entries_and_the_log_stays_intact(tmp_path: Path) -> None:
    script = f"""
import subprocess
from pathlib import Path
from custody.errors import LedgerUnwritable
from custody.ledger import origin
from custody.ledger.log import open_log
from custody.ledger.verify import verify
from custody.ledger.view import View
folder = Path({str(tmp_path)!r}) / "log"
def remount(how):
    subprocess.run(["mount", "-o", f"remount,{{how}}", folder.parent], check=True)
origin.make(folder, "site-7.example/custody")
entry = b'{{"x":"' + b"y" * 900 + b'"}}'
with open_log(folder) as log:
    try:
        while True:
            log.append([entry])
    except LedgerUnwritable as error:
        assert "No space left" in error.message, error.message
    full = log.size
    assert full > 10
with open_log(folder) as log:
    assert log.size == full
    (folder.parent / "ballast").unlink()
    log.append([entry])
    log.checkpoint()
remount("ro")
assert verify(View(folder)).size == full + 1
try:
    with open_log(folder):
        raise SystemExit("a log was opened for writing on a disk that only reads")
except LedgerUnwritable as error:
    assert "Read-only file system" in error.message, error.message
remount("rw")
assert verify(View(folder)).size == full + 1
"""
    command = 'mount -t tmpfs -o size=256k tmpfs "$1" && head -c 65536 /dev/zero >"$1/ballast"; shift; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", tmp_path, sys.executable, "-c", script],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
