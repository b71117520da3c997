"""Commands in a guest over ssh, with the guest's host key pinned from its image."""

from __future__ import annotations

import base64
import contextlib
import select
import shlex
import socket
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import paramiko

from .shell import Shell

_ANSWER_S = 120.0  # key exchange and login under TCG on a busy builder
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    rc: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout as text, without the line end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class CommandFailed(AssertionError):
    """A command in a guest ended otherwise than with 0."""

    def __init__(self, command: str, result: Result) -> None:
        """Show the command and the end of both of its streams."""
        streams = (result.stdout + result.stderr).decode(errors="replace")[-4000:]
        super().__init__(f"{command!r} ended with {result.rc}:\n{streams}")
        self.result = result


class Ssh:
    """One login as root at a forwarded port; connects when first used and again after the connection is lost."""

    def __init__(self, port: int, host_key: str, identity: Path) -> None:
        """Remember where to connect; nothing is sent yet.

        Args:
            port: On 127.0.0.1.
            host_key: `ssh-ed25519 AAAA…`; any other key is refused.
            identity: File of the private key.
        """
        self.port = port
        self._host_key = paramiko.Ed25519Key(data=base64.b64decode(host_key.split()[1]))
        self._identity = identity
        self._client: paramiko.SSHClient | None = None

    def wait(self, timeout_s: float) -> None:
        """Wait until a login works.

        Raises:
            TimeoutError: When it does not in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.client(probe_s=max(1.0, min(10.0, deadline - time.monotonic())))
                return
            except (OSError, EOFError, paramiko.SSHException) as error:
                self.close()
                if isinstance(error, paramiko.BadHostKeyException | paramiko.AuthenticationException):
                    raise
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no ssh at port {self.port} after {timeout_s:.0f} s: {error}") from error
                time.sleep(0.3)

    def client(self, probe_s: float = _ANSWER_S) -> paramiko.SSHClient:
        """Return the connected client."""
        transport = self._client.get_transport() if self._client else None
        if self._client is None or transport is None or not transport.is_active():
            self.close()
            self._client = self.connect(probe_s)
        return self._client

    def connect(self, probe_s: float = _ANSWER_S) -> paramiko.SSHClient:
        """Return a new client of its own, as testinfra wants one.

        Args:
            probe_s: How long to wait for the server's first bytes. QEMU accepts the connection before the guest
                does, and a server that is left in mid-login soon refuses its client ("penalties").
        """
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=probe_s)
        try:
            if connection.recv(4, socket.MSG_PEEK) != b"SSH-":
                raise ConnectionResetError("the guest does not answer yet")
            client = paramiko.SSHClient()
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            name = f"[127.0.0.1]:{self.port}" if self.port != 22 else "127.0.0.1"
            client.get_host_keys().add(name, "ssh-ed25519", self._host_key)
            client.connect(
                "127.0.0.1",
                self.port,
                "root",
                key_filename=str(self._identity),
                sock=connection,
                timeout=_ANSWER_S,
                banner_timeout=_ANSWER_S,
                auth_timeout=_ANSWER_S,
                allow_agent=False,
                look_for_keys=False,
            )
        except BaseException:
            connection.close()
            raise
        return client

    def run(self, command: str, stdin: bytes | Path | None, timeout_s: float, check: bool) -> Result:
        """Run a shell command line; see `Machine.run`."""
        channel = self._channel()
        channel.exec_command(command)
        deadline = time.monotonic() + timeout_s
        output, errors = bytearray(), bytearray()
        with contextlib.closing(channel), contextlib.closing(_blocks(stdin)) as blocks:
            pending = next(blocks, b"")
            if not pending:
                channel.shutdown_write()
            while not (channel.exit_status_ready() and channel.eof_received):
                _drain(channel, output, errors)
                while pending and channel.send_ready() and not channel.eof_received:
                    pending = pending[channel.send(pending) :] or next(blocks, b"")
                    if not pending:
                        channel.shutdown_write()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{command!r} has not ended after {timeout_s:.0f} s; so far:\n{_tail(output)}")
                select.select([channel], [], [], 0.05)
                if channel.closed and not channel.exit_status_ready():
                    break
            _drain(channel, output, errors)
            result = Result(channel.recv_exit_status(), bytes(output), bytes(errors))
        if check and result.rc != 0:
            raise CommandFailed(command, result)
        return result

    def shell(self, command: str, screen: TextIO | None = None) -> Shell:
        """Start a command on a terminal of its own; `screen` shows meanwhile what that does."""
        channel = self._channel()
        channel.get_pty("dumb", 200, 50)
        channel.exec_command(command)
        return Shell(channel, screen)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _channel(self) -> paramiko.Channel:
        transport = self.client().get_transport()
        if transport is None:
            raise ConnectionResetError("the connection is gone")
        return transport.open_session(timeout=_ANSWER_S)


def put_command(remote: str, mode: int) -> str:
    """Return a command that writes stdin to a file, complete or not at all."""
    target, partial = shlex.quote(remote), shlex.quote(f"{remote}.partial")
    return f"umask 077; cat >{partial} && chmod {mode:o} {partial} && mv -f {partial} {target}"


def _blocks(stdin: bytes | Path | None) -> Generator[bytes, None, None]:
    """Yield what goes to stdin in blocks."""
    if isinstance(stdin, Path):
        with stdin.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block
    else:
        for start in range(0, len(stdin or b""), _BLOCK):
            yield (stdin or b"")[start : start + _BLOCK]


def _drain(channel: paramiko.Channel, output: bytearray, errors: bytearray) -> None:
    while channel.recv_ready():
        output += channel.recv(_BLOCK)
    while channel.recv_stderr_ready():
        errors += channel.recv_stderr(_BLOCK)


def _tail(output: bytearray) -> str:
    return bytes(output[-2000:]).decode(errors="replace")
