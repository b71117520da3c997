"""The gateway's view of people: which user a key or a client certificate belongs to.

The file is an SQLite database that `people` replaces as a whole, by a rename: what is read here is one state, never
half a change, and there is no journal that a reader without rights could not roll back. A file that is gone or broken
lets nobody in. Comparing takes the same steps whether a key is known, unknown or malformed.
"""

from __future__ import annotations

import hmac
import os
import re
import sqlite3
import stat
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.gateway.identity import Identity, Limits
from custody.errors import EnvironmentProblem, SecretRefused

#: Of root; the gateway's group may read what is in it.
FOLDER = Path("/var/lib/airgap/gateway")
FILE = "people.db"
SECRET = "hmac.key"  # noqa: S105 - a file's name
SECRET_BYTES = 32
SCHEMA_VERSION = 1
#: A hundred thousand users with two keys each stay below this.
MAX_BYTES = 64 << 20
#: SQLite's file format, 1.3.
_MAGIC = b"SQLite format 3\0"
#: A key: `ag-`, its id (60 bits), its secret (256 bits); RFC 4648 base32, lower case.
KEY = re.compile(r"ag-([a-z2-7]{12})-([a-z2-7]{52})")
_NO_KEY = f"ag-{'a' * 12}-{'a' * 52}"


@dataclass(frozen=True)
class Credential:
    """A key or certificate that was not revoked, and whom it stands for."""

    identity: Identity
    mac: bytes


@dataclass(frozen=True)
class _State:
    keys: dict[str, Credential]
    certificates: dict[str, Credential]
    #: Key id → what makes it current.
    current: dict[str, Identity]


_EMPTY = _State({}, {}, {})
#: What an unknown key is compared with; no HMAC is all zeros but with a chance of 2^-256, and then nobody is found.
_NOBODY = bytes(32)


def mac(secret: bytes, key: str) -> bytes:
    """What is kept of a key."""
    return hmac.digest(secret, key.encode(), "sha256")


def read_secret(file: Path) -> bytes:
    """The secret under which keys are kept.

    Raises:
        SecretRefused: missing, readable by others, or not what `people` made.
    """
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            found = os.fstat(stream.fileno())
            data = stream.read(SECRET_BYTES + 1)
    except OSError as error:
        raise SecretRefused(f"{file}: {error.strerror}", "airgap user add makes it") from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o027:
        raise SecretRefused(f"{file}: expected a file of root's with mode 0640", f"ls -l {file}")
    if len(data) != SECRET_BYTES:
        raise SecretRefused(f"{file}: expected {SECRET_BYTES} bytes, found {len(data)}", f"ls -l {file}")
    return data


