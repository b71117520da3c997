"""An installation that is killed, or whose host loses power, again and again goes on from the same command."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.killing import points
from tests.vm import path
from tests.vm.machine import Machine

#: The latest stop comes so many seconds into a run; emulated, an install takes 1200, one with nothing to do 300.
_SPAN_S = 600.0
#: Hosts, each of them bare at first, and how often each is stopped on its way.
_HOSTS, _STOPS = 4, 5
_PASSPHRASE = "/run/medium-passphrase"
_ENDED = "/run/ended"


@pytest.fixture(scope="module")
def bare(bundled: path.Walk) -> Path:
    """A folder with a bare host's disks and a snapshot of it."""
    folder = bundled.work / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    with Machine("appliance", work_dir=folder) as machine:
        machine.wait_ssh()
        machine.savevm("bare")
    return folder


@pytest.mark.nightly
@pytest.mark.parametrize("host", range(_HOSTS))
def test_install_goes_on(bundled: path.Walk, medium: Path, bare: Path, host: int) -> None:
    walk = replace(bundled, secrets=dict(bundled.secrets))  # no other host knows its users
    stops_s = list(points("install", _HOSTS * _STOPS, _SPAN_S))[host::_HOSTS]
    with Machine("appliance", work_dir=bare, loadvm="bare") as machine:
        settle(walk, machine, medium)
        for number, stop_s in enumerate(stops_s):
            begin(walk, machine)
            time.sleep(stop_s)
            if number == host:  # each host loses its power once, each at another stage
                machine.kill()
                machine.start()
                settle(walk, machine, medium)
            else:
                machine.run("pkill -KILL --session $(cat /run/session)", check=False)
                # What was not killed came to its end before: well, or this is what was looked for.
                ended = machine.run(f"cat {_ENDED} 2>/dev/null", check=False).text.strip()
                assert ended in ("", "0"), f"stop {number}, {stop_s:.0f} s: {machine.get('/run/said').decode()[-4000:]}"
        path.start(walk, machine, f"start on host {host}")
        assert "network" in path.ask(walk, machine).lower()
        assert machine.run("systemctl list-units --failed --plain --no-legend").text == ""
        assert path.default_routes(machine) == ""


def settle(walk: path.Walk, machine: Machine, medium: Path) -> None:
    """What the site brings to a host that was just switched on."""
    machine.wait_ssh()
    path.bring_site(walk, machine)
    path.plug(walk, machine, medium, readonly=True)
    machine.put(walk.secrets["medium passphrase"].encode(), _PASSPHRASE, 0o600)


def begin(walk: path.Walk, machine: Machine) -> None:
    """Start the installation in a session of its own, and do not wait for it."""
    command = f"sh /root/airgap/start /mnt --medium-passphrase-file {_PASSPHRASE} --site /root/site/site.yml"
    typed = path.paper(walk, "root fingerprint")
    session = f"echo $$ >/run/session; echo {typed} | {command} --minimum-version 1; echo $? >{_ENDED}"
    machine.run(f"rm -f {_ENDED}; setsid sh -c '{session}' >/run/said 2>&1 </dev/null &")
