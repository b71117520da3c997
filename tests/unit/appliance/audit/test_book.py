"""A group of records, and what each of them is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.book import Book
from appliance.audit.epoch import Epochs
from appliance.audit.fields import Admitted, Completed
from appliance.audit.reserve import Reserve
from custody.errors import LedgerUnwritable, OperatorMistake
from custody.ledger import disk, origin
from custody.ledger.log import Log, open_log
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.ledger.verify import verify
from custody.ledger.view import View
from custody.report import SilentReporter
from tests.unit.appliance.audit.conftest import ADMITTED, AUDITOR, ORIGIN, completed

ALLOWED = Admitted.model_validate(ADMITTED)
DENIED = Admitted.model_validate({**ADMITTED, "decision": "deny"})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    origin.make(tmp_path, ORIGIN)
    with open_log(tmp_path) as made:
        yield made


@pytest.fixture
def book(log: Log, tmp_path: Path) -> Book:
    return Book(log, Epochs(tmp_path, ORIGIN, AUDITOR.public, 3600), Reserve(tmp_path, 4096), SilentReporter())


def ended(seq: int, **more: Any) -> Completed:
    return Completed.model_validate(completed(seq, **more))


def kinds(folder: Path) -> list[str]:
    return [json.loads(entry)["kind"] for _seq, entry in View(folder).entries()]


def test_records_of_a_group_are_numbered_in_order_and_durable_at_once(book: Book, tmp_path: Path) -> None:
    found = book.write([ALLOWED, DENIED, ended(99), ALLOWED])
    assert isinstance(found[2], OperatorMistake)
    assert [found[0], found[1], found[3]] == [1, 2, 3]
    assert kinds(tmp_path) == ["started", "admitted", "admitted", "admitted"]
    assert (tmp_path / "segments" / f"{0:020}.log").read_bytes().count(b"\n#") == 2, "one group, one sync"


def test_an_end_that_is_said_twice_in_a_group_is_written_once(book: Book, tmp_path: Path) -> None:
    book.write([ALLOWED, DENIED])
    first, again, denied = book.write([ended(1), ended(1), ended(2)])
    assert first == 3
    assert isinstance(again, LedgerUnwritable), "not final: the first might not have become durable"
    assert isinstance(denied, OperatorMistake)
    assert book.write([ended(1), ended(1)]) == [4, 4], "an answer, and nothing is written"
    assert isinstance(book.write([ended(1, status="other")])[0], OperatorMistake)
    assert kinds(tmp_path).count("completed") == 1


def test_a_group_that_the_disk_takes_in_part_is_answered_in_part(
    book: Book, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes over the end of a segment, and the next segment cannot be begun."""
    log.append([b'{"kind":"other"}'] * (SEGMENT_ENTRIES - 2 - log.size))
    (seq,) = book.write([ALLOWED])
    write = disk._OpenFile.write

    def full(self: Any, offset: int, data: bytes) -> None:
        if offset == 0 and data.startswith(b"{"):
            raise OSError(28, "No space left on device")
        write(self, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(disk._OpenFile, "write", full)
        assert isinstance(seq, int)
        last, refused = book.write([ALLOWED, ended(seq)])
        assert last == SEGMENT_ENTRIES - 1
        assert isinstance(refused, LedgerUnwritable)
    assert book.write([ended(last), ended(seq)]) == [SEGMENT_ENTRIES, SEGMENT_ENTRIES + 1]
    book.close()
    assert verify(View(tmp_path)).signed == SEGMENT_ENTRIES + 3
