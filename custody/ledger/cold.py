"""Complete segments as they go onto a medium that is written once: each verifies by itself, with openssl and coreutils.

A folder: `checkpoint`, `log.pem`, `log.vkey`; for each segment its text, compressed (`segments/N.log.gz`), and the path
from its own tree head to the checkpoint's (`segments/N.path`, a hash a line, base64); where an older checkpoint was
given, that one (`older`) and the proof that the log goes on from it (`growth`, as C2SP `tlog-witness` has it); the
script `check`; `SHA256SUMS` over all of it. What is no complete segment yet, or has expired, is not in it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from custody.atomic import write_whole
from custody.errors import InputInvalid, LedgerBroken
from custody.ledger import segment
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.disk import read_all
from custody.ledger.origin import PEM, VKEY
from custody.ledger.proof import Growth
from custody.ledger.tree import leaf_hash, reduce
from custody.ledger.view import CHECKPOINT, View

_SUMS = "SHA256SUMS"


def names_of(view: View, first: int, last: int | None) -> list[str]:
    """Complete segments by their place in the log, from 0; without a last one: up to the newest that is signed.

    Raises:
        InputInvalid: there is none, or one of them is not complete or has expired.
    """
    head = view.checkpoint()
    count = head.size // segment.SEGMENT_ENTRIES if head is not None else 0
    end = count if last is None else last + 1
    if not 0 <= first < end <= count:
        raise InputInvalid(
            f"segments {first} to {end - 1}: expected some of the {count} that are complete",
            f"{segment.SEGMENT_ENTRIES} entries make one: wait for more, or export without --segments",
        )
    names = view.segments()[first:end]
    for name in names:
        if not view.has_text(name):
            raise InputInvalid(f"segment {segment.number_of(name) >> segment.LEVEL}: has expired", "begin after it")
    return names


def write_cold(view: View, names: Sequence[str], folder: Path, older: bytes = b"") -> Checkpoint:
    """Write segments to an empty folder; each is compared with the checkpoint before it is written.

    Args:
        older: a checkpoint of this log that left the host before.

    Raises:
        LedgerBroken: the entries are not those that were signed, or the log does not go on from the older one.
        BundleMalformed, SignatureRejected: the older checkpoint is none of this log.
    """
    head = view.checkpoint()
    if head is None:
        raise LedgerBroken(f"{view.key.name}: nothing was signed yet", "airgap ledger checkpoint")
    note = read_all(view.disk, view.folder / CHECKPOINT)
    made = {
        CHECKPOINT: note,
        VKEY: f"{view.key.vkey}\n".encode(),
        PEM: view.key.pem,
        "check": files("custody.ledger").joinpath("check.sh").read_bytes(),
    }
    if older:
        before, _note = open_checkpoint(older, view.key, "older")
        made["older"] = older
        made["growth"] = Growth(before.size, tuple(view.prove_growth(before, head)), note).dump()
    (folder / segment.FOLDER).mkdir()
    sums = {name: _put(folder / name, data) for name, data in made.items()}
    for name in names:
        text, _is_gone = view.text(name)
        leaves = [leaf_hash(entry) for _index, entry in segment.numbered(text, 0)]
        if len(leaves) != segment.SEGMENT_ENTRIES:
            raise view.broken(f"segment {name} has {len(leaves)} entries")
        path = view.prove_segment(name, reduce(leaves), head)
        stem = f"{segment.FOLDER}/{name.removesuffix(segment.TEXT)}"
        lines = b"".join(base64.b64encode(node) + b"\n" for node in path)
        sums[f"{stem}.path"] = _put(folder / f"{stem}.path", lines)
        sums[f"{stem}{segment.PACKED}"] = _put(folder / f"{stem}{segment.PACKED}", gzip.compress(text, 6, mtime=0))
    _put(folder / _SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode())
    return head


def _put(path: Path, data: bytes) -> str:
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()
