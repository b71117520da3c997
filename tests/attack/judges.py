"""Who judges a bundle in the attack tests: `airgap verify`, `airgap install`, `start --check`, the auditor's `check`.

Each runs in a network namespace of its own with no interface, so they also show that checking needs no network. The
installer runs on a host that has never installed anything, and comes as far as preflight, the last step before
Ansible: this machine is no appliance.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bundler.media import kit
from custody.errors import PreflightFailed
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

AIRGAP = Path(sys.executable).with_name("airgap")
ALONE = ("unshare", "--map-root-user", "--net", "--mount")
NAMES = ("verify", "install", "start", "check")
#: Runs a script in a tree with another openssl; it sees the same temporary files.
_IN_TREE = (
    'for d in /tmp /dev; do mount --rbind $d "$0$d"; done; exec chroot "$0" /usr/bin/env TMPDIR="$TMPDIR" sh "$@"'
)
#: Runs a command on a host that remembers nothing, and prints what it remembers afterwards.
_FRESH = (
    'for d in /run /var/lib; do mount -t tmpfs none $d; done; "$@"; c=$?; cat /var/lib/airgap/state.json 2>&-; exit $c'
)


@functools.cache
def scripts() -> Path:
    """A folder with `start` and `check` as they travel, but for what a burn fills into `start`, and a site file."""
    folder = Path(tempfile.mkdtemp(prefix="airgap-judges-"))
    (folder / "start").write_text(kit.script("start.sh"))
    (folder / "check").write_bytes(kit.kit()["check"])
    (folder / "site.yml").write_text(site_yml(load_hosts()["appliance"]))
    return folder


def _command(name: str, folder: Path, fingerprint: str, modern: Path | None) -> list[str]:
    shell = ["sh"] if modern is None else ["sh", "-c", _IN_TREE, str(modern)]
    if name == "verify":
        return [*ALONE, str(AIRGAP), "verify", str(folder), "--fingerprint", fingerprint]
    if name == "install":
        terms = ("--fingerprint", fingerprint, "--minimum-version", "1", "--site", str(scripts() / "site.yml"))
        models = ("--models", str(folder / "sealed/data/models"))
        return [*ALONE, "sh", "-c", _FRESH, "-", str(AIRGAP), "install", str(folder), *models, *terms]
    if name == "start":
        return [*ALONE, *shell, str(scripts() / "start"), "--check", str(folder)]
    return [*ALONE, *shell, str(scripts() / "check"), str(folder), fingerprint]


def judge(folder: Path, fingerprint: str, modern: Path | None = None) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each of them says, all at once; none of them changes the folder, and none leaves anything behind.

    Args:
        modern: a tree in which the scripts run.
    """
    before = state(folder)
    with tempfile.TemporaryDirectory() as private:
        running = {
            name: subprocess.Popen(
                _command(name, folder, fingerprint, modern),
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


def require_accepted(
    folder: Path, fingerprint: str, modern: Path | None = None
) -> dict[str, subprocess.CompletedProcess[str]]:
    """All of them accept."""
    done = judge(folder, fingerprint, modern)
    codes = {name: one.returncode for name, one in done.items()}
    assert codes == {**dict.fromkeys(NAMES, 0), "install": PreflightFailed.exit_code}, done
    assert remembers(done["install"])["root_fingerprint"]
    assert "verdict:   accepted" in done["verify"].stdout
    assert done["start"].stdout.splitlines()[-1] == "accepted"
    assert done["check"].stdout.splitlines()[-1] == "verdict: accept"
    return done


def require_refused(
    folder: Path,
    fingerprint: str,
    code: int,
    shell_code: int,
    named: str,
    *,
    in_models: bool = False,
    modern: Path | None = None,
) -> None:
    """All of them refuse with these exit codes, `airgap verify` with these words, and none with a traceback.

    Args:
        in_models: the lie is inside of a model, which the installer reads only once, when it copies it.
    """
    done = judge(folder, fingerprint, modern)
    found = {name: one.returncode for name, one in done.items()}
    install_code = PreflightFailed.exit_code if in_models else code
    assert found == {"verify": code, "install": install_code, "start": shell_code, "check": shell_code}, done
    for name in ("verify", "install"):
        assert in_models or named in done[name].stderr, done[name].stderr
        assert "Traceback" not in done[name].stderr
    assert remembers(done["install"]).get("version", 0) == 0, "no release was installed"
    if not in_models:
        assert "preflight" not in done["install"].stderr
    assert "start: " in done["start"].stderr
    assert "accepted" not in done["start"].stdout
    assert done["check"].stdout.splitlines()[-1] == "verdict: refuse"
    assert "refuse  " in done["check"].stdout
    assert not any("\x1b" in one.stdout + one.stderr for one in done.values()), "what a terminal obeys"


def remembers(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the installer's host remembers afterwards; nothing, when it did not come as far as the roots."""
    content: dict[str, Any] = json.loads(done.stdout or "{}")
    return content


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
