"""Read hosts.yml, the one table of the test machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

HOSTS = Path(__file__).with_name("hosts.yml")


@dataclass(frozen=True)
class DiskSpec:
    """A disk besides the root disk."""

    size_gib: int
    bus: Literal["virtio", "usb"]
    serial: str  # at most 20 characters: what virtio-blk carries


@dataclass(frozen=True)
class Host:
    """One machine of the table, its network included."""

    name: str
    address: str
    mac: str
    memory_mib: int
    cpus: int
    root_gib: int
    disks: Mapping[str, DiskSpec]
    forwards: Mapping[str, int]
    prefix_bits: int
    gateway: str
    dns: str


def load_hosts(path: Path = HOSTS) -> dict[str, Host]:
    """Return every machine of the table by name."""
    table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    hosts = {}
    for name, row in table["machines"].items():
        disks = {disk: DiskSpec(**spec) for disk, spec in row.pop("disks").items()}
        hosts[name] = Host(name=name, disks=disks, **row, **table["network"])
    return hosts
