"""The auditor's copies of the epochs' keys that lie beside a log, compared with what the log says of them.

The log has the digest of each, so a copy that was swapped is found before the auditor needs it. One that is missing is
no error: he may have destroyed it on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from appliance.audit.epoch import FOLDER
from appliance.audit.keeping import of_kind
from custody.errors import LedgerBroken
from custody.ledger.view import View

_MARKS = (b'"kind":"started"', b'"kind":"epoch"')


def compare(view: View) -> dict[int, bool]:
    """Compare every copy with its digest.

    Returns:
        The epochs of which the log has a digest, in order: whether the copy is there and can be read.

    Raises:
        LedgerBroken: a copy is not the one of the log, or the log has two of one epoch.
    """
    said: dict[int, tuple[int, str]] = {}
    for seq, number, digest in sorted(_digests(view)):
        before, other = said.setdefault(number, (seq, digest))
        if other != digest:
            raise LedgerBroken(
                f"{view.key.name}: epoch {number} has two copies for the auditor by entries {before} and {seq}",
                "the copy was swapped, or the folder made anew: compare with the last export",
            )
    return {number: _is_there(view, number, digest) for number, (_seq, digest) in sorted(said.items())}


def _digests(view: View) -> Iterator[tuple[int, int, str]]:
    """Of entries that say one: their number, the epoch's, and the digest."""
    for mark in _MARKS:
        for seq, content in of_kind(view, mark):
            if content.get("escrow_sha256"):
                yield seq, content["epoch"], content["escrow_sha256"]


def _is_there(view: View, number: int, digest: str) -> bool:
    file = view.folder / FOLDER / f"{number:06}.cms"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return False
    if found != digest:
        raise LedgerBroken(
            f"{file}: expected the auditor's copy with SHA-256 {digest}, found {found}",
            "it was damaged or swapped: take the copy from an export made before that; where there is none, put this"
            " one aside, and nobody can tell the texts of that epoch",
        )
    return True
