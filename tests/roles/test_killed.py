"""`kill -9` while Ansible works on a host: nothing is half-written, and the same command again ends as if never killed.

What runs is `run_playbook` with the release's install.yml, for the roles that a container can have whole. The run is a
unit of the container's, so that the kill reaches every process of it at once, dpkg included.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from appliance import packages
from tests.containers import Container, Tree
from tests.killing import points
from tests.roles import release
from tests.roles.release import RELEASE, VARIABLES
from tests.vm import path

pytestmark = pytest.mark.root

UNIT = "roles-run"
SETTINGS = "base,firewall,engine,audit,gateway"
RUN = f"""
import json, pathlib
from bundler.install.ansible import run_playbook
from custody.report import ConsoleReporter
variables = json.loads(pathlib.Path("{VARIABLES}").read_text())
outcome = run_playbook(pathlib.Path("{RELEASE}"), "install.yml", "TAGS", variables, ConsoleReporter())
print(f"changed {{outcome.changed}}")
"""
#: Everything that the roles write, and the state that they leave: what must be the same, killed or not. Accounts count
#: by name: a package's has the number that was free when dpkg came to it, and after a kill it comes in another order.
FILES = r"""
find /etc -xdev -type f ! -regex '/etc/g?\(passwd\|group\|shadow\)-?' -exec sha256sum {} +
for file in /etc/passwd /etc/group /etc/shadow /etc/gshadow; do
    echo "$(cut -d: -f1 $file | sort | sha256sum | cut -c1-64)  $file"
done
find /etc -xdev -type l -printf '%l  %p\n'
"""
STATE = """
systemctl is-active chrony nginx ufw airgap-firewall airgap-engine-airgap-words airgap-audit airgap-gateway
systemctl is-enabled chrony nginx ufw airgap-firewall airgap-engine-airgap-words airgap-audit airgap-gateway
systemctl show --property=Id,NeedDaemonReload '*' | grep -B1 NeedDaemonReload=yes
nft list table inet airgap | sed 's/packets.*bytes [0-9]*//'
iptables-save -t filter | grep ^-A | sort; sysctl net.ipv4.ip_nonlocal_bind net.ipv6.ip_nonlocal_bind
ls -A /run/airgap/debt; ls /usr/sbin/policy-rc.d; true
"""
#: What a host's own file is called while another stands in for it, and what stands in.
ASIDE = ".airgap-before"
STAND_INS = {sha256(packages.INITRAMFS_TEXT.encode()).hexdigest()}
STEPS = "cat /var/log/dpkg.log | wc -l"
#: Their content differs from run to run by itself.
VARIES = ("/etc/machine-id", "/etc/.updated", "/etc/ld.so.cache", "/etc/resolv.conf")


#: Returns when it is time to kill.
Moment = Callable[[Container, subprocess.Popen[str]], None]


def command(container: Container, tags: str) -> list[str]:
    """The installer's Ansible phase as a unit inside."""
    unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={UNIT}")
    return container.enter(*unit, f"{RELEASE}/venv/bin/python", "-I", "-c", RUN.replace("TAGS", tags))


def run(container: Container, tags: str) -> tuple[int, int]:
    """Run it to its end, which must be a good one; returns what it changed, and how many lines it reported."""
    done = subprocess.run(command(container, tags), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.split("changed ")[1]), len(done.stderr.splitlines())


def files(container: Container) -> dict[str, str]:
    """Digest, or target of a link, by path."""
    lines = (line.split("  ", 1) for line in container.run(FILES).text.splitlines())
    return {name: digest for digest, name in lines if name not in VARIES}


