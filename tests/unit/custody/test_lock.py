"""One at a time, and nobody is locked out by the dead."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from custody.errors import AlreadyRunning
from custody.lock import alone, held

_HOLD = "import sys, time\nfrom pathlib import Path\nfrom custody.lock import alone\n\
with alone(Path(sys.argv[1]), 'x'):\n    print('held', flush=True)\n    time.sleep(60)"


@pytest.mark.parametrize("name", [".", "lock"])
def test_a_second_one_is_refused_until_the_first_is_gone(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(place)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match="another build"), alone(place, "another build"):
            pytest.fail("both were let in")
        holder.kill()
        holder.wait()
        with alone(place, "another build"):
            pass


def test_the_second_one_may_wait_and_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        threading.Timer(0.3, holder.kill).start()
        with alone(tmp_path, "another build", waiting=told.append):
            assert holder.wait() != 0
    assert told == [f"waiting until another build lets go of {tmp_path}"]


def test_a_file_that_moves_on_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    part, inside, most = tmp_path / "x.part", 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with held(part):
                inside += 1
                most = max(most, inside)
                inside -= 1
                part.replace(tmp_path / "x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
