"""A testinfra backend that uses the harness's own login, with the guest's host key pinned.

testinfra's paramiko backend accepts any host key with a warning, and keeps a connection that a restart has cut.
"""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult  # type: ignore[import-untyped]

from .ssh import Ssh

_TIMEOUT_S = 600.0


class HarnessBackend(BaseBackend):  # type: ignore[misc]
    """Runs what testinfra asks for through a machine's login."""

    NAME = "airgap-vm"

    def __init__(self, ssh: Ssh, name: str) -> None:
        """Take the login of a machine, and the name to be shown in reports."""
        super().__init__(name)
        self._ssh = ssh

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run a command, its arguments quoted by testinfra, as root."""
        line = self.get_command(command, *args)
        result = self._ssh.run(line, None, _TIMEOUT_S, check=False)
        return self.result(result.rc, line.encode(), result.stdout, result.stderr)
