"""testinfra's paramiko backend with the guest's host key pinned (its own accepts any key with a warning)."""

from __future__ import annotations

import functools

import paramiko
from testinfra.backend.paramiko import ParamikoBackend  # type: ignore[import-untyped]

from .ssh import Ssh


class PinnedBackend(ParamikoBackend):  # type: ignore[misc]
    """Logs in the way that the harness does."""

    def __init__(self, ssh: Ssh, name: str) -> None:
        """Take the login of a machine, and the name to be shown in reports."""
        super().__init__(f"root@{name}")
        self._ssh = ssh

    @functools.cached_property
    def client(self) -> paramiko.SSHClient:
        """Connect when first used, and again after a restart of the guest."""
        return self._ssh.connect()
