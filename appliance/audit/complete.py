"""Whether all that happened was written down, as far as the log itself can tell.

*Intact* (`custody.ledger.verify`) is about what was written. *Complete* is about what was not: an allowed request
that never ended, a process that never stopped, a clock that went back. A crash leaves such marks too, so this is a
list to explain, not proof of a crime. A gateway that never told of a request leaves no mark here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from appliance.audit import keeping
from appliance.audit.fields import SCHEMA
from custody.ledger.moment import Moment, step_ms

#: No request takes longer: `request_s` of the gateway is at most 86,400 s.
_LONGEST_DAYS = 1


@dataclass(frozen=True)
class Gap:
    """Something that is missing or does not fit.

    Attributes:
        seq: of the entry at which it shows.
    """

    seq: int
    what: str


@dataclass
class Judgement:
    """What a log tells of its completeness.

    Attributes:
        admitted: allowed requests.
        denied: refused ones, which do not end.
        completed: allowed requests that ended.
        gaps: in the log's order.
    """

    admitted: int = 0
    denied: int = 0
    completed: int = 0
    gaps: list[Gap] = field(default_factory=list)


@dataclass
class _State:
    found: Judgement
    open: dict[int, str] = field(default_factory=dict)  # when each began
    is_running: bool = False
    last: Moment | None = None
    next: int = 0
    gone_to: int = 0  # all requests below may have expired


def judge(entries: Iterable[tuple[int, bytes]], *, is_live: bool, now: str = "") -> Judgement:
    """Read a whole log.

    Args:
        entries: all of them, from the first; those that have expired are passed over, and nothing is said of them.
        is_live: the process runs now: what is open at the end may still end, unless it began more than a day ago.
        now: UTC, as entries have it; empty: what is open in a live log is not asked how old it is.
    """
    state = _State(Judgement())
    for seq, data in entries:
        if seq > state.next:  # what began before may have ended in what expired
            state.open.clear()
            state.last, state.gone_to = None, seq
        try:
            content = json.loads(data)
            if content["schema"] != SCHEMA or content["seq"] != seq:
                raise ValueError("another schema or number")
            _take(state, seq, content)
        except (ValueError, KeyError, TypeError) as error:
            state.found.gaps.append(Gap(seq, f"not an audit entry: {error}"))
        state.next = seq + 1
    if is_live and now:
        _require_ended(state, "none takes a day", keeping.later(now, -_LONGEST_DAYS))
    elif not is_live:
        _require_ended(state, "the log ends")
        if state.is_running:
            state.found.gaps.append(Gap(max(state.open, default=0), "the log ends without the process having stopped"))
    state.found.gaps.sort(key=lambda gap: gap.seq)
    return state.found


def _take(state: _State, seq: int, content: dict[str, Any]) -> None:
    found, kind = state.found, content["kind"]
    _look_at_clock(state, seq, content)
    if kind in {"admitted", "completed", "stopped", "epoch"} and not state.is_running:
        found.gaps.append(Gap(seq, f"{kind} though the process had not started"))
    if kind == "admitted" and content["decision"] == "allow":
        found.admitted += 1
        state.open[seq] = content["time"]
    elif kind == "admitted":
        found.denied += 1
    elif kind == "completed":
        if content["of"] in state.open:
            del state.open[content["of"]]
            found.completed += 1
        elif content["of"] >= state.gone_to:
            found.gaps.append(Gap(seq, f"ends request {content['of']}, which was not open"))
    elif kind == "started":
        if state.is_running:
            found.gaps.append(
                Gap(seq, "started though the process had not stopped: it was killed, or the power was cut")
            )
        state.is_running = True
    elif kind == "stopped":
        state.is_running = False
    elif kind == "recovered":
        found.gaps.append(Gap(seq, f"a crash left {content['size_bytes']} bytes of a group that was not acknowledged"))


def _look_at_clock(state: _State, seq: int, content: dict[str, Any]) -> None:
    at, last = Moment(content["time"], content["boot_id"], content["monotonic_ms"]), state.last
    if last is not None:
        if at.boot_id == last.boot_id and at.monotonic_ms < last.monotonic_ms:
            state.found.gaps.append(Gap(seq, "the time since the start went back: an entry of another host"))
        elif step := step_ms(last, at):
            state.found.gaps.append(Gap(seq, f"the clock was set by {step / 1000:.1f} s since {last.time}"))
    state.last = at


def _require_ended(state: _State, why: str, before: str = "") -> None:
    """Args: before: only what began before this time; empty: all that is open."""
    late = [seq for seq, time in state.open.items() if not before or time < before]
    state.found.gaps += [Gap(seq, f"request without an end: {why}") for seq in late]
