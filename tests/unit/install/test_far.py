"""What a host tells of a run, its state and the rest of its log, while systemd may be beginning itself anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bundler.install.remote.link import FAR_SCRIPT

#: In place of the last line, which runs a verb: systemd that answers after so many attempts, and then a verb.
_HARNESS = """
echo 0 >"$1/asked"
systemctl() {
    asked=$(($(cat "$folder/asked") + 1))
    echo "$asked" >"$folder/asked"
    [ "$asked" -gt "$silent" ] || { echo 'Failed to connect to bus' >&2; return 1; }
    case $2 in *ActiveState) echo "$active" ;; *) echo 'airgap install demo-1' ;; esac
}
sleep() { :; }
folder=$1 silent=$2 active=$3
shift 3
"$@"
"""


def far(folder: Path, silent: int, active: str, *verb: str) -> str:
    """What a verb prints."""
    script = FAR_SCRIPT.read_text().removesuffix('"$@"\n') + _HARNESS
    argv = ["sh", "-c", script, "far.sh", str(folder), str(silent), active, *verb]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("silent", "active", "state"),
    [(0, "active", "running"), (0, "inactive", "gone"), (5, "active", "running"), (5, "failed", "gone"),
     (0, "deactivating", "running"), (10_000, "inactive", "running")],
)  # fmt: skip
def test_a_run_is_gone_when_systemd_says_so_and_not_when_it_says_nothing(
    tmp_path: Path, silent: int, active: str, state: str
) -> None:
    (tmp_path / "log").write_text("==> stage A\n")
    assert far(tmp_path, silent, active, "poll", str(tmp_path), "0") == f"{state}\n==> stage A\n"
    (tmp_path / "result").write_text("23\n")
    assert far(tmp_path, silent, active, "poll", str(tmp_path), "4") == "23\nstage A\n"
    assert far(tmp_path, silent, active, "poll", str(tmp_path), "12") == "23\n"


@pytest.mark.parametrize(
    ("silent", "active", "runs"), [(0, "active", True), (7, "active", True), (7, "inactive", False)]
)
def test_a_run_that_is_at_work_is_among_the_facts(tmp_path: Path, silent: int, active: str, runs: bool) -> None:
    said = far(tmp_path, silent, active, "facts", str(tmp_path), "none", "sha256")
    assert ("running=airgap install demo-1\n" in said) == runs
