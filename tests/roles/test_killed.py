"""`kill -9` while Ansible works on a host: nothing is half-written, and the same command again ends as if never killed.

What runs is `run_playbook` with the release's install.yml, for the roles that a container can have whole. The run is a
unit of the container's, so that the kill reaches every process of it at once, dpkg included.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.containers import Container, Tree
from tests.killing import points
from tests.roles import release
from tests.roles.release import RELEASE, VARIABLES
from tests.vm import path

pytestmark = pytest.mark.root

UNIT = "roles-run"
RUN = f"""
import json, pathlib
from bundler.install.ansible import run_playbook
from custody.report import ConsoleReporter
variables = json.loads(pathlib.Path("{VARIABLES}").read_text())
outcome = run_playbook(pathlib.Path("{RELEASE}"), "install.yml", "TAGS", variables, ConsoleReporter())
print(f"changed {{outcome.changed}}")
"""
#: Everything that the roles write, and the state that they leave: what must be the same, killed or not.
FILES = "find /etc -xdev -type f -exec sha256sum {} +; find /etc -xdev -type l -printf '%l  %p\\n'"
STATE = """
systemctl is-active chrony nginx ufw airgap-firewall airgap-engine
systemctl is-enabled chrony nginx ufw airgap-firewall airgap-engine
systemctl show --property=Id,NeedDaemonReload '*' | grep -B1 NeedDaemonReload=yes
nft list table inet airgap | sed 's/packets.*bytes [0-9]*//'
iptables-save -t filter | grep ^-A | sort; sysctl net.ipv4.ip_nonlocal_bind net.ipv6.ip_nonlocal_bind
ls -A /run/airgap/debt; dpkg --audit; ls /usr/sbin/policy-rc.d; true
"""
#: Their content differs from run to run by itself.
VARIES = ("/etc/machine-id", "/etc/.updated", "/etc/ld.so.cache", "/etc/resolv.conf")


def command(container: Container, tags: str) -> list[str]:
    """The installer's Ansible phase as a unit inside."""
    unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={UNIT}")
    return container.enter(*unit, f"{RELEASE}/venv/bin/python", "-I", "-c", RUN.replace("TAGS", tags))


def run(container: Container, tags: str) -> int:
    """Run it to its end, which must be a good one; returns what it changed."""
    done = subprocess.run(command(container, tags), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.split("changed ")[1])


def files(container: Container) -> dict[str, str]:
    """Digest, or target of a link, by path."""
    lines = (line.split("  ", 1) for line in container.run(FILES).text.splitlines())
    return {name: digest for digest, name in lines if name not in VARIES}


def kill(container: Container, tags: str, after_s: float) -> None:
    """Begin a run and kill every process of it."""
    begun = subprocess.Popen(command(container, tags), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(after_s)
    container.run(f"systemctl kill --signal=KILL --kill-whom=all {UNIT}.service")
    assert begun.wait(60) != 0


@pytest.fixture(scope="module")
def walk() -> path.Walk:
    """The bundle."""
    return release.prepared()


class Uncut:
    """A run that nobody killed: how long it took, and the files and state before and after it."""

    def __init__(self, walk: path.Walk, tree: Tree, tags: str) -> None:
        """Do it in a container of its own."""
        with Container("uncut", tree, release.binds(walk)) as container:
            prepare(container, walk, tags)
            self.before = files(container)
            begun_s = time.monotonic()
            assert run(container, tags) > 0
            self.seconds = time.monotonic() - begun_s
            self.after, self.state = files(container), container.run(STATE).text
            assert run(container, tags) == 0


def prepare(container: Container, walk: path.Walk, tags: str) -> None:
    """Give the host what the site brings, and a volume where the engine is wanted."""
    release.furnish(container, walk)
    if "engine" in tags:
        release.give_volume(container, walk)


def check_one(walk: path.Walk, tree: Tree, tags: str, uncut: Uncut, after_s: float) -> None:
    """Kill one run, and hold what comes of it against a run that was not killed."""
    print(f"killed after {after_s:.1f} of {uncut.seconds:.1f} s")
    with Container("killed", tree, release.binds(walk)) as container:
        prepare(container, walk, tags)
        kill(container, tags, after_s)
        for name, digest in files(container).items():
            temporary = Path(name).name.startswith(".") or name.endswith((".dpkg-new", ".dpkg-tmp", ".lock", "-"))
            assert temporary or digest in (uncut.before.get(name), uncut.after.get(name)), f"{name}: half-written"
        run(container, tags)
        assert run(container, tags) == 0
        assert files(container) == uncut.after
        assert container.run(STATE).text == uncut.state


SETTINGS = "base,firewall,engine,gateway"


@pytest.fixture(scope="module")
def uncut(walk: path.Walk) -> Uncut:
    """The reference for kills while settings are made."""
    return Uncut(walk, release.settled(walk), SETTINGS)


def test_killed_while_settings_are_made(walk: path.Walk, uncut: Uncut) -> None:
    for after_s in points("settings", 4, uncut.seconds):
        check_one(walk, release.settled(walk), SETTINGS, uncut, after_s)


def test_killed_while_packages_are_installed(walk: path.Walk) -> None:
    uncut = Uncut(walk, release.installed(walk), "base")
    for after_s in points("packages", 1, uncut.seconds):
        check_one(walk, release.installed(walk), "base", uncut, after_s)
