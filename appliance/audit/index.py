"""An index of the audit log for searching: SQLite, insert-only, made from the segments and never believed.

It lies beside the log and belongs to whoever searches. Every answer is read again from the log by its number; a row
that does not fit its entry is an error. Removing the file costs nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from custody.errors import LedgerBroken
from custody.ledger.view import View

NAME = "index.sqlite"
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


class Index:
    """The index of one log."""

    def __init__(self, view: View, file: Path | None = None) -> None:
        """Open it and bring it up to the log; made anew when it is missing."""
        self._view, self.file = view, file or view.folder / NAME
        is_new = not self.file.exists() or self.file.stat().st_size == 0
        self._db = sqlite3.connect(self.file, isolation_level=None)
        try:
            if is_new:
                self._db.executescript(_SCHEMA)
            self._catch_up()
        except sqlite3.Error as error:
            raise self._broken(str(error)) from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def search(self, wanted: Mapping[str, str | int], since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
        """Entries by exact field values and time, in order, as the log has them.

        Args:
            wanted: `FIELDS` and values.
            since: RFC 3339 or a beginning of it, included; empty: from the first.
            until: the same, not included; empty: to the last.

        Raises:
            LedgerBroken: a row does not fit the log.
        """
        conditions, values = ["time >= ?"], [since]
        if until:
            conditions.append("time < ?")
            values.append(until)
        for name, value in wanted.items():
            if name not in FIELDS:
                raise ValueError(name)
            conditions.append(f'"{name}" = ?')
            values.append(value)  # type: ignore[arg-type]
        query = f"SELECT seq, sha256 FROM entries WHERE {' AND '.join(conditions)} ORDER BY seq"  # noqa: S608
        try:
            found = dict(self._db.execute(query, values).fetchall())
        except sqlite3.Error as error:
            raise self._broken(str(error)) from error
        if not found:
            return
        for seq, entry in self._view.entries(min(found), max(found) + 1):
            if seq in found:
                if hashlib.sha256(entry).digest() != found[seq]:
                    raise self._broken(f"row {seq} is not of the entry that the log has")
                yield json.loads(entry)

    def verify(self) -> int:
        """Compare every row with its entry; returns how many there are.

        Raises:
            LedgerBroken: a row was changed, removed or added, or a trigger is gone.
        """
        triggers = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        if triggers != {"no_update", "no_delete", "no_replace"}:
            raise self._broken(f"its triggers are {sorted(triggers)}")
        rows = self._db.execute(_ROWS)
        count = 0
        for seq, entry in self._view.entries():
            row = rows.fetchone()
            if row is None:
                break  # written meanwhile
            if row != _row(seq, entry):
                raise self._broken(f"row {row[0]} is not of entry {seq}")
            count += 1
        if rows.fetchone() is not None:
            raise self._broken("it has rows that the log has not")
        return count

    def _catch_up(self) -> None:
        (last,) = self._db.execute("SELECT coalesce(max(seq), -1) FROM entries").fetchone()
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN")
            cursor.executemany(_INSERT, (_row(seq, entry) for seq, entry in self._view.entries(last + 1)))
            cursor.execute("COMMIT")

    def _broken(self, what: str) -> LedgerBroken:
        return LedgerBroken(
            f"{self.file}: {what}", f"it is only an index: keep it for the inquiry, then rm {self.file}"
        )


def _row(seq: int, entry: bytes) -> tuple[Any, ...]:
    content = json.loads(entry)
    return (seq, hashlib.sha256(entry).digest(), *(content.get(name) for name in FIELDS))
