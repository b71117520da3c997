"""Where an index of the audit log lies: rows by number, that are added and never changed. SQLite, in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from custody.errors import AirgapError

#: Columns that can be asked for; the names of the entry's fields.
FIELDS = (
    "kind",
    "time",
    "user_id",
    "key_id",
    "client_ip",
    "role",
    "model",
    "policy_id",
    "decision",
    "request_id",
    "of",
)
#: Number, SHA-256 of the entry, and a value for each of `FIELDS`.
Row = tuple[Any, ...]


class StoreFailed(Exception):
    """What a database said no to; its words."""


class Store(Protocol):
    """Rows of one log; every method raises `StoreFailed`."""

    @property
    def name(self) -> str:
        """Where it is, for errors."""

    @property
    def remedy(self) -> str:
        """What takes it away, so that it is made anew."""

    def last(self) -> int:
        """The highest number; -1: none."""

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, all or none."""

    def find(self, wanted: Mapping[str, str | int], since: str, until: str) -> dict[int, bytes]:
        """Number and SHA-256 of the rows that fit, in order."""

    def rows(self) -> Iterator[Row]:
        """All of them, in order."""

    def fit(self, row: Row) -> Row:
        """A row as this database can keep it."""

    def guards(self) -> str:
        """What is missing of what keeps rows from being changed; empty: nothing."""

    def close(self) -> None:
        """Let go."""


# `INSERT OR REPLACE` deletes without asking the delete trigger, so an insert is guarded, too.
_SCHEMA = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, kind, time, user_id, key_id, client_ip, role,
  model, policy_id, decision, request_id, "of");
CREATE INDEX by_user ON entries (user_id, time);
CREATE INDEX by_time ON entries (time);
CREATE INDEX by_request ON entries (request_id);
CREATE INDEX by_of ON entries ("of");
CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'insert only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'insert only'); END;
CREATE TRIGGER no_replace BEFORE INSERT ON entries
  WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'insert only'); END;
"""
_ROWS = "SELECT * FROM entries ORDER BY seq"
_INSERT = f"INSERT INTO entries VALUES (?, ?{', ?' * len(FIELDS)})"  # noqa: S608


class Sqlite:
    """A file; insert-only by triggers."""

    def __init__(self, file: Path) -> None:
        """Open it; made when it is missing or empty.

        Raises:
            StoreFailed: not such a database.
        """
        self.name, self.remedy = str(file), f"rm {file}"
        is_new = not file.exists() or file.stat().st_size == 0
        self._db = sqlite3.connect(file, isolation_level=None)
        if is_new:
            self._run(lambda: self._db.executescript(_SCHEMA))

    def last(self) -> int:
        """The highest number; -1: none."""
        found = self._run(lambda: self._db.execute("SELECT coalesce(max(seq), -1) FROM entries").fetchone())
        return int(found[0])

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, all or none."""
        self._run(lambda: self._db.execute("BEGIN"))
        try:
            self._run(lambda: self._db.executemany(_INSERT, rows))
            self._run(lambda: self._db.execute("COMMIT"))
        except (StoreFailed, AirgapError):
            self._db.rollback()
            raise

    def find(self, wanted: Mapping[str, str | int], since: str, until: str) -> dict[int, bytes]:
        """Number and SHA-256 of the rows that fit, in order."""
        conditions, values = conditions_of(wanted, since, until, "?")
        query = f"SELECT seq, sha256 FROM entries WHERE {conditions} ORDER BY seq"  # noqa: S608
        found: dict[int, bytes] = self._run(lambda: dict(self._db.execute(query, values).fetchall()))
        return found

    def rows(self) -> Iterator[Row]:
        """All of them, in order."""
        cursor = self._run(lambda: self._db.execute(_ROWS))
        while (row := self._run(cursor.fetchone)) is not None:
            yield row

    def fit(self, row: Row) -> Row:
        """As it is."""
        return row

    def guards(self) -> str:
        """What is missing of the triggers."""
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        found = {name for (name,) in self._run(lambda: self._db.execute(query).fetchall())}
        return "" if found == {"no_update", "no_delete", "no_replace"} else f"its triggers are {sorted(found)}"

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _run(self, work: Any) -> Any:
        try:
            return work()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the second of a message with a damaged name in it
            raise StoreFailed(str(error)) from error


def conditions_of(wanted: Mapping[str, str | int], since: str, until: str, mark: str) -> tuple[str, list[str | int]]:
    """The conditions of a search in SQL, and their values. Args: mark: of a value."""
    conditions, values = [f"time >= {mark}"], [since]  # type: list[str], list[str | int]
    if until:
        conditions.append(f"time < {mark}")
        values.append(until)
    for name, value in wanted.items():
        if name not in FIELDS:
            raise ValueError(name)
        conditions.append(f'"{name}" = {mark}')
        values.append(value)
    return " AND ".join(conditions), values
