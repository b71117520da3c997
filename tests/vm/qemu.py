"""QEMU's command line for a host of hosts.yml, and the drives and ports that it names."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .accel import KVM, accelerator
from .hosts import Host
from .images import Image
from .trees import run

CARD = "card"  # netdev id of the guest's own network card: captures hang here
_HUB = 0
# An emulated CPU has nothing to mitigate, though it pays a third for it.
# QEMU before 8.0 leaves operands in the flags at cmpxchg16b: an interrupt right after it saves and restores them, and a
# kernel that allocates its memory with it panics now and then. Programs keep the instruction; NumPy demands it.
_BOOT = {"kvm": "", "tcg": "mitigations=off clearcpuid=cx16"}
#: A start that waits for a device that is locked shows in how long it takes: `path.soon`.
_PATIENCE = "systemd.default_device_timeout_sec=600"


@dataclass(frozen=True)
class Share:
    """A folder of the builder that a guest may mount over 9p."""

    folder: Path
    readonly: bool = True


@dataclass(frozen=True)
class Drive:
    """A disk file and how the guest sees it."""

    name: str
    file: Path
    format: str  # "qcow2" or "raw"
    bus: str  # "virtio" or "usb"
    serial: str


@dataclass(frozen=True)
class Firmware:
    """A start by UEFI and a boot loader, measured into a TPM, in place of QEMU's own start of a kernel.

    Attributes:
        code: flash file, only read.
        variables: flash file with the EFI variables, written to.
        esp: raw disk, a FAT file system, with boot loader, kernel and RAM disk.
        tpm: control socket of an emulated TPM.
    """

    code: Path
    variables: Path
    esp: Path
    tpm: Path


@dataclass(frozen=True)
class Plan:
    """Everything that a start of QEMU depends on."""

    host: Host
    image: Image
    drives: Sequence[Drive]
    shares: Mapping[str, Share]
    ports: Mapping[str, int]  # on 127.0.0.1, by the forward's name
    wire: tuple[int, int]  # UDP ports: where the test's socket is, where QEMU listens
    sockets: Path
    serial_log: Path
    clock: str
    loadvm: str | None
    firmware: Firmware | None = None

    @property
    def accelerator(self) -> str:
        """`kvm` or `tcg`."""
        return "kvm" if accelerator(self.image) == KVM else "tcg"

    @property
    def cpus(self) -> int:
        """The host's; emulated, one: QEMU 7.2 with more at times runs code that the kernel has patched meanwhile."""
        return self.host.cpus if self.accelerator == "kvm" else 1

    def command(self) -> list[str]:
        """Return the argument list; QEMU is killed when the starting thread ends, however it ends."""
        return [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-name", self.host.name),
            *("-machine", "q35,smm=on" if self.firmware else "q35", *accelerator(self.image)),
            *("-nodefaults", "-display", "none"),
            *("-m", str(self.host.memory_mib), "-smp", str(self.cpus), "-rtc", f"base={self.clock}"),
            *(_by_uefi(self.firmware) if self.firmware else self._direct()),
            *("-qmp", f"unix:{self.sockets / 'qmp'},server=on,wait=off"),
            *(
                "-chardev",
                f"socket,id=serial,path={self.sockets / 'serial'},server=on,wait=off,logfile={self.serial_log}",
            ),
            *("-serial", "chardev:serial", "-device", "virtio-rng-pci", "-device", "qemu-xhci,id=xhci"),
            *self._network(),
            *(option for drive in self.drives for option in _drive(drive)),
            *(option for tag, share in self.shares.items() for option in _share(tag, share)),
            *(("-loadvm", self.loadvm) if self.loadvm else ()),
        ]

    def _direct(self) -> Iterator[str]:
        yield from ("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd))
        yield from ("-append", kernel_line(self.image))

    def _network(self) -> Iterator[str]:
        """Join card, user network and the test's socket in a hub.

        The user network answers no IPv6: a router that a guest learns of is one that a test has injected.
        """
        user = "user,id=user,restrict=on,ipv6=off"
        for name, port in self.ports.items():
            user += f",hostfwd=tcp:127.0.0.1:{port}-{self.host.address}:{self.host.forwards[name]}"
        there, here = self.wire
        wire = f"socket,id=wire,udp=127.0.0.1:{there},localaddr=127.0.0.1:{here}"
        yield from ("-netdev", user, "-netdev", f"hubport,id=user-port,hubid={_HUB},netdev=user")
        yield from ("-netdev", wire, "-netdev", f"hubport,id=wire-port,hubid={_HUB},netdev=wire")
        yield from ("-netdev", f"hubport,id={CARD},hubid={_HUB}")
        # A fixed slot gives the card one name in the guest: enp0s16.
        yield from ("-device", f"virtio-net-pci,netdev={CARD},mac={self.host.mac},addr=0x10")


def kernel_line(image: Image) -> str:
    """What an image's kernel is told at its start."""
    accelerated = "kvm" if accelerator(image) == KVM else "tcg"
    return f"root=UUID={image.root_uuid} rw console=ttyS0 quiet {_PATIENCE} {_BOOT[accelerated]}".rstrip()


def make_drives(host: Host, image: Image, work_dir: Path, given: Mapping[str, Path]) -> list[Drive]:
    """Return the host's drives, root first; make the files that are not there.

    Args:
        host: Whose disks.
        image: What the root disk is an overlay of.
        work_dir: Where the qcow2 files lie.
        given: Raw files by the disk's name.

    Raises:
        KeyError: When a file is given for a disk that the host does not have.
    """
    root = work_dir / "root.qcow2"
    if not root.exists():
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk.resolve()), str(root))
    drives = [Drive("root", root, "qcow2", "virtio", "AIRGAPROOT")]
    for name in given:
        _ = host.disks[name]
    for name, spec in host.disks.items():
        file, form = (given[name], "raw") if name in given else (work_dir / f"{name}.qcow2", "qcow2")
        if not file.exists():
            run("qemu-img", "create", "-q", "-f", form, str(file), f"{spec.size_gib}G")
        drives.append(Drive(name, file, form, spec.bus, spec.serial))
    return drives


