"""The emulated self-encrypting drive in a guest: a unit that serves it on loopback, and its power switch.

The drive and the host that uses it are one machine, so nothing of it is on the guest's card, and its firewall stays
closed. The kernel connects by `/dev/nvme-fabrics` itself; the guest needs Python alone. After a restart of the guest
the unit serves and connects the drive again, before any LUKS volume is opened.
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
import time
from collections.abc import Collection
from pathlib import Path

from tests.opal_drive.faults import Fault

from .guest import Guest

CODE = "/opt/opal-drive"
STATE = "/var/lib/opal-drive"
_TESTS = Path(__file__).parents[1]
# A guest under emulation stands still for seconds: a drive that is late is not gone, and is never given up.
_PATIENCE = "nr_io_queues=2,keep_alive_tmo=120,reconnect_delay=1,ctrl_loss_tmo=-1"
# Beside what any early service says: it stays until every volume on it is closed.
_UNIT = """\
[Unit]
Description=Emulated self-encrypting drive {serial}
DefaultDependencies=no
After=systemd-remount-fs.service systemd-tmpfiles-setup-dev.service
Before=cryptsetup-pre.target shutdown.target
Wants=cryptsetup-pre.target
Conflicts=shutdown.target
StartLimitIntervalSec=0

[Service]
Type=exec
WorkingDirectory={code}
ExecStartPre=rm -f {control}
ExecStart={python} -m tests.opal_drive --image {image} --size-mib {size_mib} --serial {serial} \
--listen 127.0.0.1:{port} --control {control} --verbose{faults}
ExecStartPost={code}/connect {port} {nqn} {control}
ExecStop={code}/disconnect {nqn}
TimeoutStartSec=600
# Without the drive, whoever writes to it waits for ever.
OOMScoreAdjust=-1000
Restart=always
RestartSec=1

[Install]
WantedBy=sysinit.target
"""
_CONNECT = f"""\
#!/bin/sh -e
# connect PORT NQN CONTROL: nothing is done where the kernel is connected, or connects again by itself
grep -qsx "$2" /sys/class/nvme/*/subsysnqn && exit
modprobe nvme-tcp
until [ -S "$3" ]; do kill -0 "$MAINPID"; sleep 0.2; done
echo "transport=tcp,traddr=127.0.0.1,trsvcid=$1,nqn=$2,{_PATIENCE}" >/dev/nvme-fabrics
"""
_DISCONNECT = """\
#!/bin/sh
# disconnect NQN: only while the drive still answers; one that crashed is waited for
[ -n "$MAINPID" ] || exit 0
for name in $(grep -lsx "$1" /sys/class/nvme/*/subsysnqn); do echo 1 >"${name%/*}/delete_controller"; done
"""
# What `python -m tests.opal_drive.control` does, in a third of its time: nothing is imported that is not needed.
_ASK = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(sys.argv[2].encode() + b"\\n")
    while block := connection.recv(65536):
        sys.stdout.write(block.decode())
"""


