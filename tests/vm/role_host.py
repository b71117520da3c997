"""A guest with this project's code and what it needs, on which the role storage and `airgap drive` run.

The role and the commands run as they are in this tree; Python's packages for the guest's Python are put into the image.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.opal_drive.faults import Fault
from tests.vm import execs
from tests.vm.images import Image, derive, image
from tests.vm.machine import Machine
from tests.vm.opal import OpalGuestDrive
from tests.vm.ssh import Result
from tests.vm.trees import chroot

ROOT = Path(__file__).parents[2]
SITE, CODE = "/opt/site", "/opt/airgap"
_CODE = ("appliance", "bundler", "custody", "plugins", "roles")
_ENVIRONMENT = (
    f"PYTHONPATH={SITE}:{CODE} ANSIBLE_LIBRARY={CODE}/plugins/modules ANSIBLE_ROLES_PATH={CODE}/roles "
    "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3 ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=false"
)
_PLAY = f"{CODE}/storage.yml"
_AIRGAP = "import sys; from bundler.cli import main; main(sys.argv[1:])"


def host_image() -> Image:
    """The bench, and the project's requirements for its Python."""
    constraints = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return derive(
        image("bench"), "opal-host", commands=["groupadd --system airgap-engine"], prepare=_bring_packages,
        key=hashlib.sha256(constraints).hexdigest(),
    )  # fmt: skip


def _bring_packages(tree: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    requirements = subprocess.run(
        [uv, "pip", "compile", "--quiet", "--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_34",
         "--constraint", ROOT / "constraints.txt", "--only-binary", ":all:", ROOT / "pyproject.toml"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout  # fmt: skip
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python-version", "3.13", "--python-platform", "x86_64-manylinux_2_34",
         "--only-binary", ":all:", "--no-deps", "--target", tree / SITE.strip("/"), "--requirement", "-"],
        check=True, input=requirements, text=True, cwd=ROOT,
    )  # fmt: skip
    chroot(tree, f"python3 -m compileall -q {SITE} || true")


class RoleHost:
    """The guest, its data disk, and what a site would have given it."""

    def __init__(self, machine: Machine, serial: str) -> None:
        self.machine = machine
        self.serial = serial

    def bring_code(self) -> None:
        """Put this tree's code in place."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in _CODE:
                archive.add(ROOT / name, name, filter=_source)
        self.machine.run(f"mkdir -p {CODE} && tar -xC {CODE}", stdin=stream.getvalue())
        self.machine.run(f"python3 -m compileall -q {CODE}")
        execs.watch(self.machine)

    def secret(self, name: str, text: str) -> str:
        """A file of mode 0600 on a tmpfs; returns its path."""
        self.machine.put(text.encode(), f"/run/{name}", 0o600)
        return f"/run/{name}"

    def role(self, **variables: object) -> Result:
        """Run the role storage with -vvv."""
        play = [{
            "hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["storage"],
            "vars": {"storage_serial": self.serial, **variables},
        }]  # fmt: skip
        self.machine.put(json.dumps(play).encode(), _PLAY)
        command = f"cd {CODE} && {_ENVIRONMENT} python3 -m ansible playbook -vvv -i localhost, {_PLAY} 2>&1"
        return self.machine.run(command, check=False, timeout_s=1200)

    def airgap(self, *arguments: str, stdin: str = "") -> Result:
        """Run the command line."""
        command = f"PYTHONPATH={SITE}:{CODE} python3 -c '{_AIRGAP}' {' '.join(arguments)} 2>&1"
        return self.machine.run(command, stdin=stdin.encode(), check=False, timeout_s=600)

    def python(self, script: str, stdin: str) -> Result:
        """Run Python with the product's code at hand."""
        self.machine.put(script.encode(), "/run/script.py")
        command = f"PYTHONPATH={SITE}:{CODE} python3 /run/script.py 2>&1"
        return self.machine.run(command, stdin=stdin.encode(), check=False, timeout_s=600)

    def everything_seen(self) -> str:
        """Arguments and environment of all that was started, and the journal."""
        return execs.seen(self.machine) + self.machine.run("journalctl --no-pager --output cat").text


class OpalHost(RoleHost):
    """Such a guest whose data disk is the emulated self-encrypting drive."""

    def __init__(self, machine: Machine, drive: OpalGuestDrive) -> None:
        super().__init__(machine, drive.serial)
        self.drive = drive


def start(machine: Machine, *faults: Fault) -> OpalHost:
    """Make a started guest such a host."""
    drive = OpalGuestDrive(machine, "OPAL0001", size_mib=96, faults=faults)
    drive.start()
    host = OpalHost(machine, drive)
    host.bring_code()
    return host


def _source(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info
