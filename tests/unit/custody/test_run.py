"""Programs are found on one path, end with their starter, and are told apart when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custody._run import run
from custody.errors import ProgramFailed, ProgramMissing


def test_failures_name_the_program() -> None:
    with pytest.raises(ProgramMissing, match="no-such-program: not installed"):
        run(["no-such-program"])
    with pytest.raises(ProgramFailed, match="sh: ended with status 3"):
        run(["sh", "-c", "exit 3"])
    with pytest.raises(ProgramFailed, match="still running"):
        run(["sleep", "60"], timeout_s=0.2)


@pytest.mark.parametrize("outlives", [False, True])
def test_a_program_ends_with_its_starter_unless_it_may_not(tmp_path: Path, outlives: bool) -> None:
    note = tmp_path / "pid"
    program = f"from custody._run import run\nrun(['sh', '-c', 'echo $$ >{note}; exec sleep 60'], outlives={outlives})"
    with subprocess.Popen([sys.executable, "-c", program]) as starter:
        while not note.exists() or not note.read_text().strip():
            time.sleep(0.02)
        starter.kill()
    pid = int(note.read_text())
    deadline_s = time.monotonic() + 5
    while not outlives and alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert alive(pid) == outlives
    if outlives:
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
