"""The power switch for tests: a unix socket that takes one line and answers one line. Both ends of it.

python -m tests.opal_drive.control SOCKET COMMAND

`cycle`, `off`, `on`: power. `reset`: hardware reset. `cut N`: lose power after the N-th step from now.
`bios-blocks-sid on|off`: whether Block SID is sent at the next power-on. `status`: JSON. `peek OFFSET LENGTH`: bytes
of the image in hexadecimal, as they lie there.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who asks needs none of the drive, and an emulated guest takes seconds to load it
    from .target import Target

_TIMEOUT_S = 10.0
_MAX_LINE_BYTES = 200
_MAX_PEEK_BYTES = 1 << 20


def serve(path: Path, target: Target) -> None:
    """Listen on a new socket in the background; only the owner may connect."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen()
    threading.Thread(target=_accept, args=(listener, target), name="control", daemon=True).start()


def ask(path: Path, line: str) -> str:
    """Send one line and return the answer.

    Raises:
        OSError: Nobody listens there.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(line.encode() + b"\n")
        with connection.makefile("r", encoding="utf-8") as answer:
            return answer.readline().rstrip("\n")


def answer(target: Target, line: str) -> str:
    """Do what a line says and return the answer; one that makes no sense is answered with `error: …`."""
    match line.split():
        case ["cycle"]:
            target.power_cycle()
        case ["off"]:
            target.power_off()
        case ["on"]:
            target.power_on()
        case ["reset"]:
            target.hardware_reset()
        case ["cut", count] if count.isdecimal() and int(count) > 0:
            with target.drive.lock:
                target.drive.power.cut_after_next(int(count))
        case ["bios-blocks-sid", ("on" | "off") as value]:
            target.drive.bios_blocks_sid = value == "on"
        case ["status"]:
            return json.dumps(status(target))
        case ["peek", offset, length] if offset.isdecimal() and length.isdecimal() and int(length) <= _MAX_PEEK_BYTES:
            return target.drive.peek(int(offset), int(length)).hex()
        case _:
            return f"error: unknown command {line!r}"
    return "ok"


def status(target: Target) -> dict[str, bool | int | str]:
    """Return what a test wants to know of a drive without asking it."""
    drive = target.drive
    with drive.lock:
        return {
            "powered": target.powered,
            "owned": drive.state.owned,
            "active": drive.state.active,
            "locked": drive.any_locked,
            "hosts": target.subsystem.hosts,
            "sid_blocked": drive.tper.sid_blocked,
            "steps": len(drive.power.steps),
            "last_cut": target.last_cut,
        }


def _accept(listener: socket.socket, target: Target) -> None:
    while True:
        connection, _peer = listener.accept()
        try:
            with connection, connection.makefile("r", encoding="utf-8") as lines:
                connection.settimeout(_TIMEOUT_S)
                connection.sendall(answer(target, lines.readline(_MAX_LINE_BYTES)).encode() + b"\n")
        except (OSError, ValueError):  # whoever asked is gone, or sent no text
            continue


if __name__ == "__main__":
    print(ask(Path(sys.argv[1]), " ".join(sys.argv[2:])))
