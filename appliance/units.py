"""Mask systemd units, whether they exist or not, and stop those that run.

A mask is a link to /dev/null in /etc/systemd/system, so that a package that comes later cannot start the unit either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.before import set_aside
from custody._run import run

UNITS = Path("/etc/systemd/system")
_NOWHERE = Path("/dev/null")


@dataclass(frozen=True)
class Masked:
    """Units whose mask is new, and units that ran and no longer do."""

    masked: tuple[str, ...]
    stopped: tuple[str, ...]


def mask(units: Sequence[str], *, kill: bool = False, dry_run: bool = False, folder: Path = UNITS) -> Masked:
    """Mask units and stop them.

    Args:
        units: full names; `ifup@.service` masks every instance.
        kill: end their processes with SIGKILL and leave it at that: a program that tidies up on its way out (a DHCP
            client that gives its address back) shall not get to.
        dry_run: only say what would change.
        folder: where masks lie; another one only in tests.
    """
    new = tuple(unit for unit in units if not _is_masked(folder / unit))
    if not dry_run:
        for unit in new:
            set_aside(folder / unit)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / unit).symlink_to(_NOWHERE)
        if new:
            run(["systemctl", "daemon-reload"])
    running = _running(units)
    if running and not dry_run:
        if kill:
            run(["systemctl", "kill", "--signal=SIGKILL", "--kill-whom=all", "--", *running], ok=range(256))
            run(["systemctl", "reset-failed", "--", *running], ok=range(256))
        else:
            run(["systemctl", "stop", "--", *running], timeout_s=120)
    # A killed one-shot unit stays "active (exited)" until the next boot, with nothing in it: not a change each time.
    return Masked(new, running)


def _is_masked(path: Path) -> bool:
    return path.is_symlink() and path.readlink() == _NOWHERE


def _running(units: Sequence[str]) -> tuple[str, ...]:
    """Units out of `units`, instances of templates too, that are active and have more than a past."""
    patterns = [unit.replace("@.", "@*.") for unit in units]
    listing = run(
        ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,reloading", "--", *patterns]
    ).text
    found = []
    for line in listing.splitlines():
        name, _load, _active, sub, *_ = line.split()
        # A one-shot unit that has exited may have left a program behind: ifupdown's DHCP client.
        if sub != "exited" or _has_processes(name):
            found.append(name)
    return tuple(sorted(found))


def _has_processes(unit: str) -> bool:
    return run(["systemctl", "show", "--property=TasksCurrent", "--value", unit]).text not in {"0", "[not set]"}
