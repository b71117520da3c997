"""`start` on hosts with and without a memory: who judges, in which order, and what is left when one says no."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.install import paths, state
from bundler.media import kit
from custody.errors import TrustRejected
from tests.bundles import Made, make
from tests.carried import lay_down

OTHER = "ab" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


class Host:
    """A folder that stands for a host: `start` runs in it with its own constants changed, and nothing else."""

    def __init__(self, made: Made, folder: Path) -> None:
        self.medium, _ = lay_down(made.folder, made.fingerprint, folder / "medium")
        self.fingerprint = made.fingerprint
        self.incoming, self.releases = folder / "incoming", folder / "releases"
        self.state, self.installed, self.said = folder / "state.json", folder / "airgap", folder / "said"
        text = (self.medium / "start").read_text()
        for before, after in (
            ("WORK=/var/lib/airgap/incoming", f"WORK={self.incoming}"),
            ("RELEASES=/opt/airgap/releases", f"RELEASES={self.releases}"),
            ("INSTALLED=/opt/airgap/current/venv/bin/airgap", f"INSTALLED={self.installed}"),
            ("STATE=/var/lib/airgap/state.json", f"STATE={self.state}"),
            ("/run/airgap-start.lock", str(folder / "lock")),
        ):
            assert text.count(before) == 1
            text = text.replace(before, after)
        self.start = folder / "start"
        self.start.write_text(text)

    def run(self, *options: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        argv = ["sh", str(self.start), str(self.medium), "--site", "/nonexistent", *options]
        return subprocess.run(argv, input=f"{typed or self.fingerprint}\n", capture_output=True, text=True, check=False)

    def remember(self, version: int, fingerprint: str) -> None:
        """What `airgap install`, or `airgap trust pin` for version 0, leaves."""
        content = {"schema_version": 1, "version": version, "root_fingerprint": fingerprint}
        self.state.write_text(json.dumps(content, indent=1, sort_keys=True))

    def install(self, exit_code: int) -> None:
        """A release that judges so, and says what it was asked."""
        self.installed.write_text(f'#!/bin/sh\necho "$@" >{self.said}\nls "$2" >>{self.said}\nexit {exit_code}\n')
        self.installed.chmod(0o755)


@pytest.fixture
def host(made: Made, tmp_path: Path) -> Host:
    if os.geteuid() != 0:
        pytest.skip("start wants root")
    return Host(made, tmp_path)


def test_a_host_without_a_memory_is_told_the_lowest_version(host: Host) -> None:
    done = host.run()
    assert (done.returncode, "--minimum-version N" in done.stderr) == (21, True)
    host.remember(0, host.fingerprint)  # pinned, and nothing installed
    assert host.run().returncode == 21
    assert host.run("--minimum-version", "1x").returncode == 21
    assert not host.incoming.exists()


@pytest.mark.parametrize("options", [(), ("--minimum-version", "1"), ("--minimum-version=1",)])
def test_the_installed_release_judges_before_anything_new_is_made(host: Host, options: tuple[str, ...]) -> None:
    host.remember(1, OTHER)  # which root it believes is for the release to judge
    host.install(15)
    done = host.run(*options, "--downgrade-order", str(host.medium / "back.order"))
    assert done.returncode == 15, done.stderr
    asked, *seen = host.said.read_text().splitlines()
    lowest = "--minimum-version 1 " * bool(options)
    assert asked == (
        f"verify {host.incoming}/copy --as-host --models {host.medium}/sealed/data/models"
        f" --fingerprint {host.fingerprint} {lowest}--downgrade-order {host.medium}/back.order"
    )
    assert seen == ["carrier", "sealed"]
    assert not (host.incoming / "copy/sealed/data/models").exists()
    assert list(host.releases.iterdir()) == []


def test_a_pinned_host_wants_its_own_root(host: Host) -> None:
    host.remember(0, OTHER)
    done = host.run("--minimum-version", "1")
    assert (done.returncode, "pinned another fingerprint" in done.stderr) == (14, True)
    assert list(host.releases.iterdir()) == []


def test_another_fingerprint_stops_it_before_the_release_is_asked(host: Host) -> None:
    host.remember(1, host.fingerprint)
    host.install(0)
    assert host.run(typed=OTHER).returncode == 14
    assert not host.said.exists()


def _complete(host: Host) -> Path:
    """The release's folder as an earlier run left it, with an installer that says what it is asked, and where."""
    release = host.releases / "small-1"
    for part in ("sealed", "carrier"):
        shutil.copytree(host.medium / part, release / part)
    shutil.rmtree(release / "sealed/data/models")
    (release / "venv/bin").mkdir(parents=True)
    (release / "venv/complete").touch()
    (release / "venv/bin/airgap").write_text('#!/bin/sh\necho "$@"\n')
    (release / "venv/bin/airgap").chmod(0o755)
    return release


