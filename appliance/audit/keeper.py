"""What the audit process does for the log's age: compress old segments when it is idle, and obey root.

Orders come over a Unix socket of their own, `keep.sock` beside the gateway's: one JSON object, then the end; one comes
back. Only root and the process's own user are heard. What an order asks is judged here, by `keeping`, whoever sends it.

| order | answer |
|---|---|
| `{"hold": {action, name, since, until, reason, who}}`, action `add` or `lift` | `{"seq": n}` |
| `{"expire": {first, receipt, who}}` | `{"seq": n}`: the tombstone's; the text is gone |
| what is refused | `{"error": "..."}` |
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.audit import keeping
from appliance.audit.index import NAME as INDEX
from appliance.audit.wire import peer_uid
from custody.errors import AirgapError, EnvironmentProblem, InputInvalid, LedgerUnwritable, OperatorMistake
from custody.ledger import gone, packed, segment
from custody.ledger.log import TORN
from custody.ledger.moment import now
from custody.ledger.view import View
from custody.report import Reporter

_MAX_BYTES = 64 << 10
#: Seconds between two looks for something to compress; of a log that is never idle, every so many looks do it anyway.
_LOOK_S, _PATIENCE = 10.0, 360
#: Seconds that a peer may take to say what it wants, and that a signature may take.
_SPEAK_S, _SIGN_S = 10.0, 60.0
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: RFC 3339, with no more of a second than entries have; the seconds may be missing.
_INSTANT = re.compile(_DAY.pattern + r"T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,3})?)?(Z|[+-][0-9]{2}:[0-9]{2})")
#: The end of a segment's text in which its last entry stands.
_TAIL_BYTES = segment.ENTRY_MAX_BYTES + 256


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class HoldOrder(_Strict):
    """Add a hold, or lift one; times as entries have them, or empty."""

    action: Literal["add", "lift"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    since: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)?$")] = ""
    until: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)?$")] = ""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    who: Annotated[str, Field(max_length=256)]


class ExpireOrder(_Strict):
    """Take the text of the segment that begins with `first` away."""

    first: Annotated[int, Field(ge=0, le=2**53 - 1)]
    receipt: Annotated[str, Field(max_length=16 << 10)]
    who: Annotated[str, Field(max_length=256)]


class Order(_Strict):
    """One of the two."""

    hold: HoldOrder | None = None
    expire: ExpireOrder | None = None


#: Writes an entry of a kind durably, from any thread; returns its number.
Tell = Callable[[str, Mapping[str, Any]], int]


class Keeper:
    """A thread of the audit process."""

    def __init__(
        self,
        tell: Tell,
        view: View,
        rules: keeping.Rules,
        warm_days: int,
        path: Path,
        reporter: Reporter,
    ) -> None:
        """Begin.

        Args:
            view: names the log; files are read by other views, since this one is its writer's.
            path: of the socket.
        """
        self._tell, self._folder, self._key, self._rules, self._reporter = tell, view.folder, view.key, rules, reporter
        self._warm_days, self._path = warm_days, path
        self._size, self._looks = -1, 0
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(4)
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="keeper")
        self._thread.start()

    def close(self) -> None:
        """End what is under way, and the thread."""
        self._waker.close()
        self._thread.join()
        for each in (self._listener, self._wake):
            each.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [], _LOOK_S)
            if self._wake in ready:
                return
            try:
                if self._listener in ready:
                    self._serve(self._listener.accept()[0])
                elif self._is_time():
                    self._pack_one()
            except (AirgapError, OSError) as error:
                self._reporter.note(f"keeper: {error}")

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            if peer_uid(peer) not in {0, os.geteuid()}:
                return
            peer.settimeout(_SPEAK_S)
            answer: dict[str, Any]
            try:
                answer = {"seq": self._obey(Order.model_validate_json(_all(peer)))}
            except ValidationError as error:
                answer = {"error": f"not an order: {error.error_count()} fields are not as expected"}
            except AirgapError as error:
                answer = {"error": error.message}
            except OSError as error:
                answer = {"error": f"{self._folder}: {error.strerror or error}"}
            except Exception as error:  # whoever asked is not left waiting, and the thread goes on
                answer = {"error": f"a defect of this project: {type(error).__name__}"}
            with suppress(OSError):
                peer.sendall(json.dumps(answer).encode())

    def _obey(self, order: Order) -> int:
        view = View(self._folder, key=self._key)
        if order.hold is not None and order.expire is None:
            return self._hold(view, order.hold)
        if order.expire is not None and order.hold is None:
            return self._expire(view, order.expire)
        raise InputInvalid("expected one of hold and expire", "")

    def _hold(self, view: View, order: HoldOrder) -> int:
        held = keeping.holds(view)
        if (order.name in held) == (order.action == "add"):
            said = "is in force already" if order.name in held else "is not in force"
            raise OperatorMistake(f"hold {order.name}: {said}", "airgap audit hold list")
        if order.until and order.since > order.until:
            raise OperatorMistake(f"hold {order.name}: ends before it begins", "")
        return self._tell("hold", order.model_dump())

    def _expire(self, view: View, order: ExpireOrder) -> int:
        name = segment.name_of(order.first)
        if name not in view.segments()[:-1] or order.first != segment.number_of(name) or not view.has_text(name):
            raise OperatorMistake(f"entry {order.first}: no complete segment begins there whose text is kept", "")
        # A crash came between the tombstone and the text.
        begun = [(seq, found) for seq, found in keeping.of_kind(view, gone.MARK) if found.get("first") == order.first]
        step = keeping.judge(
            view, keeping.span_of(view, name), self._rules, keeping.holds(view), order.receipt.encode(), now().time
        )
        if step.why:
            raise OperatorMistake(f"entries {step.span.first} to {step.span.last}: {step.why}", "")
        stone = gone.prepare(view, name, keeping.keeps)
        if begun and gone.Tombstone.parse(begun[-1][1]) == stone:
            seq = begun[-1][0]
        else:
            span = step.span
            content = {"since": span.since, "until": span.until, "labels": span.labels, "days": step.days}
            seq = self._tell("expired", {**stone.content(), **content, "receipt": order.receipt, "who": order.who})
        self._wait_signed(view, seq)
        gone.remove_text(view, name, stone)
        self._remove_traces(step.span)
        return seq

    def _remove_traces(self, span: keeping.Span) -> None:
        """Take away what else has something of the text: the index, and what a crash left half in the segment."""
        (self._folder / INDEX).unlink(missing_ok=True)
        for file in (self._folder / TORN).glob("[0-9]*"):
            if span.first <= int(file.name) <= span.last:
                file.unlink()

    @staticmethod
    def _wait_signed(view: View, seq: int) -> None:
        until = time.monotonic() + _SIGN_S
        while time.monotonic() < until:
            head = view.checkpoint()
            if head is not None and head.size > seq:
                return
            time.sleep(0.05)
        raise LedgerUnwritable(f"tombstone {seq}: not signed within {_SIGN_S:.0f} s; the text stays", "run it again")

    def _is_time(self) -> bool:
        """Whether the log is idle, or has not been for long."""
        head = View(self._folder, key=self._key).checkpoint()
        size, self._looks = head.size if head is not None else 0, self._looks + 1
        if size != self._size and self._looks < _PATIENCE:
            self._size = size
            return False
        self._size, self._looks = size, 0
        return True

    def _pack_one(self) -> None:
        """Compress the oldest segment whose text is not compressed, if it is old enough."""
        view = View(self._folder, key=self._key)
        for name in view.segments()[:-1]:
            path = view.path(name, segment.TEXT)
            if not path.exists() or not view.has_text(name):
                continue
            if keeping.later(_last_time(view, name), self._warm_days) <= now().time:
                size_bytes = packed.pack(view.disk, path.parent, name)
                self._reporter.note(f"keeper: segment {name} is compressed to {size_bytes} bytes")
            return


def send(path: Path, order: Order, timeout_s: float = 600) -> int:
    """Give the audit process an order, as root.

    Returns:
        The number of the entry that it wrote.

    Raises:
        OperatorMistake: it refused.
        EnvironmentProblem: it is not there.
    """
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(timeout_s)
        try:
            peer.connect(str(path))
            peer.sendall(order.model_dump_json(exclude_none=True).encode())
            peer.shutdown(socket.SHUT_WR)
            answer = json.loads(_all(peer))
        except (OSError, ValueError) as error:
            raise EnvironmentProblem(
                f"{path}: expected the audit process, found: {error}", "as root: systemctl status airgap-audit"
            ) from error
    if "seq" not in answer:
        raise OperatorMistake(str(answer.get("error")), "airgap audit hold list; airgap audit expire --dry-run")
    return int(answer["seq"])


def instant(text: str, *, is_end: bool = False) -> str:
    """A day (2026-11-21, in UTC) or an RFC 3339 time with its offset, as entries have times; empty stays.

    Args:
        is_end: of a day its last moment is meant, not its first.

    Raises:
        InputInvalid: neither.
    """
    if not text:
        return ""
    moment = "T23:59:59.999Z" if is_end else "T00:00Z"
    whole = text + moment if _DAY.fullmatch(text) else text
    try:
        if not _INSTANT.fullmatch(whole):
            raise ValueError("another form")
        return keeping.text_of(datetime.fromisoformat(whole))
    except (ValueError, OverflowError) as error:
        raise InputInvalid(f"{text!r}: expected a day or a time", "2026-11-21, or 2026-11-21T08:00Z") from error


def require_day(text: str) -> None:
    """Refuse what is not a day as entries' times begin with.

    Raises:
        InputInvalid: it is none.
    """
    if not _DAY.fullmatch(text):
        raise InputInvalid(f"{text!r}: expected a day", "2026-11-21")
    instant(text)


def _all(peer: socket.socket) -> bytes:
    data = b""
    while len(data) <= _MAX_BYTES:
        more = peer.recv(_MAX_BYTES)
        if not more:
            return data
        data += more
    raise InputInvalid(f"an order of more than {_MAX_BYTES} bytes", "")


def _last_time(view: View, name: str) -> str:
    """When the last entry of a complete segment was written."""
    file = view.disk.open(view.path(name, segment.TEXT))
    try:
        tail = file.read(max(0, file.size_bytes() - _TAIL_BYTES), _TAIL_BYTES)
    finally:
        file.close()
    line = tail[: tail.rindex(b"\n#")].rpartition(b"\n")[2]
    found: str = json.loads(line)["time"]
    return found
