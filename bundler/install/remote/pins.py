"""Host keys of the hosts, pinned at first contact: one line a host, as in OpenSSH's known_hosts.

Nothing in this module adds a key by itself: a person confirms it, or the inventory names it.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

from paramiko import PKey

from bundler.install.remote.inventory import InventoryHost
from custody.atomic import write_whole
from custody.errors import EnvironmentProblem, HostKeyRejected

_LINE = re.compile(r"(?P<place>\S+) (?P<kind>\S+) (?P<blob>[A-Za-z0-9+/]+=*)")


class Pins:
    """The file of pinned keys; root's, written whole or not at all.

    Args:
        file: need not be there.

    Raises:
        EnvironmentProblem: it is there and broken, or others may write it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keys: dict[str, tuple[str, str]] = {}
        if not file.exists():
            return
        info = file.stat()
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise EnvironmentProblem(f"{file}: others may write it", f"chown root {file}; chmod 600 {file}")
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found = _LINE.fullmatch(line)
            if found is None or found["place"] in self._keys:
                raise EnvironmentProblem(f"{file}:{number}: not a line of its own for one host", "mend the line")
            self._keys[found["place"]] = (found["kind"], found["blob"])

    def kind(self, host: InventoryHost) -> str | None:
        """The type of the host's pinned key."""
        return self._keys[host.place][0] if host.place in self._keys else None

    def require(self, host: InventoryHost, key: PKey) -> bool:
        """Compare a key that a host showed with its pin and with the inventory.

        Returns:
            Whether somebody has vouched for it: False is a first contact.

        Raises:
            HostKeyRejected: it is another one; names both fingerprints.
        """
        pinned = self._keys.get(host.place)
        if pinned not in (None, (key.get_name(), key.get_base64())):
            raise _changed(host, f"{_fingerprint(*pinned)} (pinned in {self._file})", key)
        if host.host_key not in (None, key.fingerprint):
            raise _changed(host, f"{host.host_key} (host_key in the inventory)", key)
        return pinned is not None or host.host_key is not None

    def add(self, host: InventoryHost, key: PKey) -> None:
        """Pin a key that somebody has vouched for."""
        if host.place in self._keys:
            return
        self._keys[host.place] = (key.get_name(), key.get_base64())
        lines = [f"{place} {kind} {blob}\n" for place, (kind, blob) in sorted(self._keys.items())]
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_whole(self._file, "".join(lines).encode(), mode=0o600)


def _fingerprint(kind: str, blob: str) -> str:
    return str(PKey.from_type_string(kind, base64.b64decode(blob)).fingerprint)


def _changed(host: InventoryHost, expected: str, key: PKey) -> HostKeyRejected:
    return HostKeyRejected(
        f"{host.place}: ssh host key: expected {expected}, found {key.fingerprint}",
        "somebody may be in between, or the host was set up anew: look at the host's console with"
        " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`; only if that is the key, take the old one out",
    )
