"""Run one guest in QEMU: start, log in, plug a medium, capture its packets, snapshot, reboot.

A machine's card reaches the user network's own services and nothing beyond (`restrict=on`); beside it a socket lets
a test put raw frames on the wire. Both meet the card in a hub. Every port is on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from . import qemu
from .guest import BOOT_S, Guest
from .hosts import Host, load_hosts
from .images import CACHE, Image, client_key, image
from .qmp import Qmp, QmpError
from .ssh import Ssh


@dataclass(frozen=True)
class Capture:
    """A capture that runs: the last file grows with every packet, and a power cycle begins the next one."""

    name: str
    pcaps: list[Path] = field(default_factory=list)


class Machine(Guest):
    """A guest, from `with` to the end of the block.

    QEMU dies with the thread that started it, so start a machine in a thread that lives as long as it is needed.
    """

    def __init__(
        self,
        host: Host | str,
        guest: Image | None = None,
        *,
        work_dir: Path | None = None,
        disks: Mapping[str, Path] | None = None,
        shares: Mapping[str, qemu.Share] | None = None,
        clock: str = "utc",
        loadvm: str | None = None,
    ) -> None:
        """Describe a machine; `start` or `with` runs it.

        Args:
            host: A machine of hosts.yml, or its name.
            guest: The image; by default the host's own.
            work_dir: Where its disks and logs lie. One that exists is used again, disks and all. By default a new
                folder under vm/run below the cache, removed at the end.
            disks: Raw files for disks of the host, by the disk's name; made when missing. The others are qcow2
                files in `work_dir`. A machine with a raw disk that it may write cannot `savevm`.
            shares: 9p file systems by tag; see `mount_share`.
            clock: What QEMU's real-time clock starts with: "utc" or a time such as `2024-11-20T12:00:00`.
            loadvm: Name of a snapshot to continue from.
        """
        self.host = load_hosts()[host] if isinstance(host, str) else host
        self.image = guest or image(self.host.name)
        self.shares = dict(shares or {})
        self._temporary = work_dir is None
        if work_dir is None:
            (CACHE / "run").mkdir(parents=True, exist_ok=True)
            work_dir = Path(tempfile.mkdtemp(prefix=f"{self.host.name}-", dir=CACHE / "run"))
        self.work_dir = work_dir
        self._disks = dict(disks or {})
        self._clock = clock
        self._loadvm = loadvm
        self._firmware: qemu.Firmware | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None
        self._sockets: Path | None = None
        self._media: set[str] = set()
        self._captures: list[Capture] = []
        self.started = 0.0

    # Life

    def start(self) -> None:
        """Start QEMU; the guest boots from here on.

        Raises:
            RuntimeError: When QEMU does not run, with what it said.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._sockets = Path(tempfile.mkdtemp(prefix="airgap-vm-"))  # short: a socket's path has 108 bytes at most
        drives = qemu.make_drives(self.host, self.image, self.work_dir, self._disks)
        for attempt in range(3):
            self._wire, self.ports, inject = qemu.free_ports(self.host)
            self._inject_address = ("127.0.0.1", inject)
            plan = qemu.Plan(
                host=self.host,
                image=self.image,
                drives=drives,
                shares=self.shares,
                ports=self.ports,
                wire=(self._wire.getsockname()[1], inject),
                sockets=self._sockets,
                serial_log=self.serial_log,
                clock=self._clock,
                loadvm=self._loadvm,
                firmware=self._firmware,
            )
            with (self.work_dir / "qemu.log").open("wb") as log:
                self._process = subprocess.Popen(plan.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.started = time.monotonic()
            try:
                self.qmp = Qmp(self._sockets / "qmp")
                break
            except (OSError, QmpError) as error:
                self.kill()
                if attempt == 2:
                    said = (self.work_dir / "qemu.log").read_text(errors="replace")
                    raise RuntimeError(f"QEMU did not start: {said}") from error
        self.accelerator = plan.accelerator
        self._loadvm = None  # a second start boots
        for capture in self._captures:
            self._dump(capture)
        self.ssh = Ssh(self.ports["ssh"], self.image.host_key, client_key())

    def stop(self, timeout_s: float = 120.0) -> None:
        """Shut the guest down in an orderly way; after the timeout pull the plug. Disks stay."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError, EOFError, TimeoutError, QmpError):
                self.qmp.execute("system_powerdown")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """Pull the plug: what the guest has not written is lost. Disks stay."""
        if hasattr(self, "ssh"):
            self.ssh.close()
        if hasattr(self, "qmp"):
            self.qmp.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._wire is not None:
            self._wire.close()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._media.clear()

    def __enter__(self) -> Machine:
        """Start it; wait for nothing."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Pull the plug; a folder of its own goes, unless the block failed and its logs are wanted."""
        self.kill()
        if self._temporary and kind is None:
            shutil.rmtree(self.work_dir, ignore_errors=True)

    def power_cycle(self) -> float:
        """Shut the guest down, switch it on again, and return the seconds until a login answers.

        In place of a reboot: an emulator that has run for long takes four times as long for kernel and RAM disk.
        """
        self.stop(600)
        self.start()
        return self.wait_ssh()

    @property
    def serial_socket(self) -> Path:
        """A unix socket at the other end of the serial line, for one client at a time."""
        if self._sockets is None:
            raise RuntimeError("not started")
        return self._sockets / "serial"

    def reset(self, timeout_s: float = BOOT_S) -> float:
        """Press the reset button; return the seconds until a login answers with a new boot id."""
        return self.restarted(lambda: self.qmp.execute("system_reset"), timeout_s)

    # Media

    def attach_medium(
        self, file: Path, serial: str, *, readonly: bool = False, name: str = "medium", timeout_s: float = 60.0
    ) -> str:
        """Plug a raw file in as a USB disk and return its device path in the guest, such as `/dev/sda`.

        Args:
            file: Raw disk image on the builder.
            serial: What the guest sees as the disk's serial number.
            readonly: Whether the disk is write-protected.
            name: To tell several media apart.
            timeout_s: For the guest to see it.
        """
        backing = {"driver": "file", "filename": str(file)}
        self.qmp.execute("blockdev-add", driver="raw", node_name=name, read_only=readonly, file=backing)
        properties = {"id": f"usb-{name}", "bus": "xhci.0", "drive": name, "serial": serial, "removable": True}
        self.qmp.execute("device_add", driver="usb-storage", **properties)
        self._media.add(name)
        return self.disk_path(serial, timeout_s)

    def detach_medium(self, name: str = "medium", timeout_s: float = 60.0) -> None:
        """Pull a USB disk out; its file is closed when this returns."""
        self.qmp.execute("device_del", id=f"usb-{name}")
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.qmp.execute("blockdev-del", node_name=name)
                break
            except QmpError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self._media.discard(name)

    # Network

    @contextlib.contextmanager
    def capture(self, pcap: Path) -> Iterator[Capture]:
        """Write everything that the guest's card sends and receives to pcap files, as long as the context lasts.

        Args:
            pcap: The first file; the ones after a power cycle are called `NAME-2.pcap` and so on.
        """
        capture = Capture(pcap.stem)
        self._captures.append(capture)
        self._dump(capture, pcap)
        try:
            yield capture
        finally:
            self._captures.remove(capture)
            self.qmp.execute("object-del", id=capture.name)

    def _dump(self, capture: Capture, pcap: Path | None = None) -> None:
        file = pcap or capture.pcaps[0].with_stem(f"{capture.name}-{len(capture.pcaps) + 1}")
        self.qmp.execute("object-add", qom_type="filter-dump", id=capture.name, netdev=qemu.CARD, file=str(file))
        capture.pcaps.append(file)

    def inject(self, frame: bytes) -> None:
        """Put an Ethernet frame on the guest's wire."""
        if self._wire is None:
            raise RuntimeError("not started")
        self._wire.sendto(frame, self._inject_address)

    # Snapshots

    def savevm(self, name: str) -> None:
        """Keep the whole state, memory and disks, in the qcow2 files. Neither a 9p mount nor a medium may be in."""
        self._monitor(f"savevm {name}")

    def loadvm(self, name: str) -> None:
        """Go back to a snapshot; connections into the guest are lost."""
        self.ssh.close()
        self._monitor(f"loadvm {name}")

    def _monitor(self, line: str) -> None:
        said = self.qmp.human(line)
        if said:
            raise QmpError(f"{line}: {said}")
