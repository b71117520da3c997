"""Which login session a change came from, as the kernel's audit numbers them."""

from __future__ import annotations

from pathlib import Path

_FILE = Path("/proc/self/sessionid")
_NONE = 0xFFFF_FFFF


def session() -> dict[str, int]:
    """`{"session": N}`; empty where the process descends from no login, or the kernel keeps no such numbers."""
    try:
        number = int(_FILE.read_text())
    except (OSError, ValueError):
        return {}
    return {} if number == _NONE else {"session": number}
