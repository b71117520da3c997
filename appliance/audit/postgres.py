"""An index of the audit log in PostgreSQL, at a Unix socket; `postgres.sql` makes it.

Whoever owns a table grants itself back what was revoked, so the owner is a role that nobody logs in as, and who writes
has SELECT and INSERT alone. A superuser can do everything, here as with a file: `verify` compares every row.
PostgreSQL 15 and pg8000 (BSD) are what it was tried with.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from appliance.audit.store import FIELDS, Row, StoreFailed, conditions_of
from custody.errors import AirgapError, EnvironmentProblem, ProgramMissing

#: How an index in PostgreSQL is named: `postgresql:/run/postgresql/DATABASE`, the folder of its socket and a database.
PREFIX = "postgresql:"
_TABLE = "airgap_audit.entries"
_PORT = 5432
#: Rows that one statement adds, or one answer brings.
_ROWS = 2000
_COLUMNS = ", ".join(f'"{name}"' for name in ("seq", "sha256", *FIELDS))
_TYPES = ", ".join(f'"{name}" {"bigint" if name == "of" else "text"}' for name in FIELDS)
_INSERT = f"""INSERT INTO {_TABLE} ({_COLUMNS})
SELECT seq, decode(sha256, 'hex'), {", ".join(f'"{name}"' for name in FIELDS)}
FROM json_to_recordset(CAST(%s AS json)) AS r (seq bigint, sha256 text, {_TYPES})"""  # noqa: S608
_GUARDS = f"""SELECT
  (SELECT rolcanlogin FROM pg_roles WHERE oid = c.relowner) AS "its owner may log in",
  pg_has_role(c.relowner, 'MEMBER') AS "this user is of its owner",
  has_table_privilege(c.oid, 'UPDATE') AS "this user may update",
  has_table_privilege(c.oid, 'DELETE') AS "this user may delete",
  has_table_privilege(c.oid, 'TRUNCATE') AS "this user may truncate",
  c.relhasrules AS "it has rules", c.relhastriggers AS "it has triggers"
FROM pg_class c WHERE c.oid = '{_TABLE}'::regclass"""  # noqa: S608


class Postgres:
    """A table; insert-only by rights."""

    def __init__(self, place: Path) -> None:
        """Connect as the user of this process; the socket's other end knows it from the kernel.

        Args:
            place: folder of the server's socket, and a database.

        Raises:
            ProgramMissing: no pg8000.
            EnvironmentProblem: nobody answers, or not to this user.
        """
        try:
            from pg8000 import dbapi
        except ImportError as error:
            raise ProgramMissing("pg8000: not installed", "pip install pg8000") from error
        self.name = f"{PREFIX}{place}"
        self.remedy = f"as its superuser: TRUNCATE {_TABLE}"
        self._failures = (dbapi.Error, OSError)
        user = pwd.getpwuid(os.geteuid()).pw_name
        socket = str(place.parent / f".s.PGSQL.{_PORT}")
        try:
            self._db: Any = dbapi.connect(user, unix_sock=socket, database=place.name)
        except self._failures as error:
            raise EnvironmentProblem(f"{self.name}: {_words(error)}", "see appliance/audit/postgres.sql") from error

    def last(self) -> int:
        """The highest number; -1: none."""
        return int(self._ask(f"SELECT coalesce(max(seq), -1) FROM {_TABLE}")[0][0])  # noqa: S608

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, all or none."""
        rest = iter(rows)
        try:
            while some := list(islice(rest, _ROWS)):
                self._add(some)
            self._run(self._db.commit)
        except (StoreFailed, AirgapError):
            self._run(self._db.rollback)
            raise

    def _add(self, rows: list[Row]) -> None:
        names = ("seq", "sha256", *FIELDS)
        said = [dict(zip(names, (row[0], row[1].hex(), *row[2:]), strict=True)) for row in rows]
        self._run(lambda: self._execute(_INSERT, [json.dumps(said)]))

    def find(self, wanted: Mapping[str, str | int], since: str, until: str) -> dict[int, bytes]:
        """Number and SHA-256 of the rows that fit, in order."""
        conditions, values = conditions_of(wanted, since, until, "%s")
        query = f"SELECT seq, sha256 FROM {_TABLE} WHERE {conditions} ORDER BY seq"  # noqa: S608
        return {seq: bytes(digest) for seq, digest in self._ask(query, [_text(value) for value in values])}

    def rows(self) -> Iterator[Row]:
        """All of them, in order."""
        query, last = f"SELECT {_COLUMNS} FROM {_TABLE} WHERE seq > %s ORDER BY seq LIMIT {_ROWS}", -(1 << 62)  # noqa: S608
        while found := self._ask(query, [last]):
            yield from ((row[0], bytes(row[1]), *row[2:]) for row in found)
            last = found[-1][0]

    def fit(self, row: Row) -> Row:
        """Text in PostgreSQL has no NUL."""
        return tuple(map(_text, row))

    def guards(self) -> str:
        """Which rights there are that nobody shall have."""
        cursor = self._run(lambda: self._execute(_GUARDS, ()))
        names, values = [column[0] for column in cursor.description], self._run(cursor.fetchone)
        return ", ".join(name for name, value in zip(names, values, strict=True) if value)

    def close(self) -> None:
        """Let go of the connection."""
        self._run(self._db.close)

    def _ask(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        found: list[Any] = list(self._run(lambda: self._execute(query, values).fetchall()))
        return found

    def _execute(self, query: str, values: Iterable[Any]) -> Any:
        cursor = self._db.cursor()
        cursor.execute(query, tuple(values))
        return cursor

    def _run(self, work: Any) -> Any:
        try:
            return work()
        except self._failures as error:
            raise StoreFailed(_words(error)) from error


def _words(error: Exception) -> str:
    """A server's own words, out of the fields that pg8000 gives."""
    fields = error.args[0] if error.args else None
    return str(fields.get("M", fields)) if isinstance(fields, dict) else " ".join(str(error).split())


def _text(value: Any) -> Any:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
