"""Where a host goes back to when a release does not become healthy. Roles are not run: the links are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bundler.install import install, paths, state
from custody.errors import InstallFailed
from custody.report import SilentReporter


class Host:
    """A host with three releases; no role does anything, and the service of the third does not answer."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, place in (
            ("STATE", "state"),
            ("CURRENT", "current"),
            ("PROGRAM", "airgap"),
            ("RELEASES", "releases"),
        ):
            monkeypatch.setattr(paths, name, folder / place)
        self.releases = [folder / f"releases/demo-{number}" for number in (1, 2, 3)]
        for release in self.releases:
            (release / "venv").mkdir(parents=True)
            (release / "venv/complete").touch()
        for name in ("require", "role_variables", "run_playbook", "record"):
            monkeypatch.setattr(install, name, lambda *_: None)
        for name in ("make_environment", "copy_models"):
            monkeypatch.setattr(install.stage, name, lambda *_: None)
        monkeypatch.setattr(install.os.path, "ismount", lambda _: True)
        monkeypatch.setattr(install, "require_healthy", self._ask)

    def _ask(self, _site: object) -> None:
        raise InstallFailed("not healthy", "")

    def fail(self, release: Path) -> str:
        """Install a release that does not become healthy; the name of the one that is current then."""
        prepared = install.Prepared(cast(Any, None), cast(Any, None), cast(Any, None), release, (), None)
        with pytest.raises(InstallFailed):
            install.install(prepared, SilentReporter())
        return paths.CURRENT.resolve().name


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def _remember(release: str) -> None:
    state.change(lambda known: known.model_copy(update={"version": 1, "channel": "demo", "release": release}))


def test_an_unhealthy_release_leads_back_to_the_one_before(host: Host) -> None:
    first, second, third = host.releases
    assert host.fail(first) == "demo-1"  # there is none
    _remember("demo-1")
    assert host.fail(second) == "demo-1"
    state.switch_release(second)  # as a run leaves it that was killed after the cut-over
    assert host.fail(second) == "demo-1"
    state.switch_release(second)
    assert host.fail(third) == "demo-1"
    state.switch_release(second)
    assert host.fail(first) == "demo-1"


def test_a_release_that_is_gone_is_no_way_back(host: Host) -> None:
    first, second, _ = host.releases
    _remember("demo-1")
    (first / "venv/complete").unlink()
    assert host.fail(second) == "demo-2"


def test_a_host_that_remembers_none_goes_back_to_what_was_current(host: Host) -> None:
    first, second, _ = host.releases
    state.switch_release(first)
    assert host.fail(second) == "demo-1"