def test_wheels_that_do_not_install_leave_no_environment(host: Host) -> None:
    for _ in range(2):  # this bundle has none
        done = host.run("--minimum-version", "1")
        assert (done.returncode, "the wheels of the medium do not install" in done.stderr) == (42, True), done.stderr
        assert not (host.releases / "small-1/venv").exists()
        assert not (host.incoming / "copy").exists()
        assert not (host.incoming / "bootstrap").exists()


def test_a_release_that_is_there_gets_the_signatures_that_were_judged(host: Host) -> None:
    release = _complete(host)
    (release / "carrier/statement.dsse.json").write_text("signed by one who is revoked now")
    (release / "carrier/sig" / ("0" * 64 + ".sig")).touch()
    assert host.run("--minimum-version", "1").returncode == 0
    for path in (host.medium / "carrier").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (release / path.relative_to(host.medium)).read_bytes()
    assert len(list((release / "carrier/sig").iterdir())) == len(list((host.medium / "carrier/sig").iterdir()))
    assert (release / "venv/complete").exists()


def test_a_second_start_leaves_the_first_one_alone(host: Host, tmp_path: Path) -> None:
    for name in ("copy", "bootstrap", "medium"):
        (host.incoming / name).mkdir(parents=True)
        (host.incoming / name / "file").write_text("of the first")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = host.run("--minimum-version", "1")
    assert (done.returncode, "another start runs" in done.stderr) == (46, True)
    assert {path.name for path in host.incoming.glob("*/file")} == {"file"}
    assert len(list(host.incoming.glob("*/file"))) == 3


def test_a_full_disk_leaves_the_release_its_signatures(host: Host, tmp_path: Path) -> None:
    release = _complete(host)
    before = sorted(path.name for path in (release / "carrier").rglob("*"))
    host.releases.rename(tmp_path / "small")
    host.releases.mkdir()
    full = (
        'mount -t tmpfs -o size=8m none "$1" && cp -a small/. "$1" && ! cat /dev/zero 2>/dev/null >"$1/full" && shift'
    )
    after = (
        f"{full} && sh start medium --minimum-version 1; code=$?; find {release}/carrier ! -name carrier; exit $code"
    )
    argv = ["unshare", "--mount", "sh", "-c", after, "sh", str(host.releases)]
    fingerprint = f"{host.fingerprint}\n"
    done = subprocess.run(argv, input=fingerprint, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, "revocations do not fit" in done.stderr) == (43, True), done
    assert sorted(Path(line).name for line in done.stdout.splitlines()) == before


def test_files_are_named_from_where_it_was_typed(host: Host, tmp_path: Path) -> None:
    _complete(host)
    argv = ["sh", host.start, host.medium, "--site", "here/site.yml", "--minimum-version=1", "--downgrade-order=x"]
    (tmp_path / "here").mkdir()
    # Without a line's end, as from a pipe.
    done = subprocess.run(argv, input=host.fingerprint, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"--site {tmp_path}/here/site.yml --minimum-version=1 --downgrade-order={tmp_path}/x" in done.stdout


def test_a_private_copy_that_does_not_fit_is_not_begun(made: Made, tmp_path: Path) -> None:
    (tmp_path / "check").write_bytes(kit.kit()["check"])
    small = 'mount -t tmpfs -o size=64k none "$1" && TMPDIR=$1 exec sh "$1-check" "$2" "$3"'
    (tmp_path / "small").mkdir()
    (tmp_path / "check").rename(tmp_path / "small-check")
    argv = ["unshare", "--map-root-user", "--mount", "sh", "-c", small, "sh", tmp_path / "small", made.folder]
    done = subprocess.run([*argv, made.fingerprint], capture_output=True, text=True, check=False)
    assert (done.returncode, "for a private copy" in done.stdout) == (43, True), done
    argv = ["sh", tmp_path / "small-check", tmp_path / "none/at/all", made.fingerprint]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "verdict: none" in done.stdout) == (20, True), done


def test_a_pin_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STATE", tmp_path)
    assert state.pin(OTHER) is True
    assert state.pin(OTHER) is False
    with pytest.raises(TrustRejected, match="pinned abab"):
        state.pin("cd" * 32)
    assert state.load_state().root_fingerprints == (OTHER,)
