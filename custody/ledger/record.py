"""Write an event into this machine's custody ledger.

Where there is no ledger nothing is recorded: `airgap ledger init` is a site's decision, and the installer's on an
appliance. Where there is one, nothing that belongs into it happens without it: `ready` refuses before anything is
changed, and what could not be recorded afterwards is an error though it was done.

Of a change of state, which can be looked at later, the event is kept in the ledger's folder before it is made
(`promise`). Whoever changes that state next looks whether it was made, and then records it (`settle`). Both are called
with whatever keeps other changes of the same kind out.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from custody.atomic import sync_folder, write_whole
from custody.errors import AirgapError, LedgerBroken, LedgerUnwritable
from custody.ledger import origin
from custody.ledger.event import Event, parse
from custody.ledger.log import Log, open_log
from custody.ledger.moment import Moment, now, step_ms
from custody.ledger.origin import VKEY
from custody.trust import canonical

#: Of root, on appliances and builders.
FOLDER = Path("/var/lib/airgap/ledger")
#: Within the ledger's folder.
PROMISED = "promised"


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


def promise(event: Event, folder: Path | None = None) -> None:
    """Keep the event of a change that is about to be made; durable when this returns.

    Args:
        event: its digest is of the state after the change.

    Raises:
        LedgerUnwritable: the disk does not take it; nothing is to be changed.
    """
    place = folder or default_folder()
    if not (place / VKEY).exists():
        return
    file = _promise_file(place, event.kind)
    try:
        if not file.parent.exists():
            file.parent.mkdir(mode=0o700)
            sync_folder(place)
        write_whole(file, event.dump(), mode=0o600)
    except OSError as error:
        raise LedgerUnwritable(f"{file}: {error.strerror or error}", "df -h; mount; dmesg | tail") from error


def settle(kind: str, digest: str, folder: Path | None = None) -> None:
    """Record a change that was promised and made, and not recorded; forget one that was not made.

    Args:
        digest: `sha256:HEX` of the state that is in force now.

    Raises:
        LedgerBroken: the ledger was changed, or what was promised makes no sense.
        LedgerUnwritable: the ledger does not take the entry; the promise stays.
    """
    place = folder or default_folder()
    promised = _promised(place, kind)
    if promised is None:
        return
    if promised.digest == digest:
        with open_log(place) as log:
            _tell_torn(log)
            _tell_clock(log)
            # It is there when the process was killed after that, before it removed the promise.
            if all(entry != promised.entry for _number, entry in log.view.entries()):
                log.append([promised.entry])
            log.checkpoint()
    _forget(place, kind)


def record(event: Event, folder: Path | None = None) -> int | None:
    """Write an event down and sign; it is durable when this returns. Its promise is kept with that.

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
            number = log.append([_entry(place, event)])[0]
            log.checkpoint()
    except AirgapError as error:
        raise LedgerUnwritable(
            f"{event.kind}: done, but not recorded: {error.message}",
            error.hint or "mend the ledger, then run this again",
            is_done=True,
        ) from error
    _forget(place, event.kind)
    return number


@dataclass(frozen=True)
class _Promised:
    """An event that was promised: its entry, digest, and when."""

    entry: bytes
    digest: str
    moment: Moment


def _promise_file(place: Path, kind: str) -> Path:
    return place / PROMISED / f"{kind.replace(' ', '-')}.json"


def _promised(place: Path, kind: str) -> _Promised | None:
    """The promise of a kind that lies there.

    Raises:
        LedgerBroken: it is no event of this kind.
    """
    file = _promise_file(place, kind)
    try:
        data = file.read_bytes()
        content = parse(data)
        moment = Moment(content["time"], content["boot_id"], content["monotonic_ms"])
        Event(content["event"], content["subject"], content["digest"], content["details"])
        if content["event"] != kind or canonical.dump(content) != data:
            raise ValueError("another event, or another spelling")
    except FileNotFoundError:
        return None
    except (AirgapError, OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerBroken(
            f"{file}: expected the event {kind!r} as it was promised: {error}",
            "write down what it says, and move it away; it will not be recorded",
        ) from error
    return _Promised(data, content["digest"], moment)


def _entry(place: Path, event: Event) -> bytes:
    """An event's entry; as it was promised, if it was, so that `settle` knows it again."""
    promised = _promised(place, event.kind)
    if promised is not None and event.dump(promised.moment) == promised.entry:
        return promised.entry
    return event.dump()


def _forget(place: Path, kind: str) -> None:
    file = _promise_file(place, kind)
    with suppress(OSError):  # one that stays is looked at again by the next `settle`
        file.unlink(missing_ok=True)
        sync_folder(file.parent)


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
