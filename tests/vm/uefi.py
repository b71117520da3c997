"""A guest that starts as a real machine does: UEFI, Secure Boot or not, a boot loader, a TPM that measures it all.

The firmware is Debian's OVMF, with Microsoft's keys where Secure Boot is on; shim, systemd-boot and the kernel are the
guest image's own, signed by Debian. The TPM is swtpm, a program.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.swtpm import wait_listening
from tests.vm import qemu
from tests.vm.images import Image, image
from tests.vm.machine import Machine

_OVMF = Path("/usr/share/OVMF")
_CODE = _OVMF / "OVMF_CODE_4M.secboot.fd"
_VARIABLES = {True: _OVMF / "OVMF_VARS_4M.ms.fd", False: _OVMF / "OVMF_VARS_4M.fd"}
#: Where UEFI looks on a removable disk, and what shim starts next, by the path in Debian's packages.
_SIGNED = {
    "EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "EFI/BOOT/grubx64.efi": "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed",
}
_ESP_MIB = 128


class UefiMachine(Machine):
    """A machine whose firmware, boot loader and TPM outlive its starts; `secure_boot` counts at the next one."""

    def __init__(self, host: str, guest: Image, *, work_dir: Path, secure_boot: bool = True) -> None:
        super().__init__(host, guest, work_dir=work_dir)
        self.secure_boot = secure_boot
        self._tpm: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Switch TPM and machine on."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        esp = self.work_dir / "esp.raw"
        if not esp.exists():
            make_esp(self.image, image(self.host.name), esp)
        variables = self.work_dir / f"variables-{self.secure_boot}.fd"
        if not variables.exists():
            shutil.copyfile(_VARIABLES[self.secure_boot], variables)
        self._firmware = qemu.Firmware(_CODE, variables, esp, self._start_tpm())
        super().start()

    def kill(self) -> None:
        """Pull the plug of both."""
        super().kill()
        if self._tpm is not None:
            self._tpm.kill()
            self._tpm.wait()

    def _start_tpm(self) -> Path:
        state, control = self.work_dir / "tpm", self.work_dir / "tpm.ctrl"
        state.mkdir(exist_ok=True)
        control.unlink(missing_ok=True)
        argv = ["setpriv", "--pdeathsig", "KILL", "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}",
                "--ctrl", f"type=unixio,path={control}"]  # fmt: skip
        with (self.work_dir / "tpm.log").open("ab") as log:
            self._tpm = subprocess.Popen(argv, stdout=log, stderr=log)
        wait_listening(control, self.work_dir / "tpm.log")
        return control


def make_esp(guest: Image, base: Image, file: Path) -> None:
    """Write the disk that UEFI starts from, with the kernel of a guest and what packages of its base brought."""
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        stream.truncate(_ESP_MIB << 20)
    subprocess.run(["mformat", "-F", "-i", part, "::"], check=True)
    for folder in ("EFI", "EFI/BOOT", "loader", "loader/entries"):
        subprocess.run(["mmd", "-i", part, f"::{folder}"], check=True)
    files: dict[str, bytes | Path] = {"vmlinuz": guest.kernel, "initrd.img": guest.initrd, **_signed(base)}
    files["loader/loader.conf"] = b"timeout 0\n"
    entry = f"title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions {qemu.kernel_line(guest)}\n"
    files["loader/entries/debian.conf"] = entry.encode()
    for name, content in files.items():
        source = content if isinstance(content, Path) else "-"
        given = None if isinstance(content, Path) else content
        subprocess.run(["mcopy", "-i", part, source, f"::{name}"], check=True, input=given)
    part.rename(file)


def _signed(base: Image) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(base.tree) as tree:
        for member in tree:
            for name, path in _SIGNED.items():
                if member.name.removeprefix("./") == path:
                    stream = tree.extractfile(member)
                    assert stream is not None
                    found[name] = stream.read()
    assert set(found) == set(_SIGNED), f"{base.tree}: expected {_SIGNED.values()}"
    return found
