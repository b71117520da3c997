"""The auditor's script: openssl and a shell agree with the code, on what is true and on each lie."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.ledger import origin
from custody.ledger.kit import kit
from custody.ledger.tree import leaf_hash
from custody.ledger.view import View
from tests.unit.ledger.test_foreign import make_log

ACCEPT = 0


def write_kit(view: View, index: int, out: Path) -> Path:
    out.mkdir(parents=True)
    for name, data in kit(view, index).items():
        (out / name).write_bytes(data)
    return out


def check(out: Path, key: Path, shell: str = "dash") -> subprocess.CompletedProcess[str]:
    """As an auditor calls it: no environment, and none of this project."""
    return subprocess.run([shell, out / "check", out, key], capture_output=True, text=True, check=False, env={})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 300])
def test_the_script_accepts_every_entry(tmp_path: Path, size: int) -> None:
    view = make_log(tmp_path / "log", size)
    for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        out = write_kit(view, index, tmp_path / str(index))
        done = check(out, tmp_path / "log/log.pem")
        assert (done.returncode, done.stderr) == (ACCEPT, ""), done.stdout
        assert done.stdout.endswith(f"entry        {index} of {size}\nverdict: accept\n")


def test_the_script_runs_in_other_shells(tmp_path: Path) -> None:
    out = write_kit(make_log(tmp_path / "log", 5), 2, tmp_path / "kit")
    assert check(out, tmp_path / "log/log.pem", "bash").returncode == ACCEPT


def _change(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def _path_line(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        head, blank, rest = text.partition("\n\n")
        lines = head.split("\n")
        return "\n".join(lines[:2] + change(lines[2:])) + blank + rest

    return apply


@pytest.mark.parametrize(("name", "change", "code"), [
    ("entry", _change("4", "5"), 19),
    ("entry", lambda text: text + "\n", 19),
    ("proof", _change("index 4", "index 5"), 19),
    ("proof", _change("index 4", "index 04"), 13),
    ("proof", _change("index 4", "index 9999"), 13),
    ("proof", _change("index 4", "index 4; reboot"), 13),
    ("proof", _change("index 4", "index $(id)"), 13),
    ("proof", _change("@v1", "@v2"), 13),
    ("proof", _change("\n9\n", "\n8\n"), 12),
    ("proof", _change("\nsite-7", "\nsite-8"), 12),
    ("proof", _change("\n9\n", "\n9\nextension\n"), 13),
    ("proof", _path_line(lambda path: path[:-1]), 19),
    ("proof", _path_line(lambda path: [*path, path[0]]), 19),
    ("proof", _path_line(lambda path: path[::-1]), 19),
    ("proof", _path_line(lambda path: ["AAAA", *path[1:]]), 13),
    ("proof", _path_line(lambda path: ["$(id)", *path[1:]]), 13),
])  # fmt: skip
def test_the_script_refuses_each_lie(tmp_path: Path, name: str, change: Callable[[str], str], code: int) -> None:
    out = write_kit(make_log(tmp_path / "log", 9), 4, tmp_path / "kit")
    text = (out / name).read_text()
    assert change(text) != text
    (out / name).write_bytes(change(text).encode())
    done = check(out, tmp_path / "log/log.pem")
    assert (done.returncode, "verdict: refuse" in done.stdout) == (code, True), done.stdout + done.stderr
    assert "uid=" not in done.stdout + done.stderr


def test_the_script_refuses_another_log_s_key(tmp_path: Path) -> None:
    out = write_kit(make_log(tmp_path / "log", 9), 4, tmp_path / "kit")
    origin.make(tmp_path / "other", "site-7.example/custody")
    assert check(out, tmp_path / "other/log.pem").returncode == 12


def test_the_manual_s_one_line_makes_the_leaf(tmp_path: Path) -> None:
    view = make_log(tmp_path / "log", 3, 9)
    page = Path(__file__).parents[3] / "docs/design/ledger.md"
    (line,) = (line for line in page.read_text().splitlines() if line.startswith("    zcat -f"))
    command = line.partition("#")[0]
    done = subprocess.run(["sh", "-c", command], cwd=view.folder, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == leaf_hash(view.entry(5)).hex()