def free_ports(host: Host) -> tuple[socket.socket, dict[str, int], int]:
    """Return the test's end of the wire, a free TCP port for each forward, and a UDP port for QEMU's end.

    QEMU takes the ports a moment later: should another program be faster, the start is tried again.
    """
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind(("127.0.0.1", 0))
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in host.forwards:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports[name] = listener.getsockname()[1]
        here = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        here.bind(("127.0.0.1", 0))
        return wire, ports, here.getsockname()[1]


def _by_uefi(firmware: Firmware) -> Iterator[str]:
    yield from ("-global", "driver=cfi.pflash01,property=secure,value=on")
    yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={firmware.code}")
    yield from ("-drive", f"if=pflash,unit=1,format=raw,file={firmware.variables}")
    yield from ("-drive", f"if=none,id=esp,format=raw,readonly=on,file={firmware.esp}")
    yield from ("-device", "virtio-blk-pci,drive=esp,bootindex=0")
    yield from ("-chardev", f"socket,id=tpm,path={firmware.tpm}", "-tpmdev", "emulator,id=tpm0,chardev=tpm")
    yield from ("-device", "tpm-crb,tpmdev=tpm0")


def _drive(drive: Drive) -> Iterator[str]:
    device = {
        "virtio": "virtio-blk-pci",
        "usb": "usb-storage,bus=xhci.0,removable=on",
    }[drive.bus]
    yield from ("-drive", f"if=none,id={drive.name},file={drive.file},format={drive.format},discard=unmap,cache=unsafe")
    yield from ("-device", f"{device},drive={drive.name},serial={drive.serial}")


def _share(tag: str, share: Share) -> Iterator[str]:
    readonly = ",readonly=on" if share.readonly else ""
    yield "-virtfs"
    yield f"local,path={share.folder},mount_tag={tag},security_model=none,multidevs=remap{readonly}"