class OpalGuestDrive:
    """One drive of a guest."""

    def __init__(
        self,
        guest: Guest,
        serial: str = "OPAL0001",
        *,
        size_mib: int = 256,
        port: int = 4420,
        faults: Collection[Fault] = (),
        python: str = "/usr/bin/python3",
    ) -> None:
        """Describe a drive; `start` makes it.

        Args:
            serial: At most 20 letters and digits; two drives of a guest differ in it, and in `port`.
            faults: See tests/opal_drive/README.md.
            python: The guest's Python, 3.11 or newer.
        """
        self.guest = guest
        self.serial = serial
        self.size_mib = size_mib
        self.port = port
        self.faults = frozenset(faults)
        self.image = f"{STATE}/{serial}.img"
        self.unit = f"opal-drive-{serial}.service"
        self.nqn = f"nqn.2026-01.org.example:opal-drive:{serial}"
        self._control = f"/run/opal-drive-{serial}.sock"
        self._python = python

    # Life

    def start(self) -> str:
        """Install and start the drive, connect the kernel to it, and return its path, such as `/dev/nvme0n1`.

        One that runs is stopped first: a changed `faults` counts from the next `start` on. Its image stays.
        """
        names = sorted(fault.value for fault in self.faults)
        unit = _UNIT.format(
            serial=self.serial,
            code=CODE,
            python=self._python,
            image=self.image,
            size_mib=self.size_mib,
            port=self.port,
            control=self._control,
            nqn=self.nqn,
            faults="".join(f" --fault {name}" for name in names),
        )
        # Compiled once: an emulated guest takes longer for that than for all that the drive does.
        compiled = f"{self._python} -m compileall -q {CODE}"
        self.guest.run(
            f"mkdir -p {CODE} && tar -xC {CODE} && {compiled} && install -d -m 0700 {STATE}", stdin=_packed()
        )
        self.guest.put(_CONNECT.encode(), f"{CODE}/connect", 0o755)
        self.guest.put(_DISCONNECT.encode(), f"{CODE}/disconnect", 0o755)
        self.guest.put(unit.encode(), f"/etc/systemd/system/{self.unit}")
        self.guest.run(f"systemctl daemon-reload; systemctl -q enable {self.unit}; systemctl restart {self.unit}")
        return self.wait()

    def stop(self) -> None:
        """Disconnect the kernel and stop the drive; its image stays."""
        self.guest.run(f"systemctl stop {self.unit}")

    def kill(self) -> None:
        """Kill the drive's process, as a crash of its firmware would; the unit starts it again."""
        self.guest.run(f"systemctl kill --signal KILL {self.unit}")

    def wait(self, timeout_s: float = 120.0) -> str:
        """Wait until the kernel is connected and the drive's disk is there; return its path.

        Raises:
            TimeoutError: When it is not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self._is_live():
            if time.monotonic() > deadline:
                raise TimeoutError(f"drive {self.serial} is not back; its log ends:\n{self.log()[-3000:]}")
            time.sleep(0.3)
        return self.guest.disk_path(self.serial, timeout_s)

    def _is_live(self) -> bool:
        """Tell whether the kernel's controller is one that the drive has known since its last power-on."""
        look = f"cat $(dirname $(grep -lsx {self.nqn} /sys/class/nvme/*/subsysnqn))/state"
        if self.guest.run(look, check=False).text != "live":
            return False
        said = self._ask("status", check=False)
        return bool(said) and bool(json.loads(said)["hosts"])

    # What is on the label, and what it did

    @property
    def psid(self) -> str:
        """The PIN of the label, for a revert."""
        return str(self._state()["psid"])

    @property
    def msid(self) -> str:
        """The PIN that anybody can read: SID's in a new drive."""
        return str(self._state()["msid"])

    @property
    def device(self) -> str:
        """Path of the disk now."""
        return self.guest.disk_path(self.serial)

    def log(self) -> str:
        """Return the journal of the drive: every method and its status since the guest started."""
        return self.guest.run(f"journalctl --unit {self.unit} --output cat").text

    def script(self, text: str, timeout_s: float = 120.0) -> str:
        """Run Python in the guest, with the drive's own code at hand, and return what it prints.

        `tests.opal_drive.client.OpalHost(tests.opal_drive.linux.Passthrough(DEVICE))` speaks Opal beside the kernel.
        """
        return self.guest.run(f"cd {CODE} && {self._python} -", stdin=text.encode(), timeout_s=timeout_s).text

    def _state(self) -> dict[str, object]:
        state: dict[str, object] = json.loads(self.guest.get(f"{self.image}.state"))
        return state

    # The power switch

    def control(self, line: str) -> str:
        """Send a line to the drive's control socket and return the answer.

        Raises:
            AssertionError: The drive does not know that line, or does not run.
        """
        answer = self._ask(line)
        assert not answer.startswith("error:"), answer
        return answer

    def _ask(self, line: str, check: bool = True) -> str:
        command = f"{self._python} -I -S -c {shlex.quote(_ASK)} {self._control} {shlex.quote(line)}"
        return self.guest.run(command, check=check).text

    def power_cycle(self) -> str:
        """Take the drive's power and give it back; wait for the kernel and return the disk's path."""
        self.control("cycle")
        return self.wait()

    def power_off(self) -> None:
        """Take the drive's power: whoever reads from it waits until it is back."""
        self.control("off")

    def power_on(self) -> str:
        """Give power back; wait for the kernel and return the disk's path."""
        self.control("on")
        return self.wait()

    def cut_after(self, steps: int) -> None:
        """Let power go after a number of steps from now, an Opal method or a write each, and come back at once."""
        self.control(f"cut {steps}")

    def status(self) -> dict[str, object]:
        """Return what the drive knows: powered, owned, active, locked, sid_blocked, hosts, steps, last_cut."""
        status: dict[str, object] = json.loads(self.control("status"))
        return status

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes of the image as they lie there, whatever is locked; at most 1 MiB."""
        return bytes.fromhex(self.control(f"peek {offset} {length}"))


def _packed() -> bytes:
    """Return the drive's code as a tar file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for file in (_TESTS / "__init__.py", *sorted((_TESTS / "opal_drive").glob("*.py"))):
            archive.add(file, f"tests/{file.relative_to(_TESTS)}")
    return stream.getvalue()
