"""What a test does inside a guest, all of it over ssh: commands, files, shares, disks, restarts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

import paramiko
import testinfra.host  # type: ignore[import-untyped]

from .hosts import Host
from .images import Image, client_key
from .qemu import Share
from .shell import Shell
from .ssh import Result, Ssh, put_command
from .testinfra_backend import HarnessBackend

_LOOK_S = 20.0  # how often a guest that does not answer is asked whether it lives
BOOT_S = 900.0  # under TCG: 40 s at best, more than six minutes seen with a load of four a core


class Guest:
    """The inside of a machine that runs; `Machine` adds the outside."""

    host: Host
    image: Image
    shares: Mapping[str, Share]
    work_dir: Path
    ssh: Ssh
    ports: Mapping[str, int]
    started: float  # time.monotonic() of QEMU's start

    @property
    def serial_log(self) -> Path:
        """What the guest wrote to its serial line."""
        return self.work_dir / "serial.log"

    @property
    def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to the guest's port 22."""
        return self.ports["ssh"]

    @property
    def https_port(self) -> int:
        """The port on 127.0.0.1 that leads to the guest's port 443."""
        return self.ports["https"]

    def start(self) -> None:
        """Start it; the guest boots from here on."""
        raise NotImplementedError

    def kill(self) -> None:
        """Pull the plug: what the guest has not written is lost. Disks stay."""
        raise NotImplementedError

    # Commands

    def wait_ssh(self, timeout_s: float = BOOT_S) -> float:
        """Wait until a login works and return the seconds since QEMU started.

        Raises:
            TimeoutError: When it does not in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.ssh.wait(max(1.0, min(_LOOK_S, deadline - time.monotonic())))
                return time.monotonic() - self.started
            except TimeoutError as error:
                if time.monotonic() > deadline or "Kernel panic" in self._serial():
                    raise TimeoutError(f"{self.host.name}: {error}; the serial line ends:\n{self._serial()}") from error

    def run(
        self, command: str, stdin: bytes | Path | None = None, timeout_s: float = 300.0, check: bool = True
    ) -> Result:
        """Run a shell command line in the guest as root.

        Args:
            command: For root's shell.
            stdin: Bytes, or a file of the builder; nothing by default.
            timeout_s: After which the connection's channel is closed (the guest's process may live on).
            check: Whether an exit status other than 0 is an error.

        Raises:
            CommandFailed: With `check`, when it ends otherwise than with 0.
            TimeoutError: When it does not end in time.
        """
        try:
            return self.ssh.run(command, stdin, timeout_s, check)
        except TimeoutError as error:
            error.add_note(f"{self.host.name}: the serial line ends:\n{self._serial()}")
            raise

    def _serial(self) -> str:
        return self.serial_log.read_text(errors="replace")[-4000:]

    def put(self, source: bytes | Path, remote: str, mode: int = 0o644, timeout_s: float = 600.0) -> None:
        """Write bytes or a file of the builder to a file of the guest."""
        self.run(put_command(remote, mode), stdin=source, timeout_s=timeout_s)

    def get(self, remote: str, timeout_s: float = 600.0) -> bytes:
        """Return a file of the guest."""
        return self.run(f"cat -- '{remote}'", timeout_s=timeout_s).stdout

    def shell(self, command: str, screen: TextIO | None = None) -> Shell:
        """Start a command on a terminal, which `screen` shows meanwhile; use it as a context manager."""
        return self.ssh.shell(command, screen)

    def testinfra_host(self) -> testinfra.host.Host:
        """Return a testinfra host for this machine that uses the same login."""
        return testinfra.host.Host(HarnessBackend(self.ssh, self.host.name))

    def ssh_config(self) -> Path:
        """Write an ssh configuration in which the host's name leads to this machine, and return its path."""
        known = self.work_dir / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.ssh_port} {self.image.host_key}\n")
        config = self.work_dir / "ssh_config"
        config.write_text(
            f"Host {self.host.name}\n  HostName 127.0.0.1\n  Port {self.ssh_port}\n  User root\n"
            f"  IdentityFile {client_key()}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n"
        )
        return config

    def mount_share(self, tag: str, at: str) -> None:
        """Mount a 9p share in the guest."""
        options = "trans=virtio,version=9p2000.L,msize=524288,cache=mmap"
        options += ",ro" if self.shares[tag].readonly else ""
        # ssh may answer before udev is through with the devices, and mount does not wait for this one.
        self.run(f"udevadm settle; modprobe 9pnet_virtio; mkdir -p '{at}' && mount -t 9p -o {options} {tag} '{at}'")

    def disk_path(self, serial: str, timeout_s: float = 60.0) -> str:
        """Return the guest's device path of the disk with a serial number; wait for it."""
        deadline = time.monotonic() + timeout_s
        while True:
            listing = self.run("udevadm settle; lsblk -dnro PATH,SERIAL").text
            for line in listing.splitlines():
                path, _, seen = line.partition(" ")
                if seen == serial:
                    return path
            if time.monotonic() > deadline:
                raise TimeoutError(f"no disk {serial}; the guest has:\n{listing}")
            time.sleep(0.3)

    # Power

    def reboot(self, timeout_s: float = BOOT_S) -> float:
        """Restart the guest from inside; return the seconds until a login answers with a new boot id."""
        return self.restarted(lambda: self.run("systemctl reboot", timeout_s=30, check=False), timeout_s)

    def restarted(self, restart: Callable[[], object], timeout_s: float) -> float:
        """Do something that restarts the guest; return the seconds until a login answers with a new boot id."""
        before = self.boot_id()
        start = time.monotonic()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException, TimeoutError):
            restart()
        while time.monotonic() - start < timeout_s:
            self.ssh.close()
            self.wait_ssh(timeout_s - (time.monotonic() - start))
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                if self.boot_id() != before:
                    return time.monotonic() - start
            time.sleep(0.5)
        raise TimeoutError(f"{self.host.name} has not restarted after {timeout_s:.0f} s")

    def boot_id(self) -> str:
        """Return the kernel's id of this boot."""
        return self.run("cat /proc/sys/kernel/random/boot_id", timeout_s=60).text
