"""Power cuts at every byte, on a simulated disk: no acknowledged entry is lost, none is made up, the log goes on.

The log runs once on a disk that writes down what it is asked; then every cut of that run is a disk of its own, on which
the log is opened, verified and written to. `make unit` prints how many there were.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.errors import LedgerBroken, LedgerUnwritable
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.log import TORN, Log
from custody.ledger.note import LogSigner
from custody.ledger.verify import verify
from tests.killing import SEED
from tests.unit.ledger.simulated import Sim, cuts

FOLDER = Path("/log")
SIGNER = LogSigner("site-7.example/custody", Ed25519PrivateKey.generate())
HOW = ("none", "all", "any", "any", "long")


def entry(number: int, size_bytes: int = 20) -> bytes:
    return b'{"n":%d,"text":"%s"}' % (number, b"x" * size_bytes)


def opened(disk: Sim) -> Log:
    return Log(FOLDER, SIGNER, disk)


class Run:
    """A run of a log that is written down: what was acknowledged, and signed, at which operation."""

    def __init__(self, disk: Sim) -> None:
        self.disk, self.start = disk, {path: bytes(data) for path, data in disk.files.items()}
        disk.ops.clear()
        self.log = opened(disk)
        self.entries = [data for _index, data in self.log.view.entries()]
        self.acknowledged: list[tuple[int, int]] = [(0, len(self.entries))]
        self.signed: list[tuple[int, Checkpoint]] = []

    def append(self, *entries: bytes) -> None:
        self.entries += entries
        self.log.append(entries)
        self.acknowledged.append((len(self.disk.ops), len(self.entries)))

    def sign(self) -> None:
        self.signed.append((len(self.disk.ops), self.log.checkpoint()))

    def acknowledged_at(self, op: int) -> int:
        return max(size for at, size in self.acknowledged if at <= op)


def survive(run: Run, op: int, after: Sim) -> Log:
    """What must hold after any cut."""
    log = opened(after)
    kept = [data for _index, data in log.view.entries()]
    assert kept == run.entries[: len(kept)], "an entry was changed or made up"
    assert len(kept) >= run.acknowledged_at(op), "an acknowledged entry is lost"
    assert log.size == len(kept)
    number = log.append([entry(10**6)])[0]
    assert number == len(kept)
    log.checkpoint()
    heads = [head for at, head in run.signed if at < op]
    found = verify(log.view, heads)
    assert (found.size, found.torn_bytes, found.compared) == (len(kept) + 1, 0, len(heads))
    return log


def test_no_power_cut_loses_an_acknowledged_entry() -> None:
    run, chance, tried, torn = Run(Sim()), random.Random(SEED), 0, 0
    print(f"AIRGAP_TEST_SEED={SEED}")
    for number, sizes in enumerate(((9,), (0, 40), (600,), (1, 2), (700, 5, 200))):
        run.append(*(entry(10 * number + i, size) for i, size in enumerate(sizes)))
        if number == 1:
            run.sign()
    for op, cut in cuts(run.start, run.disk.ops):
        for how in HOW:
            log = survive(run, op, cut.survivors(how, chance))
            torn += log.torn is not None
            tried += 1
    print(f"{tried} power cuts, {torn} left a torn group")
    assert tried >= 10_000
    assert torn > 1_000


def test_no_power_cut_during_recovery_loses_an_acknowledged_entry() -> None:
    chance = random.Random(SEED)
    print(f"AIRGAP_TEST_SEED={SEED}")
    first = Run(Sim())
    first.append(entry(1), entry(2))
    first.sign()
    first.append(entry(3, 600))
    first.append(entry(4, 1200))
    tried = 0
    for op, cut in list(cuts(first.start, first.disk.ops, step=97)):
        second = Run(cut.survivors("any", chance))
        second.append(entry(5))
        for again, inner in cuts(second.start, second.disk.ops, step=61):
            survive(second, again, inner.survivors("any", chance))
            tried += 1
        assert second.acknowledged[0][1] >= first.acknowledged_at(op)
    print(f"{tried} power cuts during recovery and after")
    assert tried > 500


def test_what_a_crash_left_is_kept_aside_and_told() -> None:
    run = Run(Sim())
    run.append(entry(1))
    path = FOLDER / "segments" / f"{0:020}.log"
    run.disk.files[path] += b'{"half":'
    log = opened(run.disk)
    assert log.torn is not None
    assert (log.torn.size, log.torn.data) == (1, b'{"half":')
    assert run.disk.files[FOLDER / TORN / f"{1:020}"] == b'{"half":'
    assert opened(run.disk).torn is None


@pytest.mark.parametrize("what", ["write", "sync", "make", "replace", "truncate"])
def test_a_disk_that_fails_at_any_operation_loses_nothing(what: str) -> None:
    """The error comes once, or again and again while the log tries to take back what is half there."""
    for failing, lasting in ((n, many) for n in range(12) for many in (1, 2, 100)):
        disk, seen = Sim(), [0]

        def fault(op: str, path: Path, seen: list[int] = seen, failing: int = failing, lasting: int = lasting) -> None:
            if op != what:
                return
            seen[0] += 1
            if failing < seen[0] <= failing + lasting:
                raise OSError(5, "Input/output error", str(path))

        log, kept = opened(disk), []
        disk.fault = fault
        for number in range(8):
            try:
                log.append([entry(number)])
                kept.append(entry(number))
                log.checkpoint()
            except LedgerUnwritable as error:
                assert "Input/output error" in error.message
        disk.fault = None
        if lasting > 1:
            kept.append(entry(88))
            log.append(kept[-1:])  # the same log goes on once the disk does
        again = opened(disk)
        found = [data for _index, data in again.view.entries()]
        assert [data for data in found if data in kept] == kept, "an acknowledged entry is lost"
        assert len(found) <= len(kept) + 1, "more than the last, unacknowledged group came back"
        again.append([entry(99)])
        verify(again.view)


@pytest.mark.parametrize("bit", range(8))
def test_a_hole_that_other_groups_follow_is_never_cut_away(bit: int) -> None:
    run = Run(Sim())
    for number in range(3):
        run.append(entry(number))
    path = FOLDER / "segments" / f"{0:020}.log"
    whole = bytes(run.disk.files[path])
    second = whole.index(b"\n", whole.index(b"\n#1 2 ") + 1)
    for at in range(second):
        damaged = Sim({**run.disk.files, path: bytearray(whole)})
        damaged.files[path][at] ^= 1 << bit
        with pytest.raises(LedgerBroken):
            opened(damaged)
        assert len(damaged.files[path]) == len(whole)


def test_what_was_signed_is_never_cut_away() -> None:
    run = Run(Sim())
    for number in range(3):
        run.append(entry(number))
    run.sign()
    path = FOLDER / "segments" / f"{0:020}.log"
    for at in range(len(run.disk.files[path])):
        damaged = Sim({name: bytearray(data) for name, data in run.disk.files.items()})
        damaged.files[path][at] ^= 1
        with pytest.raises(LedgerBroken):
            opened(damaged)
    for at in range(len(run.disk.files[path])):
        damaged = Sim({name: bytearray(data) for name, data in run.disk.files.items()})
        del damaged.files[path][at:]
        with pytest.raises(LedgerBroken, match=r"cut off|changed"):
            opened(damaged)
