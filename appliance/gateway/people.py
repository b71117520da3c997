"""Who may use the service: users with roles, groups, limits, keys and client certificates.

An SQLite database that is never written in place. A change is made on a copy in memory, and the file is replaced whole,
by a rename, while a lock keeps other writers out: the gateway reads one state or the next, and a crash leaves one of
them. A key is shown once and kept as HMAC-SHA256 under a secret of this host. Names and key ids are never given twice,
since the audit log speaks of them. Every change goes into the custody ledger; where that cannot take it, nothing
changes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.gateway.directory import FILE, SCHEMA_VERSION, SECRET, SECRET_BYTES, mac, open_database, read_secret
from appliance.gateway.identity import NAME, Limits
from appliance.gateway.session import session
from custody.atomic import write_whole
from custody.errors import EnvironmentProblem, InputInvalid, SecretRefused
from custody.ledger import record
from custody.ledger.event import Event
from custody.lock import alone

_TABLES = """
CREATE TABLE about (schema_version INTEGER NOT NULL) STRICT;
CREATE TABLE user (
  user_id TEXT PRIMARY KEY, role TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER,
  requests_per_minute INTEGER, tokens_per_minute INTEGER, concurrent INTEGER,
  prompt_max_tokens INTEGER, output_max_tokens INTEGER
) STRICT;
CREATE TABLE membership (
  user_id TEXT NOT NULL REFERENCES user, name TEXT NOT NULL, PRIMARY KEY (user_id, name)
) STRICT;
CREATE TABLE key (
  key_id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES user, mac BLOB NOT NULL,
  created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER
) STRICT;
CREATE TABLE certificate (
  sha256 TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES user, created_at INTEGER NOT NULL, revoked_at INTEGER
) STRICT;
"""
_KIND = "people changed"
_LIMITS = tuple(Limits.__dataclass_fields__)


@dataclass(frozen=True)
class Key:
    """What is known of a key; times in Unix seconds."""

    key_id: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None


@dataclass(frozen=True)
class Certificate:
    """A client certificate, by the SHA-256 of its DER, lower-case hex."""

    sha256: str
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True)
class User:
    """A user as `airgap user show` tells; keys and certificates in the order in which they came."""

    user_id: str
    role: str
    groups: tuple[str, ...]
    limits: Limits
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    keys: tuple[Key, ...]
    certificates: tuple[Certificate, ...]


def new_key() -> str:
    """A key that nobody has had: `ag-`, 60 bits of id, 256 bits of secret."""
    key_id = base64.b32encode(secrets.token_bytes(8)).decode()[:12]
    secret = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"ag-{key_id}-{secret}".lower()


def id_of(key: str) -> str:
    """The part of a key that may be shown."""
    return key.split("-")[1]


class People:
    """The people of one appliance.

    Args:
        folder: with the database and the secret; what is made in it belongs to its group.
        dry_run: check everything, change nothing.
    """

    def __init__(self, folder: Path, *, dry_run: bool = False) -> None:
        self._folder, self._file, self._dry_run = folder, folder / FILE, dry_run

    def users(self) -> list[User]:
        """Everybody there ever was, by name.

        Raises:
            EnvironmentProblem: there is no database, or a broken one.
        """
        if not self._file.exists():
            raise EnvironmentProblem(f"{self._file}: expected the people, found no file", "airgap user init")
        with closing(self._open()) as database:
            return [_user(database, row) for row in database.execute("SELECT * FROM user ORDER BY user_id")]

    def user(self, user_id: str) -> User:
        """One of them.

        Raises:
            InputInvalid: there is nobody of that name.
        """
        with closing(self._open()) as database:
            return _user(database, _row(database, user_id))

    def begin(self) -> None:
        """Make a database with nobody in it, and the secret, where they are not: the gateway starts with both."""
        if not self._folder.is_dir():
            raise EnvironmentProblem(f"{self._folder}: expected a folder, found none", "airgap install makes it")
        with self._alone(), closing(self._open()) as database:
            self._secret(database)
            if not self._dry_run and not self._file.exists():
                write_whole(self._file, database.serialize(), mode=0o640, owner=self._owner())

    def add(
        self, user_id: str, role: str, groups: Iterable[str], limits: Limits, expires_at: int | None, now: int,
        *, key: str | None = None, certificate: str | None = None,
    ) -> None:  # fmt: skip
        """Add a user.

        Args:
            key: of `new_key`; None: the user has none.
            certificate: SHA-256 of a client certificate, hex.

        Raises:
            InputInvalid: a name breaks the rules or was given before, a certificate is somebody's.
        """
        mine = sorted(set(groups))
        for what, name in (("user", user_id), ("role", role), *(("group", group) for group in mine)):
            _require_name(what, name)
        details = {"role": role, "groups": ",".join(mine), **_credential(key, certificate), **_until(expires_at)}
        with self._change("added", user_id, details) as database:
            if database.execute("SELECT 1 FROM user WHERE user_id = ?", (user_id,)).fetchone():
                raise InputInvalid(
                    f"{user_id}: there is, or was, a user of this name", "names are not given twice: choose another"
                )
            values = (user_id, role, now, expires_at, None, *astuple(limits))
            database.execute(f"INSERT INTO user VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608
            database.executemany("INSERT INTO membership VALUES (?, ?)", [(user_id, group) for group in mine])
            self._add_credentials(database, user_id, now, key, None, certificate)

    def change(
        self, user_id: str, now: int, *, role: str | None = None, limits: Mapping[str, int | None] | None = None,
        expires_at: int | None = None, certificate: str | None = None,
    ) -> None:  # fmt: skip
        """Change a user; what is None stays.

        Args:
            limits: those that change, by name; None in it: no limit.
            certificate: one more, by SHA-256.
        """
        if role is not None:
            _require_name("role", role)
        new = {**({"role": role} if role else {}), **(limits or {})}
        if expires_at is not None:
            new["expires_at"] = expires_at
        if not new and certificate is None:
            raise InputInvalid(f"{user_id}: nothing to change", "airgap user change --help")
        told = {name: "none" if value is None else value for name, value in new.items()}
        with self._change("changed", user_id, {**told, **_credential(None, certificate)}) as database:
            _require_active(database, user_id)
            for name, value in new.items():
                # The names are ours: columns of the table.
                database.execute(f"UPDATE user SET {name} = ? WHERE user_id = ?", (value, user_id))  # noqa: S608
            self._add_credentials(database, user_id, now, None, None, certificate)

    def rotate(self, user_id: str, key: str, overlap_s: int, expires_at: int | None, now: int) -> None:
        """Give a user a new key; the old ones end after a while.

        Args:
            overlap_s: how long old keys are still taken; one that ends sooner is not made to last.
        """
        until = now + overlap_s
        details: dict[str, str | int] = {"key_id": id_of(key), "overlap_s": overlap_s, **_until(expires_at)}
        with self._change("rotated", user_id, details) as database:
            _require_active(database, user_id)
            database.execute(
                "UPDATE key SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE user_id = ?2", (until, user_id)
            )
            self._add_credentials(database, user_id, now, key, expires_at, None)

    def revoke(self, user_id: str, now: int, *, key_id: str = "", certificate: str = "") -> None:
        """Take back a user's one key or certificate, or the user with all of them; there is no way back.

        Raises:
            InputInvalid: not this user's, or revoked before.
        """
        details = {name: value for name, value in (("key_id", key_id), ("certificate", certificate)) if value}
        with self._change("revoked", user_id, details) as database:
            _require_active(database, user_id)
            table, column, value = "user", "user_id", user_id
            if key_id:
                table, column, value = "key", "key_id", key_id
            elif certificate:
                table, column, value = "certificate", "sha256", certificate
            done = database.execute(
                f"UPDATE {table} SET revoked_at = ?"  # noqa: S608 - the names are ours
                f" WHERE {column} = ? AND user_id = ? AND revoked_at IS NULL",
                (now, value, user_id),
            )
            if done.rowcount != 1:
                raise InputInvalid(f"{user_id}: has no {table} {value} that stands", f"airgap user show {user_id}")

    def group(self, user_id: str, add: Iterable[str], remove: Iterable[str]) -> None:
        """Put a user into groups, and take it out of others.

        Raises:
            InputInvalid: a group to leave that the user is not in.
        """
        joined, left = sorted(set(add)), sorted(set(remove))
        for name in joined:
            _require_name("group", name)
        if not joined and not left:
            raise InputInvalid(f"{user_id}: nothing to change", "airgap user group --help")
        with self._change("groups", user_id, {"joined": ",".join(joined), "left": ",".join(left)}) as database:
            _require_active(database, user_id)
            for name in left:
                done = database.execute("DELETE FROM membership WHERE user_id = ? AND name = ?", (user_id, name))
                if done.rowcount != 1:
                    raise InputInvalid(f"{user_id}: is not in the group {name}", f"airgap user show {user_id}")
            database.executemany("INSERT OR IGNORE INTO membership VALUES (?, ?)", [(user_id, each) for each in joined])

    def _add_credentials(
        self, database: sqlite3.Connection, user_id: str, now: int, key: str | None, key_expires_at: int | None,
        certificate: str | None,
    ) -> None:  # fmt: skip
        try:
            if key is not None:
                kept = (id_of(key), user_id, mac(self._secret(database), key), now, key_expires_at, None)
                database.execute("INSERT INTO key VALUES (?, ?, ?, ?, ?, ?)", kept)
            if certificate is not None:
                database.execute("INSERT INTO certificate VALUES (?, ?, ?, ?)", (certificate, user_id, now, None))
        except sqlite3.IntegrityError as error:
            raise InputInvalid(
                f"{user_id}: this key or certificate is, or was, somebody's", "airgap user list --json; make another"
            ) from error

    def _secret(self, database: sqlite3.Connection) -> bytes:
        """The secret that keys are kept under; made for the first key, and never again."""
        file = self._folder / SECRET
        if file.exists():
            return read_secret(file)
        if database.execute("SELECT 1 FROM key").fetchone():
            raise SecretRefused(
                f"{file}: gone, and there are keys that only it can tell",
                f"restore it from the site's records; or move {self._file} away and add everybody anew",
            )
        made = secrets.token_bytes(SECRET_BYTES)
        if not self._dry_run:
            write_whole(file, made, mode=0o640, owner=self._owner())
        return made

    def _owner(self) -> tuple[int, int]:
        return os.geteuid(), self._folder.stat().st_gid

    def _open(self) -> sqlite3.Connection:
        try:
            return open_database(self._file.read_bytes(), str(self._file))
        except FileNotFoundError:
            return open_database(_fresh(), str(self._file))

    @contextmanager
    def _change(self, change: str, user_id: str, details: Mapping[str, str | int]) -> Iterator[sqlite3.Connection]:
        """A copy to change; at the end it takes the file's place, and the ledger is told."""
        if not self._folder.is_dir():
            raise EnvironmentProblem(f"{self._folder}: expected a folder, found none", "airgap install makes it")
        with self._alone():
            with closing(self._open()) as database:
                database.execute("PRAGMA foreign_keys = ON")
                yield database
                database.commit()
                data = database.serialize()
            if self._dry_run:
                return
            told = {name: value for name, value in details.items() if value != ""}
            event = Event(_KIND, user_id, _digest(data), {"change": change, **told, **session()})
            record.promise(event)
            write_whole(self._file, data, mode=0o640, owner=self._owner())
            record.record(event)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile, and the ledger takes entries; a dry run needs neither."""
        if self._dry_run:
            yield
            return
        # A file of ours: the gateway may read the folder, and must not hold a lock that keeps us out.
        with alone(self._folder / "people.lock", "another change of people", waiting=lambda _text: None):
            record.ready()
            # A change that an earlier command made and could not record.
            record.settle(_KIND, _digest(self._file.read_bytes()) if self._file.exists() else "")
            yield


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _fresh() -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_TABLES)
        database.execute("INSERT INTO about VALUES (?)", (SCHEMA_VERSION,))
        database.commit()
        return database.serialize()


def _row(database: sqlite3.Connection, user_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = database.execute("SELECT * FROM user WHERE user_id = ?", (user_id,)).fetchone()
    if row is None:
        raise InputInvalid(f"{user_id!r:.80}: there is no such user", "airgap user list")
    return row


def _require_active(database: sqlite3.Connection, user_id: str) -> None:
    if _row(database, user_id)["revoked_at"] is not None:
        raise InputInvalid(f"{user_id}: was revoked, and stays so", "airgap user add another name")


def _require_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputInvalid(
            f"{what} {name!r:.80}: expected 1 to 64 of a to z, 0 to 9, '.', '_', '-', first a letter or digit",
            "airgap user add --help",
        )


def _user(database: sqlite3.Connection, row: sqlite3.Row) -> User:
    user_id = row["user_id"]
    groups = database.execute("SELECT name FROM membership WHERE user_id = ? ORDER BY name", (user_id,))
    keys = database.execute(
        "SELECT key_id, created_at, expires_at, revoked_at FROM key WHERE user_id = ? ORDER BY rowid", (user_id,)
    )
    certificates = database.execute(
        "SELECT sha256, created_at, revoked_at FROM certificate WHERE user_id = ? ORDER BY rowid", (user_id,)
    )
    return User(
        user_id,
        row["role"],
        tuple(each["name"] for each in groups),
        Limits(**{name: row[name] for name in _LIMITS}),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
        tuple(Key(*each) for each in keys),
        tuple(Certificate(*each) for each in certificates),
    )


def _credential(key: str | None, certificate: str | None) -> dict[str, str]:
    found = {"key_id": id_of(key)} if key else {}
    return {**found, **({"certificate": certificate} if certificate else {})}


def _until(expires_at: int | None) -> dict[str, str]:
    if expires_at is None:
        return {}
    return {"expires_at": datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
