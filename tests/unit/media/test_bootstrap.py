"""`start` and the packages of partition 1: none when the host has them all, and none that is not as listed."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

START = Path(__file__).parents[3] / "bundler/media/start.sh"
#: The function as it stands in the script, with the few others that it calls; apt-get is not to be reached here.
HARNESS = """
set -eu
say() { :; }
die() { printf '%s\\n' "$2, $3" >&2; exit "$1"; }
sha=$4
digest() { "${sha}sum" <"$1" | cut -d' ' -f1; }
is() { [ -f "$1" ] && [ "$(digest "$1")" = "$2" ]; }
dpkg() { # another one holds the lock for so long
    [ "$busy" = 0 ] || { busy=$((busy - 1)); echo 'dpkg database lock was locked by pid 832' >&2; return 2; }
}
sleep() { :; }
xargs() { echo 'apt-get was reached'; }
busy=$5 mode=install INSTALLED=$2/none again= here=$1 WORK=$2 BOOTSTRAP=$3
FUNCTION
install_bootstrap
[ "$PWD" = "$WORK" ]
"""


def run(
    folder: Path, sums: str, named: str | None = None, algorithm: str = "sha256", busy_s: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the function over a partition with this list; `named` is the list that start names."""
    function = re.search(r"^install_bootstrap\(\) \{\n.*?^\}\n", START.read_text(), re.MULTILINE | re.DOTALL)
    assert function
    medium, work = folder / "medium", folder / "work"
    (medium / "bootstrap").mkdir(parents=True)
    work.mkdir()
    (medium / "bootstrap" / f"{algorithm.upper()}SUMS").write_text(sums)
    (medium / "bootstrap" / "tool_1_amd64.deb").write_text("package")
    digest = hashlib.new(algorithm, (sums if named is None else named).encode()).hexdigest()
    script = HARNESS.replace("FUNCTION", function.group())
    argv = ["sh", "-c", script, "sh", str(medium), str(work), digest, algorithm, str(busy_s)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def line(content: str, name: str = "tool_1_amd64.deb", algorithm: str = "sha256") -> str:
    """A line of the list."""
    return f"{hashlib.new(algorithm, content.encode()).hexdigest()}  {name}\n"


def test_an_empty_list_installs_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_listed_packages_are_installed(tmp_path: Path, algorithm: str) -> None:
    done = run(tmp_path, line("package", algorithm=algorithm), None, algorithm)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "debs").read_text() == "./tool_1_amd64.deb\n"


@pytest.mark.parametrize(
    ("sums", "named", "code"),
    [
        ("", line("package"), 11),  # the list emptied
        (line("another"), None, 11),  # the package exchanged
        (line("package") + line("package", "-x.deb"), None, 13),
    ],
)
def test_what_start_does_not_name_is_refused(tmp_path: Path, sums: str, named: str | None, code: int) -> None:
    assert run(tmp_path, sums, named).returncode == code


@pytest.mark.parametrize(("busy_s", "code"), [(12, 0), (1000, 46)])
def test_a_dpkg_that_outlived_its_run_is_waited_for(tmp_path: Path, busy_s: int, code: int) -> None:
    """apt's dpkg goes on when apt-get is killed, and holds the lock."""
    done = run(tmp_path, line("package"), busy_s=busy_s)
    reached = "apt-get was reached" in (tmp_path / "work/apt.log").read_text()
    assert (done.returncode, reached) == (code, code == 0), done.stderr
    assert ("pgrep -a dpkg" in done.stderr) == (code != 0)
