"""A testinfra backend that uses the harness's own way in: to a guest, a login with the host key pinned.

testinfra's paramiko backend accepts any host key with a warning, and keeps a connection that a restart has cut.
"""

from __future__ import annotations

from typing import Any, Protocol

from testinfra.backend.base import BaseBackend, CommandResult  # type: ignore[import-untyped]

from .ssh import Result

_TIMEOUT_S = 600.0


class WayIn(Protocol):
    """Runs a shell command line as root: in a guest over ssh, or in a container."""

    def run(self, command: str, stdin: bytes | None, timeout_s: float, check: bool) -> Result:
        """Run it to its end."""


class HarnessBackend(BaseBackend):  # type: ignore[misc]
    """Runs what testinfra asks for."""

    NAME = "airgap-vm"

    def __init__(self, way_in: WayIn, name: str) -> None:
        """Take the way in, and the name to be shown in reports."""
        super().__init__(name)
        self._way_in = way_in

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run a command, its arguments quoted by testinfra, as root."""
        line = self.get_command(command, *args)
        result = self._way_in.run(line, None, _TIMEOUT_S, check=False)
        return self.result(result.rc, line.encode(), result.stdout, result.stderr)