def kill(container: Container, tags: str, moment: Moment) -> None:
    """Begin a run, wait for the moment, and kill every process of the run."""
    begun = subprocess.Popen(command(container, tags), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    moment(container, begun)
    container.run(f"systemctl kill --signal=KILL --kill-whom=all {UNIT}.service")
    begun.communicate(timeout=60)
    assert begun.returncode != 0


def after_lines(point: float, line_s: float) -> Moment:
    """When so many lines were reported, and that part of a line's time has gone by."""

    def wait(_container: Container, begun: subprocess.Popen[str]) -> None:
        assert begun.stderr is not None
        said = [begun.stderr.readline() for _ in range(int(point) + 1)]
        time.sleep(point % 1 * line_s)
        print(f"killed in or after: {said[-1].strip()}")

    return wait


def after_steps(count: int) -> Moment:
    """When dpkg has written so many lines to its log."""

    def wait(container: Container, begun: subprocess.Popen[str]) -> None:
        while int(container.run(STEPS).text) < count:
            assert begun.poll() is None, f"ended before {count} steps of dpkg"
        print(f"killed {container.run('tail -n 1 /var/log/dpkg.log').text}")

    return wait


@pytest.fixture(scope="module")
def walk() -> path.Walk:
    """The bundle."""
    return release.prepared()


@dataclass(frozen=True)
class Uncut:
    """What a run that nobody killed begins and ends with; `state` is None where there is nothing to compare it with."""

    before: dict[str, str]
    after: dict[str, str]
    state: str | None


@dataclass(frozen=True)
class Settings:
    """An uncut run that makes settings, how many lines it reported, and the seconds of one."""

    uncut: Uncut
    lines: int
    line_s: float


@pytest.fixture(scope="module")
def settings(walk: path.Walk) -> Settings:
    """The reference for kills while settings are made."""
    with Container("uncut", release.settled(walk), release.binds(walk)) as container:
        prepare(container, walk)
        before, begun_s = files(container), time.monotonic()
        changed, lines = run(container, SETTINGS)
        line_s = (time.monotonic() - begun_s) / lines
        assert changed > 0
        return Settings(Uncut(before, files(container), container.run(STATE).text), lines, line_s)


def prepare(container: Container, walk: path.Walk) -> None:
    """Give the host what the site brings, and a volume once the role base has made the users."""
    release.furnish(container, walk)
    if container.run("id airgap-engine", check=False).rc == 0:
        release.give_volume(container, walk)


def files_of(walk: path.Walk, tree: Tree) -> dict[str, str]:
    """Digests of a tree's files, started once."""
    with Container("uncut", tree, release.binds(walk)) as container:
        return files(container)


def steps_of(tree: Tree) -> int:
    """Lines that dpkg has written to a tree's log."""
    return len((tree[0] / "var/log/dpkg.log").read_text().splitlines())


def by_role(name: str) -> bool:
    """Whether a role writes a file, and at once; Ansible's and our own temporary files begin with a dot."""
    return not Path(name).name.startswith(".") and not name.endswith((".lock", "-", ASIDE))


def by_us(name: str) -> bool:
    """Whether a file is a role's alone: packages change theirs step by step, and some are put aside meanwhile."""
    return by_role(name) and ("airgap" in name or name == "/etc/chrony/chrony.conf")


def check_one(
    walk: path.Walk, tree: Tree, tags: str, uncut: Uncut, moment: Moment, written: Callable[[str], bool]
) -> None:
    """Kill one run, and hold what comes of it against a run that was not killed."""
    with Container("killed", tree, release.binds(walk)) as container:
        prepare(container, walk)
        kill(container, tags, moment)
        found = files(container)
        for name, digest in found.items():
            if written(name):
                whole = {uncut.before.get(name), uncut.after.get(name)}
                stands_in = digest in STAND_INS and found.get(name + ASIDE) in whole
                assert digest in whole or stands_in, f"{name}: half-written"
        run(container, tags)
        assert run(container, tags)[0] == 0
        assert files(container) == uncut.after
        assert container.run("dpkg --audit").text == ""
        if uncut.state is not None:
            assert container.run(STATE).text == uncut.state


@pytest.mark.parametrize("count", [4, pytest.param(10, marks=pytest.mark.nightly)])
def test_killed_while_settings_are_made(walk: path.Walk, settings: Settings, count: int) -> None:
    for point in points(f"settings {count}", count, settings.lines - 2):
        moment = after_lines(point, settings.line_s)
        check_one(walk, release.settled(walk), SETTINGS, settings.uncut, moment, by_role)


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.nightly)])
def test_killed_while_packages_are_installed(walk: path.Walk, count: int) -> None:
    bare, settled = release.installed(walk), release.settled(walk)  # the second was made of the first by one run
    uncut = Uncut(files_of(walk, bare), files_of(walk, settled), None)
    first = steps_of(bare) + 1
    for point in points(f"packages {count}", count, steps_of(settled) - first):
        check_one(walk, bare, "base", uncut, after_steps(first + int(point)), by_us)
