"""Everything that is wrong, in one list, before anything is changed.

One module a family of checks. A check yields findings, which stop an installation, and warnings, which do not. The
host's hardware is read below `Case.root`; programs (lsblk, dpkg-query, ss, ip) are the host's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bundler.install.preflight import boot, certificate, disk, driver, memory, network, space, system, waysout
from bundler.install.preflight.finding import Case, Finding, render, require

__all__ = ["Case", "Finding", "preflight", "render", "require"]

_CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    system.check_target,
    system.check_init,
    system.check_packages,
    system.check_clock,
    driver.check_kernel,
    driver.check_secure_boot,
    driver.check_gpu,
    space.check_space,
    memory.check_memory,
    disk.check_disk,
    disk.check_drive,
    boot.check_unattended,
    network.check_card,
    network.check_diode,
    network.check_addresses,
    network.check_ports,
    waysout.check_ways_out,
    certificate.check_secrets,
    certificate.check_certificate,
    certificate.check_client_ca,
)


def preflight(case: Case) -> list[Finding]:
    """All findings and warnings, in the order of the checks; empty when host, site file and bundle fit."""
    return [finding for check in _CHECKS for finding in check(case)]
