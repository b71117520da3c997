"""A terminal in a guest, for commands that ask questions."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import TextIO

import paramiko

_BLOCK = 1 << 16


class Shell:
    """A command on a terminal, for what asks questions: wait for a text, answer with a line."""

    def __init__(self, channel: paramiko.Channel, screen: TextIO | None = None) -> None:
        """Take over a channel on which the command runs; `screen` shows meanwhile what the terminal does."""
        self._channel, self._screen = channel, screen
        self._unread = ""
        self.transcript = ""

    def expect(self, pattern: str, timeout_s: float = 120.0) -> re.Match[str]:
        """Wait until the output since the last match holds a regular expression.

        Raises:
            TimeoutError: When it does not in time.
            EOFError: When the command ended without it.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            match = re.search(pattern, self._unread, re.MULTILINE)
            if match:
                self._unread = self._unread[match.end() :]
                return match
            if not self._read(deadline):
                kind = EOFError if self._channel.eof_received else TimeoutError
                raise kind(f"no {pattern!r}; the terminal shows:\n{self.transcript[-4000:]}")

    def send(self, line: str) -> None:
        """Type a line and press Enter."""
        self._channel.sendall(line.encode() + b"\r")

    def wait(self, timeout_s: float = 120.0) -> int:
        """Read to the end and return the command's exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        if not self._channel.eof_received:
            raise TimeoutError(f"still running; the terminal shows:\n{self.transcript[-4000:]}")
        return self._channel.recv_exit_status()

    def __enter__(self) -> Shell:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up: a command that still runs gets SIGHUP."""
        self._channel.close()

    def _read(self, deadline: float) -> bool:
        """Read what comes next; False at the end of the output or of the time."""
        self._channel.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            block = self._channel.recv(_BLOCK)
        except TimeoutError:
            return False
        if self._screen:
            self._screen.write(block.decode(errors="replace"))
            self._screen.flush()
        text = block.decode(errors="replace").replace("\r\n", "\n")
        self._unread += text
        self.transcript += text
        return bool(block)
