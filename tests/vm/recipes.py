"""What goes into the guest images: packages, files and commands.

The appliance is as bare as a fresh minimal Debian and as a site would hand it over: an address, a default gateway,
a name server, IPv6 at its defaults, the usual timers. What the install is to remove must be there first. It has no
Python, openssl, cryptsetup, nginx or firewall.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .hosts import Host

RELEASE = "trixie"
SUITES = {"debian": (RELEASE, f"{RELEASE}-updates"), "debian-security": (f"{RELEASE}-security",)}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_BASE = (
    "dbus",
    "debian-archive-keyring",
    "iproute2",
    "kmod",
    "linux-image-amd64",
    "openssh-server",
    "systemd",
    "systemd-sysv",
    "udev",
)
_WORKSTATION = ("cryptsetup", "e2fsprogs", "fdisk", "openssl", "python3")
_BENCH = (
    "cryptsetup",
    "e2fsprogs",
    "fdisk",
    "keyutils",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-rc0t64",
    "nvme-cli",
    "openssl",
    "python3",
    "sedutil",
    "shim-signed",
    "systemd-boot-efi-amd64-signed",
)

# The workstation and the bench start fast: nothing periodic, no log on disk, no login prompt on the serial line.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "serial-getty@ttyS0.service",
    "systemd-tmpfiles-clean.timer",
)


@dataclass(frozen=True)
class Recipe:
    """All that an image is made from, but for the mirror; its digest names the cache entry."""

    name: str
    packages: tuple[str, ...]
    root_gib: int
    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    format: int = 1  # raise when images.py makes something else of the same recipe

    def digest(self) -> str:
        """Return 16 hex digits over the whole recipe and the suites."""
        text = json.dumps([asdict(self), SUITES], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe(host: Host) -> Recipe:
    """Return the recipe of a host's image, which is named like the host.

    Raises:
        KeyError: When there is none for that host.
    """
    extra = {"appliance": (), "bench": _BENCH, "workstation": _WORKSTATION}[host.name]
    files = _files(host)
    commands: tuple[str, ...] = (
        "systemctl enable systemd-networkd.service ssh.service",
        # Else systemd-networkd-wait-online holds every boot until the card has finished with IPv6.
        "systemctl disable systemd-networkd-wait-online.service",
    )
    if host.name != "appliance":
        files["/etc/systemd/journald.conf.d/volatile.conf"] = "[Journal]\nStorage=volatile\n"
        commands += (f"systemctl mask {' '.join(_MASKED)}",)
    return Recipe(host.name, (*_BASE, *extra), host.root_gib, files, commands)


def _files(host: Host) -> dict[str, str]:
    """Return the files that every host has, by absolute path."""
    network = f"""\
[Match]
Name=en*

[Network]
Address={host.address}/{host.prefix_bits}
Gateway={host.gateway}
DNS={host.dns}
"""
    return {
        "/etc/hostname": f"{host.name}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost ip6-localhost\n",
        "/etc/resolv.conf": f"nameserver {host.dns}\n",
        "/etc/systemd/network/10-wired.network": network,
        # Time alone: a guest starts from the kernel and initrd outside of it, and its disk is thrown away.
        "/etc/initramfs-tools/update-initramfs.conf": "update_initramfs=no\n",
        "/etc/dpkg/dpkg.cfg.d/throwaway": "force-unsafe-io\n",
    }
