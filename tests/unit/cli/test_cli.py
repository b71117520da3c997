"""The command line: help everywhere, exit codes as documented, no traceback, secrets only from private files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import bundler.cli
from custody import errors

AIRGAP = Path(sys.executable).with_name("airgap")
ROOT = Path(__file__).parents[3]


def airgap(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([AIRGAP, *arguments], capture_output=True, text=True, check=False, input=stdin)


@pytest.mark.parametrize("command", list(bundler.cli._MODULES))
def test_every_command_has_help(command: str) -> None:
    done = airgap(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: airgap" in done.stdout


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=4k tmpfs "$1" && head -c 4096 /dev/zero >"$1/fill"; shift; exec "$@"'
    command = [AIRGAP, "keys", "new", "alice", "--out", str(tmp_path), "--passphrase-file", "-"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), *command],
        input="correct horse battery\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == errors.SpaceShort.exit_code
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_codes_are_unique_and_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AirgapError)]
    codes = {kind.exit_code for kind in kinds}
    assert len(codes) == len(kinds)
    assert not codes & {0, 1, 2}
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| \[(\d+)\]", page, re.MULTILINE)}
    assert codes <= documented


def test_a_key_never_leaves_its_passphrase_and_is_never_overwritten(tmp_path: Path) -> None:
    done = airgap("keys", "new", "alice", "--out", tmp_path, "--passphrase-file", "-", stdin="correct horse battery\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alice.key").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "alice.key").read_bytes()
    again = airgap("keys", "new", "alice", "--out", tmp_path, "--passphrase-file", "-", stdin="correct horse battery\n")
    assert again.returncode == errors.TargetRefused.exit_code


def test_short_passphrases_and_open_files_are_refused(tmp_path: Path) -> None:
    short = airgap("keys", "new", "bob", "--out", tmp_path, "--passphrase-file", "-", stdin="short\n")
    assert (short.returncode, "at least 15" in short.stderr) == (errors.SecretRefused.exit_code, True)
    public = tmp_path / "passphrase"
    public.write_text("correct horse battery\n")
    public.chmod(0o644)
    done = airgap("keys", "new", "bob", "--out", tmp_path, "--passphrase-file", public)
    assert (done.returncode, "mode 0644" in done.stderr) == (errors.SecretRefused.exit_code, True)
    assert "correct horse" not in short.stderr + done.stderr
    assert not (tmp_path / "bob.key").exists()


def test_hints_name_the_manual_that_came_with_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = errors.BundleMalformed("small-1: torn")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    bundler.cli.show_error(problem)
    (tmp_path / "share/doc/airgap").mkdir(parents=True)
    bundler.cli.show_error(problem)
    plain, there = (line for line in capsys.readouterr().err.splitlines() if "next: " in line)
    assert plain == "  next: see docs/how-to/troubleshooting.md, section 13"
    assert there == f"  next: see {tmp_path}/share/doc/airgap/how-to/troubleshooting.md, section 13"


def test_errors_name_object_and_next_step(tmp_path: Path) -> None:
    done = airgap("verify", tmp_path, "--fingerprint", "0" * 64)
    assert done.returncode == errors.BundleMalformed.exit_code
    assert str(tmp_path) in done.stderr
    assert "next: " in done.stderr
    assert "Traceback" not in done.stderr
