"""When something happened, by the clock, and by what nobody sets: the boot and the time since."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

#: A leap second is no crime.
_TOLERANCE_MS = 1500
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Moment:
    """A moment on one host.

    Attributes:
        time: RFC 3339, UTC, milliseconds, by the host's clock.
        boot_id: of the kernel; another one after every start.
        monotonic_ms: milliseconds since the start, sleep included; nobody sets it.
    """

    time: str
    boot_id: str
    monotonic_ms: int


def now() -> Moment:
    """This moment on this host."""
    text = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Moment(text, boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


def step_ms(before: Moment, after: Moment) -> int:
    """By how much somebody set the clock between two moments of one host, milliseconds; 0: by no more than a second.

    Within one boot the clock and the time since the start go alike, also when an NTP client slews them: what differs
    was set. Over a start only a clock that went back shows.
    """
    clock = round((_parse(after.time) - _parse(before.time)).total_seconds() * 1000)
    step = clock - (after.monotonic_ms - before.monotonic_ms) if before.boot_id == after.boot_id else min(clock, 0)
    return step if abs(step) > _TOLERANCE_MS else 0


def _parse(time: str) -> datetime:
    return datetime.fromisoformat(time.replace("Z", "+00:00"))


@cache
def boot_id() -> str:
    """Of the running kernel; it does not change while this process lives."""
    return _BOOT_ID.read_text().strip()