def open_database(data: bytes, name: str) -> sqlite3.Connection:
    """A database in memory from a file's bytes; nothing writes back.

    Raises:
        EnvironmentProblem: torn, not such a database, or of another schema.
    """
    if not data.startswith(_MAGIC):
        raise EnvironmentProblem(f"{name}: broken: not an SQLite database", "restore it from the site's records")
    database = sqlite3.connect(":memory:")
    try:
        database.row_factory = sqlite3.Row
        database.deserialize(data)
        if (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise EnvironmentProblem(f"{name}: broken: {found}", "restore it from the site's records")
        version = database.execute("SELECT schema_version FROM about").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise EnvironmentProblem(f"{name}: expected schema {SCHEMA_VERSION}, found {version}", "airgap --version")
    # A damaged name in what SQLite says of it is a UnicodeDecodeError, a ValueError.
    except (sqlite3.Error, TypeError, ValueError, MemoryError) as error:
        database.close()
        raise EnvironmentProblem(f"{name}: broken: {error}", "restore it from the site's records") from error
    except EnvironmentProblem:
        database.close()
        raise
    return database


class Directory:
    """Users by key and by certificate, read again when the file has changed.

    Attributes:
        problem: why nobody is let in; empty when the file is well.
    """

    def __init__(self, file: Path, secret: bytes) -> None:
        self._file, self._secret = file, secret
        self._state, self._stamp = _EMPTY, (0, 0, 0)
        self._reading = threading.Lock()
        self.problem = ""
        self.refresh()

    def by_key(self, key: str, now: float) -> Identity | None:
        """Whose key it is; None: unknown, expired or revoked.

        Args:
            now: Unix seconds.
        """
        match = KEY.fullmatch(key)
        known = self._state.keys.get(match[1]) if match else None
        made = mac(self._secret, key if match else _NO_KEY)
        same = hmac.compare_digest(made, known.mac if known else _NOBODY)
        return known.identity if known and same and _is_valid(known.identity, now) else None

    def by_certificate(self, sha256: str, now: float) -> Identity | None:
        """Whose client certificate it is; None: unknown, expired or revoked.

        Args:
            sha256: of the certificate's DER, hex.
        """
        known = self._state.certificates.get(sha256.lower())
        return known.identity if known and _is_valid(known.identity, now) else None

    def is_current(self, identity: Identity, now: float) -> bool:
        """Whether a credential still stands: False once it, or its user, is revoked or expired."""
        found = self._state.current.get(identity.key_id)
        return found is not None and found.user_id == identity.user_id and _is_valid(found, now)

    def refresh(self) -> None:
        """Read the file if it has changed; one `stat` if not. Safe to call from any thread."""
        with self._reading:
            try:
                found = self._file.stat()
                stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
                if stamp == self._stamp:
                    return
                if found.st_size > MAX_BYTES:
                    raise EnvironmentProblem(f"{self._file}: {found.st_size} bytes, at most {MAX_BYTES} expected")
                state = _read(self._file.read_bytes(), str(self._file))
            except (OSError, EnvironmentProblem) as error:
                self._state, self._stamp = _EMPTY, (0, 0, 0)
                self.problem = error.message if isinstance(error, EnvironmentProblem) else f"{self._file}: {error}"
                return
            self._state, self._stamp, self.problem = state, stamp, ""


def _is_valid(identity: Identity, now: float) -> bool:
    return identity.expires_at is None or now < identity.expires_at


def _read(data: bytes, name: str) -> _State:
    with closing(open_database(data, name)) as database:
        try:
            return _state(database)
        # A changed name of a column is an IndexError, a changed kind of value a TypeError.
        except (sqlite3.Error, IndexError, TypeError, ValueError) as error:
            raise EnvironmentProblem(f"{name}: broken: {error}", "restore it from the site's records") from error


def _state(database: sqlite3.Connection) -> _State:
    users = {row["user_id"]: row for row in database.execute("SELECT * FROM user WHERE revoked_at IS NULL")}
    groups: dict[str, set[str]] = {}
    for row in database.execute("SELECT user_id, name FROM membership"):
        groups.setdefault(row["user_id"], set()).add(row["name"])
    keys, certificates, current = {}, {}, {}
    for row in database.execute("SELECT * FROM key WHERE revoked_at IS NULL"):
        if row["user_id"] in users:
            made = _identity(users[row["user_id"]], groups, row["key_id"], row["expires_at"])
            keys[row["key_id"]], current[row["key_id"]] = Credential(made, row["mac"]), made
    for row in database.execute("SELECT * FROM certificate WHERE revoked_at IS NULL"):
        if row["user_id"] in users:
            made = _identity(users[row["user_id"]], groups, certificate_id(row["sha256"]), None)
            certificates[row["sha256"]], current[made.key_id] = Credential(made, b""), made
    return _State(keys, certificates, current)


def certificate_id(sha256: str) -> str:
    """What stands for a key's id where a certificate was shown."""
    return f"cert-{sha256[:16]}"


def limits_of(user: Any) -> Limits:
    """The limits in a row of `user`."""
    return Limits(**{name: user[name] for name in Limits.__dataclass_fields__})


def _identity(user: Any, groups: dict[str, set[str]], key_id: str, expires_at: float | None) -> Identity:
    ends = [end for end in (user["expires_at"], expires_at) if end is not None]
    user_id = user["user_id"]
    mine = frozenset(groups.get(user_id, ()))
    return Identity(user_id, key_id, user["role"], mine, limits_of(user), min(ends) if ends else None)
