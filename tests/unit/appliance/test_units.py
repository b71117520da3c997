"""Masks are links to /dev/null, made once, and what runs is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import units
from tests.unit.appliance.conftest import Programs

ACTIVE = "systemctl list-units --plain --no-legend --state=active"
FAILED = "systemctl list-units --plain --no-legend --state=failed"


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
    systemd.answers[ACTIVE] = (0, "a.service loaded active running A\n")
    assert units.mask(["a.service"], dry_run=True, folder=tmp_path) == units.Masked(("a.service",), ("a.service",))
    assert list(tmp_path.iterdir()) == []
    assert not systemd.called("systemctl stop")


def test_a_file_of_the_hosts_own_is_kept(systemd: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Path] = []

    def keep(path: Path) -> None:
        kept.append(path)
        path.unlink()

    monkeypatch.setattr(units, "set_aside", keep)
    (tmp_path / "a.service").write_text("[Service]\n")
    units.mask(["a.service"], folder=tmp_path)
    assert kept == [tmp_path / "a.service"]


def test_running_units_are_stopped_and_past_ones_left_alone(systemd: Programs, tmp_path: Path) -> None:
    listing = "a.service loaded active running A\nb.service loaded active exited B\nc.timer loaded active waiting C\n"
    systemd.answers[ACTIVE] = (0, listing)
    systemd.answers["systemctl show"] = (0, "0")
    assert units.mask(["a.service", "b.service", "c.timer"], folder=tmp_path).stopped == ("a.service", "c.timer")
    assert "systemctl stop -- a.service c.timer" in systemd.calls


def test_what_an_exited_unit_left_behind_is_killed(systemd: Programs, tmp_path: Path) -> None:
    systemd.answers[ACTIVE] = (0, "networking.service loaded active exited N\n")
    systemd.answers["systemctl show"] = (0, "1")
    assert units.mask(["networking.service"], kill=True, folder=tmp_path).stopped == ("networking.service",)
    assert "systemctl kill --signal=SIGKILL --kill-whom=all -- networking.service" in systemd.calls


def test_units_are_stopped_before_and_killed_after_they_are_masked(systemd: Programs, tmp_path: Path) -> None:
    systemd.answers[ACTIVE] = (0, "a.timer loaded active waiting A\n")
    for kill, order in ((False, ["stop", "daemon-reload"]), (True, ["daemon-reload", "kill"])):
        systemd.calls.clear()
        (tmp_path / "a.timer").unlink(missing_ok=True)
        units.mask(["a.timer"], kill=kill, folder=tmp_path)
        verbs = [line.split()[1] for line in systemd.calls]
        assert [verb for verb in verbs if verb in {"stop", "kill", "daemon-reload"}] == order


def test_what_had_failed_is_forgotten(systemd: Programs, tmp_path: Path) -> None:
    systemd.answers[FAILED] = (0, "a.service loaded failed failed A\n")
    units.mask(["a.service", "b.service"], folder=tmp_path)
    assert "systemctl reset-failed -- a.service" in systemd.calls
