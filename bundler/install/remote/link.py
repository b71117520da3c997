"""One ssh connection to one host, whose key was judged before anything of ours is sent."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from bundler.install.remote.inventory import InventoryHost
from custody.errors import EnvironmentProblem, ProgramFailed, SecretRefused
from custody.secret import read_secret

#: The script that does everything at the far end.
FAR_SCRIPT = Path(__file__).with_name("far.sh")
#: Host keys that are asked for; RSA and DSA are not, every OpenSSH since 6.5 has Ed25519.
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_CIPHERS = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-512", "hmac-sha2-256")
_REACH_S = 15.0
#: A guest without KVM on a busy machine takes more than a minute to log somebody in.
_ANSWER_S = 120.0
#: The far end hashes at 1 MiB a line; a silence of this length means that the connection is gone.
_SILENCE_S = 300.0
_BLOCK = 1 << 16
#: What a connection may die of.
LOST = (OSError, EOFError, paramiko.SSHException)


class Judge(Protocol):
    """Refuses a host key by raising."""

    def __call__(self, host: InventoryHost, key: paramiko.PKey) -> object:
        """See `Pins.require`."""


class Link:
    """A login on a host."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport

    def run(self, verb: str, *arguments: str) -> bytes:
        """Run a verb of `far.sh` at the far end.

        Returns:
            Its standard output.

        Raises:
            ProgramFailed: it ended with another status than 0.
        """
        channel = self._transport.open_session(timeout=_ANSWER_S)
        try:
            channel.settimeout(_SILENCE_S)
            channel.exec_command(shlex.join(["/bin/sh", "-s", "--", verb, *arguments]))
            channel.sendall(FAR_SCRIPT.read_bytes())
            channel.shutdown_write()
            output = b"".join(iter(lambda: channel.recv(_BLOCK), b""))
            errors = b"".join(iter(lambda: channel.recv_stderr(_BLOCK), b""))
            status = channel.recv_exit_status()
        finally:
            channel.close()
        if status < 0:
            raise EOFError("the connection ended before the command did")
        if status != 0:
            said = errors.decode(errors="replace").strip()
            raise ProgramFailed(f"{verb} ended with status {status}\n{said}".rstrip(), "log in there and look")
        return output

    def sftp(self) -> paramiko.SFTPClient:
        """A file session."""
        session = paramiko.SFTPClient.from_transport(self._transport)
        if session is None:
            raise EOFError("the host offers no file session")
        channel = session.get_channel()
        if channel is not None:
            channel.settimeout(_SILENCE_S)
        return session


def host_key(host: InventoryHost, kind: str | None) -> paramiko.PKey:
    """Ask a host for its key; nobody logs in.

    Args:
        kind: the type to ask for first.
    """
    with _dial(host, kind) as transport:
        return transport.get_remote_server_key()


@contextmanager
def connect(host: InventoryHost, kind: str | None, judge: Judge, key: paramiko.PKey) -> Iterator[Link]:
    """Log in to a host, once its key has been judged.

    Args:
        key: logs in.

    Raises:
        HostKeyRejected: from the judge.
        SecretRefused: the host does not let this key in.
        EnvironmentProblem: the host does not answer, or speaks no key type that is accepted.
    """
    with _dial(host, kind) as transport:
        judge(host, transport.get_remote_server_key())
        try:
            transport.auth_publickey(host.user, key)
        except paramiko.AuthenticationException as error:
            raise SecretRefused(
                f"{host.user} is not let in with {host.key}",
                f"add {host.key}.pub to the host's authorized_keys",
            ) from error
        yield Link(transport)


@contextmanager
def _dial(host: InventoryHost, kind: str | None) -> Iterator[paramiko.Transport]:
    connection = socket.create_connection((host.address, host.port), timeout=_REACH_S)
    transport = paramiko.Transport(connection)
    try:
        options = transport.get_security_options()
        options.key_types = sorted(KEY_TYPES, key=lambda each: each != kind)
        options.ciphers, options.digests = _CIPHERS, _MACS
        transport.banner_timeout = transport.auth_timeout = _ANSWER_S
        transport.set_keepalive(15)
        try:
            transport.start_client(timeout=_ANSWER_S)
        except IncompatiblePeer as error:
            raise EnvironmentProblem(
                f"{host.place}: expected a host key of {', '.join(KEY_TYPES)} and a current cipher: {error}",
                "on the host: ssh-keygen -A",
            ) from error
        yield transport
    finally:
        transport.close()


def load_key(file: Path, passphrase: str | None) -> paramiko.PKey:
    """Read an ssh key that logs in.

    Raises:
        SecretRefused: as `read_secret`; no key, or its passphrase is another one.
        KeyLocked: it has a passphrase and none was given.
    """
    read_secret(file)
    try:
        return paramiko.PKey.from_path(file, passphrase.encode() if passphrase else None)  # type: ignore[arg-type]
    except (TypeError, paramiko.PasswordRequiredException) as error:
        raise KeyLocked(f"{file}: has a passphrase, and none was given", "run it at a terminal") from error
    except (ValueError, paramiko.SSHException) as error:
        # The library's words may quote the file.
        raise SecretRefused(f"{file}: no ssh key, or another passphrase", f"ssh-keygen -y -f {file}") from error


class KeyLocked(SecretRefused):
    """An ssh key has a passphrase."""
