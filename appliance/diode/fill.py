"""What the wire lost, by file: an export of the log (`airgap audit export`) that a file diode or a person brought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from appliance.diode import arrivals
from appliance.diode.arrivals import Arrivals
from appliance.diode.heads import Heads
from appliance.diode.mirror import Mirror
from appliance.diode.receive import MIRROR
from custody.errors import InputInvalid, LedgerBroken
from custody.ledger.checkpoint import open_checkpoint
from custody.ledger.export import read_bundle
from custody.ledger.origin import load_public
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.ledger.tree import TILE_LEVELS
from custody.ledger.view import CHECKPOINT
from custody.lock import alone
from custody.report import Reporter

_WIDTH = 1 << TILE_LEVELS


@dataclass
class Filled:
    """What an export brought.

    Attributes:
        size: entries that are verified now.
        brought: entries that had not come through the diode.
        compared: signed tree heads from the diode that the export goes through.
        overruled: numbers that had come through the diode with another content.
    """

    size: int = 0
    brought: int = 0
    compared: int = 0
    overruled: list[int] = field(default_factory=list)


def fill(folder: Path, export: Path, reporter: Reporter) -> Filled:
    """Complete what was received; a receiver may go on meanwhile.

    Args:
        folder: of a receiver.
        export: C2SP tlog-tiles of the same log; its hash tiles are not used.

    Raises:
        InputInvalid: nothing was received there, or the export is older than what is verified.
        LedgerBroken: the export is not what it signs, or not what the diode's checkpoints say; nothing was taken over.
        BundleMalformed, SignatureRejected: its checkpoint is none, or another log's.
    """
    received = folder / arrivals.FOLDER
    if not received.is_dir():
        raise InputInvalid(f"{folder}: nothing was received there", "airgap diode receive")
    key = load_public(folder)
    try:
        note = (export / CHECKPOINT).read_bytes()
    except OSError as error:
        raise InputInvalid(f"{export}: expected an export, found none ({CHECKPOINT})", "airgap audit export") from error
    head = open_checkpoint(note, key, str(export / CHECKPOINT))[0]
    with alone(folder / MIRROR, "an airgap diode", waiting=reporter.note):
        mirror = Mirror(folder, key)
        try:
            if head.size < mirror.size:
                hint = "bring a newer one" if mirror.root_at(head.size) == head.root else "keep both: two pasts"
                raise InputInvalid(f"{export}: {head.size} entries, {mirror.size} are verified here already", hint)
            found = Filled(head.size)
            source = _compared(_entries(export, head.size, mirror.size), mirror.size, head.size, received, found)
            within = {size: heard.head.root for size, heard in Heads(received, key).by_size.items()}
            at = mirror.size
            for size in sorted(size for size in within if at < size <= head.size):
                mirror.append(next(source) for _ in range(size - at))
                mirror.require(within[size])
                at, found.compared = size, found.compared + 1
            mirror.append(source)
            mirror.commit(head.root, note)
        except LedgerBroken as error:
            mirror.undo()
            raise LedgerBroken(
                f"{export}: {error.message}", "keep both: the export was changed, or the log signed two pasts"
            ) from error
        finally:
            mirror.close()
    return found


def _compared(source: Iterator[bytes], start: int, stop: int, received: Path, found: Filled) -> Iterator[bytes]:
    """The entries, each held against what came through the diode."""
    came, here = Arrivals(received), dict[int, bytes]()
    for seq, entry in enumerate(source, start):
        if seq == start or seq % SEGMENT_ENTRIES == 0:
            here = came.read(seq, min(stop, seq - seq % SEGMENT_ENTRIES + SEGMENT_ENTRIES))
        if seq not in here:
            found.brought += 1
        elif here[seq] != entry:
            found.overruled.append(seq)
        yield entry


def _entries(export: Path, size: int, start: int) -> Iterator[bytes]:
    """Entries from `start` on out of the bundles (C2SP `tlog-tiles`) of a tree of this size; not compared yet."""
    for number in range(start // _WIDTH, -(-size // _WIDTH)):
        width = min(_WIDTH, size - number * _WIDTH)
        yield from islice(read_bundle(export, number, width), max(0, start - number * _WIDTH), None)
