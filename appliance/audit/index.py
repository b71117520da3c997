"""An index of the audit log for searching: insert-only, made from the segments and never believed.

It belongs to whoever searches: SQLite beside the log or elsewhere, or a table in PostgreSQL. Every answer is read again
from the log by its number; a row that does not fit its entry is an error. Removing it costs nothing but time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appliance.audit.postgres import PREFIX, Postgres
from appliance.audit.store import FIELDS, Row, Sqlite, Store, StoreFailed
from custody.errors import LedgerBroken
from custody.ledger.view import View

NAME = "index.sqlite"


class Index:
    """The index of one log."""

    def __init__(self, view: View, place: str | Path | None = None) -> None:
        """Open it and bring it up to the log; a file is made when it is missing.

        Args:
            place: a file, or `postgresql:` and the folder of the socket and the database; None: a file of the log's.

        Raises:
            LedgerBroken: it is none, or does not take rows.
        """
        self._view, where = view, str(place or view.folder / NAME)
        self._name, self._remedy = where, f"rm {where}"
        try:
            self._store: Store = (
                Postgres(Path(where.removeprefix(PREFIX))) if where.startswith(PREFIX) else Sqlite(Path(where))
            )
            self._name, self._remedy = self._store.name, self._store.remedy
            self._catch_up()
        except StoreFailed as error:
            raise self._broken(str(error)) from error

    def close(self) -> None:
        """Let go of it."""
        self._store.close()

    def search(self, wanted: Mapping[str, str | int], since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
        """Entries by exact field values and time, in order, as the log has them.

        Args:
            wanted: `FIELDS` and values.
            since: UTC, as entries have it, included; empty: from the first.
            until: the same, not included; empty: to the last.

        Raises:
            LedgerBroken: a row does not fit the log.
        """
        try:
            found = self._store.find(wanted, since, until)
        except StoreFailed as error:
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
            LedgerBroken: a row was changed, removed or added, or what guards them is gone.
        """
        try:
            return self._verify()
        except StoreFailed as error:
            raise self._broken(str(error)) from error

    def _verify(self) -> int:
        if missing := self._store.guards():
            raise self._broken(missing)
        rows, count = self._store.rows(), 0
        for seq, entry in self._view.entries():
            row = next(rows, None)
            if row is None:
                break  # written meanwhile
            if row != self._store.fit(_row(seq, entry)):
                raise self._broken(f"row {row[0]} is not of entry {seq}")
            count += 1
        if next(rows, None) is not None:
            raise self._broken("it has rows that the log has not")
        return count

    def _catch_up(self) -> None:
        last = self._store.last()
        self._store.add(self._store.fit(_row(seq, entry)) for seq, entry in self._view.entries(last + 1))

    def _broken(self, what: str) -> LedgerBroken:
        return LedgerBroken(
            f"{self._name}: {what}", f"it is only an index: keep it for the inquiry, then {self._remedy}"
        )


def _row(seq: int, entry: bytes) -> Row:
    content = json.loads(entry)
    return (seq, hashlib.sha256(entry).digest(), *(content.get(name) for name in FIELDS))
