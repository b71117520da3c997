"""An installation that is killed, or whose host loses power, at random points goes on from the same command."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.killing import points
from tests.vm import path
from tests.vm.machine import Machine

#: About what start and install take under emulation; a point behind the end is an install run twice.
_SPAN_S = 800.0
_CASES = 20
_PASSPHRASE = "/run/medium-passphrase"


@pytest.fixture(scope="module")
def bare(bundled: path.Walk) -> Path:
    """A folder with a bare host's disks and a snapshot of it, site files brought."""
    folder = bundled.work / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    with Machine("appliance", work_dir=folder) as machine:
        machine.wait_ssh()
        path.bring_site(bundled, machine)
        machine.savevm("bare")
    return folder


@pytest.mark.nightly
@pytest.mark.parametrize("case", range(_CASES))
def test_install_goes_on(bundled: path.Walk, medium: Path, bare: Path, case: int) -> None:
    point_s = list(points("install", _CASES, _SPAN_S))[case]
    loses_power = case % 4 == 3
    with Machine("appliance", work_dir=bare, loadvm="bare") as machine:
        machine.wait_ssh()
        path.plug(bundled, machine, medium, readonly=True)
        machine.put(bundled.secrets["medium passphrase"].encode(), _PASSPHRASE, 0o600)
        start = f"sh /root/airgap/start /mnt --medium-passphrase-file {_PASSPHRASE} --site /root/site/site.yml"
        start += " --minimum-version 1"
        typed = path.paper(bundled, "root fingerprint")
        machine.run(f"echo {typed} | setsid sh -c 'echo $$ >/run/session; exec {start}' >/run/said 2>&1 &")
        time.sleep(point_s)
        if not loses_power:
            machine.run("pkill -KILL --session $(cat /run/session)", check=False)
            finish(bundled, machine, point_s)
    if loses_power:
        with Machine("appliance", work_dir=bare) as machine:
            machine.wait_ssh()
            path.bring_site(bundled, machine)
            path.plug(bundled, machine, medium, readonly=True)
            finish(bundled, machine, point_s)


def finish(walk: path.Walk, machine: Machine, point_s: float) -> None:
    """The same command, to its end; the appliance works."""
    path.start(walk, machine, f"start after {point_s:.0f} s")
    assert "network" in path.ask(walk, machine).lower()
    assert machine.run("systemctl list-units --failed --plain --no-legend").text == ""
    assert path.default_routes(machine) == ""
