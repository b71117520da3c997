"""What systemd says of a unit; units that are masked, whether they exist or not, and stopped if they run.

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


def state(unit: str) -> str:
    """What systemd says of a unit: `active`, `activating`, `failed` and the like."""
    return run(["systemctl", "is-active", unit], ok=range(256)).text or "unknown"


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
    active = _active(units)
    if dry_run:
        return Masked(new, active)
    if active and not kill:
        run(["systemctl", "stop", "--", *active], timeout_s=120)  # first: a timer that is masked while it waits, fails
    for unit in new:
        set_aside(folder / unit)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / unit).symlink_to(_NOWHERE)
    if new:
        run(["systemctl", "daemon-reload"])
    if active and kill:  # last: what is masked is not started again
        run(["systemctl", "kill", "--signal=SIGKILL", "--kill-whom=all", "--", *active], ok=range(256))
    if failed := _listed(units, "failed") if new or active else ():
        run(["systemctl", "reset-failed", "--", *failed], ok=range(256))
    return Masked(new, active)


def _is_masked(path: Path) -> bool:
    return path.is_symlink() and path.readlink() == _NOWHERE


def _active(units: Sequence[str]) -> tuple[str, ...]:
    """Units out of `units` that have more than a past."""
    # A one-shot unit that has exited may have left a program behind: ifupdown's DHCP client.
    return tuple(
        name
        for name, sub in _listed(units, "active,activating,reloading").items()
        if sub != "exited" or _has_processes(name)
    )


def _listed(units: Sequence[str], states: str) -> dict[str, str]:
    """Units out of `units`, instances of templates too, in one of these states: name and sub-state."""
    patterns = [unit.replace("@.", "@*.") for unit in units]
    listing = run(["systemctl", "list-units", "--plain", "--no-legend", f"--state={states}", "--", *patterns]).text
    return {line.split()[0]: line.split()[3] for line in listing.splitlines()}


def _has_processes(unit: str) -> bool:
    return run(["systemctl", "show", "--property=TasksCurrent", "--value", unit]).text not in {"0", "[not set]"}
