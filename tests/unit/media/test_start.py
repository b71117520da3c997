"""`start` on hosts with and without a memory: who judges, in which order, and what is left when one says no."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from bundler.install import paths, state
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


def test_a_pin_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STATE", tmp_path)
    assert state.pin(OTHER) is True
    assert state.pin(OTHER) is False
    with pytest.raises(TrustRejected, match="pinned abab"):
        state.pin("cd" * 32)
    assert state.load_state().root_fingerprints == (OTHER,)
