"""Kernel, headers, driver, Secure Boot and GPU as one tuple. Silent for a bundle without a driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.install.preflight.finding import Case, Finding, entries, read
from bundler.install.preflight.system import host_packages, running_kernel
from custody._run import run

#: PCI ID repository: vendor NVIDIA; base class 03, display controller.
_NVIDIA, _DISPLAY = "0x10de", "0x03"
#: Where Debian's dkms keeps the certificate that it signs modules for (dkms(8), mok_certificate).
_MOK = "/var/lib/dkms/mok.pub"
_EFIVARS = "/sys/firmware/efi/efivars"
#: An efivarfs file begins with four bytes of attributes (kernel, Documentation/filesystems/efivarfs.rst).
_ATTRIBUTES = 4


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it; `ecc` is Enabled, Disabled or [N/A]."""

    name: str
    memory_bytes: int
    ecc: str


def check_kernel(case: Case) -> Iterator[Finding]:
    """The running kernel is the locked one, and its headers, which DKMS builds against, are carried or there."""
    gpu = case.lock.gpu
    if gpu is None:
        return
    running = running_kernel(case)
    if running != gpu.kernel:
        remedy = "boot that kernel, or lock for the one that runs"
        yield Finding(f"kernel for driver {gpu.driver}", gpu.kernel, running or "nothing", remedy)
    if gpu.headers not in _carried(case) | set(host_packages(case)):
        remedy = "lock again with this host's dpkg status"
        expected = f"{gpu.headers}, in the bundle or on the host"
        yield Finding(f"headers for driver {gpu.driver}", expected, "not there", remedy)


def check_secure_boot(case: Case) -> Iterator[Finding]:
    """With Secure Boot on, the kernel loads what DKMS builds only if the host's own key is enrolled."""
    modules = sorted(name for name in _carried(case) if name.endswith("-dkms"))
    if not modules or not secure_boot(case):
        return
    certificate = case.at(_MOK)
    if certificate.is_file() and certificate.read_bytes() in _efivar(case, "MokListRT"):
        return
    yield Finding(
        "Secure Boot",
        f"off, or {_MOK} enrolled as machine owner key, for {', '.join(modules)}",
        "on, and the key is not enrolled" if certificate.is_file() else f"on, and no {_MOK}",
        f"dkms generate_mok; mokutil --import {_MOK}; reboot and confirm at the console",
    )


def secure_boot(case: Case) -> bool:
    """Whether the firmware lets start what its keys signed alone."""
    return _efivar(case, "SecureBoot")[:1] == b"\x01"


def check_gpu(case: Case) -> Iterator[Finding]:
    """A bundle with a driver meets a GPU, with ECC on where the card has it."""
    cards = [
        device.name
        for device in entries(case.at("/sys/bus/pci/devices"))
        if read(device / "vendor") == _NVIDIA and read(device / "class").startswith(_DISPLAY)
    ]
    if case.lock.gpu is None:
        if cards:
            remedy = "if the GPU is to do the work: build a bundle with its driver"
            yield Finding("GPU", "a bundle with its driver", f"{', '.join(cards)}, and none", remedy, False)
        return
    if not cards:
        expected = f"an NVIDIA GPU for driver {case.lock.gpu.driver}"
        yield Finding("GPU", expected, "none", "put the card in, or install a bundle without a driver")
    for number, gpu in enumerate(gpus(case)):
        if gpu.ecc == "Disabled":
            remedy = f"nvidia-smi --id={number} --ecc-config=1, then reboot"
            yield Finding(f"ECC of GPU {number}", "Enabled", f"{gpu.ecc} ({gpu.name})", remedy, False)


def gpus(case: Case) -> list[Gpu]:
    """The GPUs as nvidia-smi tells them; empty before the driver is there."""
    program = case.at("/usr/bin/nvidia-smi")
    if not program.exists() or not case.at("/proc/driver/nvidia/version").exists():
        return []
    asked: list[str | Path] = [
        program,
        "--query-gpu=name,memory.total,ecc.mode.current",
        "--format=csv,noheader,nounits",
    ]
    rows = (line.split(", ") for line in run(asked, timeout_s=60).text.splitlines())
    return [Gpu(name, int(mebibytes) << 20 if mebibytes.isdigit() else 0, ecc) for name, mebibytes, ecc in rows]


def _carried(case: Case) -> set[str]:
    return {deb.package for deb in case.lock.debs if "appliance" in deb.uses}


def _efivar(case: Case, name: str) -> bytes:
    # A long variable of shim is continued in NAME1, NAME2, ...
    files = case.at(_EFIVARS).glob(f"{name}*-*")
    return b"".join(file.read_bytes()[_ATTRIBUTES:] for file in sorted(files))
