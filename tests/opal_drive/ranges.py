"""Locking ranges: which range a block belongs to, whether it is locked, and which ranges may be set.

Follows Core 2.01, section 5.7.2.2 (Locking) and 5.7.3 (interaction of ranges with reads and writes), and Opal SSC,
section 4.3.5.2.1 (where a range may start and end).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import uids
from .state import State
from .tables import Lock


@dataclass(frozen=True)
class Extent:
    """Neighbouring blocks of one range."""

    range_number: int
    block: int
    count: int


def extents(state: State, block: int, count: int) -> Iterator[Extent]:
    """Split blocks by the range that they belong to, in order; what no range holds is the global range's."""
    bounds = sorted(
        (start, start + length, number)
        for number in range(1, state.model.ranges + 1)
        for start, length in [_span(state, number)]
    )
    end = block + count
    for low, high, number in bounds:
        if high <= block or low >= end or low == high:
            continue
        if block < low:
            yield Extent(0, block, low - block)
            block = low
        stop = min(high, end)
        yield Extent(number, block, stop - block)
        block = stop
    if block < end:
        yield Extent(0, block, end - block)


def is_locked(state: State, number: int, *, write: bool) -> bool:
    """Tell whether a range refuses reads or writes; ranges mean nothing until the Locking SP is activated."""
    enabled, locked = (Lock.WRITE_ENABLED, Lock.WRITE_LOCKED) if write else (Lock.READ_ENABLED, Lock.READ_LOCKED)
    row = uids.locking_range(number)
    return state.active and bool(state.locking.get(row, enabled)) and bool(state.locking.get(row, locked))


def any_locked(state: State) -> bool:
    """Tell whether some range refuses reads or writes."""
    numbers = range(state.model.ranges + 1)
    return any(is_locked(state, number, write=write) for number in numbers for write in (False, True))


def is_possible(state: State, number: int, start: int, length: int) -> bool:
    """Tell whether a range may lie there: on the drive, aligned, and over no other range."""
    model = state.model
    if start < 0 or length < 0 or start + length > model.blocks:
        return False
    # LowestAlignedLBA is 0 on this drive, so start and length have the same rule.
    if start % model.alignment_blocks or length % model.alignment_blocks:
        return False
    others = (_span(state, other) for other in range(1, model.ranges + 1) if other != number)
    return not length or all(start >= low + size or low >= start + length for low, size in others if size)


def lock_for_reset(state: State, reset: int) -> None:
    """Lock every range that a reset of this type locks (Core 5.7.2.2.10, LockOnReset)."""
    if not state.active:
        return
    for number in range(state.model.ranges + 1):
        row = uids.locking_range(number)
        on_reset = state.locking.get(row, Lock.ON_RESET)
        if isinstance(on_reset, list) and reset in on_reset:
            pairs = ((Lock.READ_ENABLED, Lock.READ_LOCKED), (Lock.WRITE_ENABLED, Lock.WRITE_LOCKED))
            state.locking.set(row, {locked: 1 for enabled, locked in pairs if state.locking.get(row, enabled)})


def _span(state: State, number: int) -> tuple[int, int]:
    row = uids.locking_range(number)
    return state.locking.number(row, Lock.START), state.locking.number(row, Lock.LENGTH)
