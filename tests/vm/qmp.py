"""A small client for QEMU's machine protocol (QMP) over a unix socket."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any


class QmpError(RuntimeError):
    """QEMU refused a command."""


class Qmp:
    """One connection; commands are answered in order, events are kept aside."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        """Connect and leave the negotiation mode.

        Args:
            path: The unix socket, which QEMU makes shortly after its start.
            timeout_s: To wait for the socket, and for each answer after that.
        """
        self.events: list[dict[str, Any]] = []
        self._socket = _connect(path, timeout_s)
        self._stream = self._socket.makefile("rb")
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """Run a command and return its result; underscores of argument names stand for dashes.

        Raises:
            QmpError: When QEMU refuses it or went away.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def human(self, line: str) -> str:
        """Run a command of the human monitor and return what it printed."""
        text: str = self.execute("human-monitor-command", command_line=line)
        return text.strip()

    def close(self) -> None:
        """Close the connection; QEMU runs on."""
        self._stream.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise QmpError("QEMU closed the connection")
        message: dict[str, Any] = json.loads(line)
        return message


def _connect(path: Path, timeout_s: float) -> socket.socket:
    """Connect to a unix socket that may not be there yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return connection
