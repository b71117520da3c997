"""Who judges a bundle in the attack tests: `airgap verify`, `start --check` and the auditor's `check`.

Each runs in a network namespace of its own with no interface, so they also show that checking needs no network.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from bundler.media import kit

AIRGAP = Path(sys.executable).with_name("airgap")
ALONE = ("unshare", "--map-root-user", "--net")
NAMES = ("verify", "start", "check")


@functools.cache
def scripts() -> Path:
    """A folder with `start` and `check` as they travel, but for what a burn fills into `start`."""
    folder = Path(tempfile.mkdtemp(prefix="airgap-judges-"))
    (folder / "start").write_text(kit.script("start.sh"))
    (folder / "check").write_bytes(kit.kit()["check"])
    return folder


def _command(name: str, folder: Path, fingerprint: str) -> list[str]:
    if name == "verify":
        return [*ALONE, str(AIRGAP), "verify", str(folder), "--fingerprint", fingerprint]
    if name == "start":
        return [*ALONE, "sh", str(scripts() / "start"), "--check", str(folder)]
    return [*ALONE, "sh", str(scripts() / "check"), str(folder), fingerprint]


def judge(folder: Path, fingerprint: str) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each of them says, all at once; none of them changes the folder, and none leaves anything behind."""
    before = state(folder)
    with tempfile.TemporaryDirectory() as private:
        running = {
            name: subprocess.Popen(
                _command(name, folder, fingerprint),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                env={**os.environ, "TMPDIR": private},
            )
            for name in NAMES
        }  # fmt: skip
        done = {}
        for name, process in running.items():
            said, errors = process.communicate(fingerprint + "\n", timeout=120)
            done[name] = subprocess.CompletedProcess(process.args, process.returncode, said, errors)
        assert list(Path(private).iterdir()) == []
    assert state(folder) == before
    return done


def require_accepted(folder: Path, fingerprint: str) -> dict[str, subprocess.CompletedProcess[str]]:
    """All of them accept."""
    done = judge(folder, fingerprint)
    assert {name: one.returncode for name, one in done.items()} == dict.fromkeys(NAMES, 0), done
    assert "verdict:   accepted" in done["verify"].stdout
    assert done["start"].stdout.splitlines()[-1] == "accepted"
    assert done["check"].stdout.splitlines()[-1] == "verdict: accept"
    return done


def require_refused(folder: Path, fingerprint: str, code: int, shell_code: int, named: str) -> None:
    """All of them refuse with these exit codes, `airgap verify` with these words, and none with a traceback."""
    done = judge(folder, fingerprint)
    found = {name: one.returncode for name, one in done.items()}
    assert found == {"verify": code, "start": shell_code, "check": shell_code}, done
    assert named in done["verify"].stderr, done["verify"].stderr
    assert "Traceback" not in done["verify"].stderr
    assert "start: " in done["start"].stderr
    assert "accepted" not in done["start"].stdout
    assert done["check"].stdout.splitlines()[-1] == "verdict: refuse"
    assert "refuse  " in done["check"].stdout


def state(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything about a folder that a check might change."""
    found = {}
    for path in sorted(os.fsencode(folder) + b"/" + name for name in _names(os.fsencode(folder))):
        info = os.lstat(path)
        digest = ""
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as stream:  # noqa: PTH123 -- names are bytes here
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found[os.fsdecode(path)] = (info.st_mode, info.st_mtime_ns, digest)
    return found


def _names(folder: bytes) -> list[bytes]:
    return [
        os.path.relpath(os.path.join(where, name), folder)  # noqa: PTH118 -- names are bytes here
        for where, folders, names in os.walk(folder)
        for name in folders + names
    ]
