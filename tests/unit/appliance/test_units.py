"""Masks are links to /dev/null, made once, and what runs is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import units
from tests.unit.appliance.conftest import Programs


@pytest.fixture
def systemd(programs: Callable[..., Programs]) -> Programs:
    """A systemd with nothing active."""
    return programs("appliance.units", answers={})


def test_units_are_masked_once(systemd: Programs, tmp_path: Path) -> None:
    wanted = ["apt-daily.timer", "ifup@.service"]
    assert units.mask(wanted, folder=tmp_path) == units.Masked(tuple(wanted), ())
    assert all((tmp_path / unit).readlink() == Path("/dev/null") for unit in wanted)
    assert units.mask(wanted, folder=tmp_path) == units.Masked((), ())
    assert systemd.calls.count("systemctl daemon-reload") == 1


def test_a_dry_run_masks_and_stops_nothing(systemd: Programs, tmp_path: Path) -> None:
    systemd.answers["systemctl list-units"] = (0, "a.service loaded active running A\n")
    assert units.mask(["a.service"], dry_run=True, folder=tmp_path) == units.Masked(("a.service",), ("a.service",))
    assert list(tmp_path.iterdir()) == []
    assert not systemd.called("systemctl stop")


def test_a_file_of_the_hosts_own_is_kept(systemd: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Path] = []
    monkeypatch.setattr(units, "set_aside", lambda path: (kept.append(path), path.unlink(missing_ok=True)))
    (tmp_path / "a.service").write_text("[Service]\n")
    units.mask(["a.service"], folder=tmp_path)
    assert kept == [tmp_path / "a.service"]


def test_running_units_are_stopped_and_past_ones_left_alone(systemd: Programs, tmp_path: Path) -> None:
    listing = "a.service loaded active running A\nb.service loaded active exited B\nc.timer loaded active waiting C\n"
    systemd.answers["systemctl list-units"] = (0, listing)
    systemd.answers["systemctl show"] = (0, "0")
    assert units.mask(["a.service", "b.service", "c.timer"], folder=tmp_path).stopped == ("a.service", "c.timer")
    assert "systemctl stop -- a.service c.timer" in systemd.calls


def test_what_an_exited_unit_left_behind_is_killed(systemd: Programs, tmp_path: Path) -> None:
    systemd.answers["systemctl list-units"] = (0, "networking.service loaded active exited N\n")
    systemd.answers["systemctl show"] = (0, "1")
    assert units.mask(["networking.service"], kill=True, folder=tmp_path).stopped == ("networking.service",)
    assert "systemctl kill --signal=SIGKILL --kill-whom=all -- networking.service" in systemd.calls
