"""Write an event into this machine's custody ledger.

Where there is no ledger nothing is recorded: `airgap ledger init` is a site's decision, and the installer's on an
appliance. Where there is one, nothing that belongs into it happens without it: `ready` refuses before anything is
changed, and what could not be recorded afterwards is an error though it was done.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from custody.errors import AirgapError, LedgerUnwritable
from custody.ledger import origin
from custody.ledger.event import Event, parse
from custody.ledger.log import Log, open_log
from custody.ledger.moment import Moment, now, step_ms
from custody.ledger.origin import VKEY

#: Of root, on appliances and builders.
FOLDER = Path("/var/lib/airgap/ledger")


def default_folder() -> Path:
    """Where this user's custody ledger lies."""
    return FOLDER if os.geteuid() == 0 else Path.home() / ".local/state/airgap/ledger"


def begin(folder: Path, name: str, *, before: bytes = b"") -> None:
    """Begin a custody ledger.

    Args:
        before: the last checkpoint of the log that this one goes on from, or that came with the bundle.

    Raises:
        InputInvalid: the name is no origin.
        TargetRefused: there is one already.
    """
    origin.make(folder, name)
    digest = f"sha256:{hashlib.sha256(before).hexdigest()}" if before else ""
    record(Event("begun", name, digest, {"checkpoint": before.decode()} if before else {}), folder)


def begin_here() -> None:
    """Begin this host's ledger, named after the host, unless it has one; and see that it takes entries.

    Raises:
        LedgerBroken: it was changed.
        LedgerUnwritable: it does not take entries.
    """
    if not ready():
        begin(default_folder(), f"{os.uname().nodename}/custody")


def ready(folder: Path | None = None) -> bool:
    """Whether there is a ledger; if there is, it takes entries.

    Raises:
        LedgerBroken: it was changed.
        LedgerUnwritable: it does not take entries.
    """
    place = folder or default_folder()
    if not (place / VKEY).exists():
        return False
    with open_log(place) as log:
        _tell_torn(log)
    return True


def record(event: Event, folder: Path | None = None) -> int | None:
    """Write an event down and sign; it is durable when this returns.

    Returns:
        Its number; None where there is no ledger.

    Raises:
        LedgerUnwritable: what the event tells has happened and is not recorded.
    """
    place = folder or default_folder()
    if not (place / VKEY).exists():
        return None
    try:
        with open_log(place) as log:
            _tell_torn(log)
            _tell_clock(log)
            number = log.append([event.dump()])[0]
            log.checkpoint()
    except AirgapError as error:
        raise LedgerUnwritable(
            f"{event.kind}: done, but not recorded: {error.message}",
            error.hint or "mend the ledger, then run this again",
            is_done=True,
        ) from error
    return number


def _tell_clock(log: Log) -> None:
    """An event of its own when the clock was set since the last one."""
    if not log.size:
        return
    last, at = parse(log.view.entry(log.size - 1)), now()
    step = step_ms(Moment(last["time"], last["boot_id"], last["monotonic_ms"]), at)
    if step:
        log.append([Event("clock set", log.view.key.name, details={"step_ms": step, "before": last["time"]}).dump(at)])


def _tell_torn(log: Log) -> None:
    if log.torn is not None:
        digest = f"sha256:{hashlib.sha256(log.torn.data).hexdigest()}"
        details = {"entry": log.torn.size, "size_bytes": len(log.torn.data)}
        log.append([Event("recovered", log.view.key.name, digest, details).dump()])
        log.checkpoint()
