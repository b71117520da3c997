"""Power goes at a hundred places of a drive's life on a stock Debian 13; whatever was cut, the same command goes on.

Each case begins from a copy of drive and host, cuts one command short, and holds three things: the escrow opens the
drive that the cut left, nothing on the medium reads as it was written, and what says that it succeeded did. Which
command makes how many steps, a whole run of it tells first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from custody.trust.keys import PrivateKey
from tests.vm import role_host
from tests.vm.life import FIRST, SECOND, TEXT, Life
from tests.vm.machine import Machine
from tests.vm.opal import STATE
from tests.vm.ssh import Result

pytestmark = pytest.mark.nightly

#: Places cut in each command, evenly over its steps.
PLACES = {"take over": 30, "unlock": 8, "lock": 2, "rotate": 38, "decommission": 22}
CASES = [(what, place) for what, count in PLACES.items() for place in range(count)]
#: What a command finds.
BEFORE = {"take over": "new", "unlock": "locked", "lock": "open", "rotate": "locked", "decommission": "locked"}
_KEPT = "/var/lib/kept"
_HOSTS = "var/lib/airgap/escrow var/lib/airgap/drive"


@dataclass
class Bench:
    """A guest with a drive whose states are kept, and how many steps each command takes."""

    life: Life
    steps: dict[str, int] = field(default_factory=dict)

    def run(self, command: str) -> Result:
        """A shell command in the guest that succeeds."""
        return self.life.host.machine.run(command, timeout_s=600)

    def keep(self, name: str) -> None:
        """Keep drive and host as they are, the volume closed."""
        drive = self.life.host.drive
        drive.stop()
        self.run(f"mkdir -p {_KEPT}/{name} && cp --sparse=always {drive.image} {drive.image}.state {_KEPT}/{name}/")
        self.run(f"mkdir -p /var/lib/airgap && cd / && mkdir -p {_HOSTS} && tar -cf {_KEPT}/{name}/host.tar {_HOSTS}")
        self.run(f"systemctl start {drive.unit}")
        drive.wait()

    def bring_back(self, name: str) -> None:
        """Let drive and host be what they were."""
        drive = self.life.host.drive
        self.run("systemctl stop srv-airgap.mount; cryptsetup close airgap-data 2>/dev/null || :")
        drive.stop()
        self.run(f"cp --sparse=always {_KEPT}/{name}/*.img* {STATE}/")
        self.run(f"cd / && rm -rf {_HOSTS} && tar -xf {_KEPT}/{name}/host.tar && systemctl start {drive.unit}")
        drive.wait()
        if name == "open":
            self.life.airgap("unlock", "--wait", "0", stdin=FIRST)

    def do(self, what: str) -> Result:
        """Run one of the commands, which may fail."""
        host = self.life.host
        serial = host.drive.serial
        if what == "take over":
            return self.life.take_over()
        if what == "rotate":
            new = host.secret("new", SECOND)
            secrets = ("--secrets", "/run/escrow.json", "--new-passphrase-file", new)
            return host.airgap("drive", "rotate", serial, *secrets, stdin=FIRST)
        if what == "decommission":
            out = ("--secrets", "/run/escrow.json", "--out", "/root")
            return host.airgap("drive", "decommission", serial, *out)
        return host.airgap("drive", what, *(("--wait", "0") if what == "unlock" else ()), stdin=FIRST)

    def prepare(self, what: str) -> None:
        """Bring about what a command finds."""
        self.bring_back(BEFORE[what])
        if what in ("rotate", "decommission"):
            self.life.secrets_file()

    def count(self, what: str) -> int:
        """Steps of a whole run."""
        if what not in self.steps:
            self.prepare(what)
            drive = self.life.host.drive
            begun = _steps(drive.status())
            done = self.do(what)
            assert done.rc == 0, done.text
            self.steps[what] = _steps(drive.status()) - begun
        return self.steps[what]


def _steps(status: dict[str, object]) -> int:
    steps = status["steps"]
    assert isinstance(steps, int)
    return steps


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Machine("bench", role_host.host_image()) as machine:
        machine.wait_ssh()
        life = Life(role_host.start(machine), tmp_path_factory.mktemp("cuts"), PrivateKey.generate())
        made = Bench(life)
        made.keep("new")
        assert "failed=0" in life.role()  # writes the mount's unit, and takes the drive over
        machine.put(TEXT * 4096, "/srv/airgap/models/secret.txt")
        life.airgap("drive", "lock")
        for name in ("locked", "open"):
            made.keep(name)
        yield made


@pytest.mark.parametrize(("what", "place"), CASES)
def test_it_goes_on(bench: Bench, what: str, place: int) -> None:
    whole = bench.count(what)
    bench.prepare(what)
    cut = bench.life.cut(1 + place * whole // PLACES[what], lambda: bench.do(what))
    if cut.rc:
        again = bench.do(what)
        assert again.rc == 0, again.text
    _CHECKS[what](bench)
    assert bench.life.escrow_opens() == (True, True)
    assert bench.life.is_noise()


def _is_taken(bench: Bench) -> None:
    life = bench.life
    assert bench.run("findmnt -no SOURCE /srv/airgap").text == "/dev/mapper/airgap-data"
    secrets = life.secrets()
    device = life.host.drive.device
    opens = f"cryptsetup open --test-passphrase --key-file - {device}"
    life.host.machine.run(opens, stdin=secrets["recovery_key"].encode())
    life.airgap("drive", "lock")
    assert life.reads_fail()


def _is_open(bench: Bench) -> None:
    assert bench.life.host.machine.get("/srv/airgap/models/secret.txt").startswith(TEXT)


def _is_locked(bench: Bench) -> None:
    assert bench.life.reads_fail()
    bench.life.airgap("unlock", "--wait", "0", stdin=FIRST)
    _is_open(bench)


def _is_rotated(bench: Bench) -> None:
    bench.life.airgap("unlock", "--wait", "0", stdin=FIRST, rc=24)
    bench.life.airgap("unlock", "--wait", "0", stdin=SECOND)
    _is_open(bench)


def _is_gone(bench: Bench) -> None:
    statement = json.loads(bench.life.host.machine.get("/root/OPAL0001-decommissioned.dsse.json"))
    assert statement["signatures"]
    assert not bench.life.host.drive.status()["owned"]
    bench.run("rm /root/OPAL0001-decommissioned.*")


_CHECKS: dict[str, Callable[[Bench], None]] = {
    "take over": _is_taken,
    "unlock": _is_open,
    "lock": _is_locked,
    "rotate": _is_rotated,
    "decommission": _is_gone,
}
