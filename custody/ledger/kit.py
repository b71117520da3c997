"""What an auditor is handed for one entry: the entry, its proof, the log's key, and a script that needs no airgap."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from custody.atomic import new_folder
from custody.errors import LedgerBroken
from custody.ledger.disk import read_all
from custody.ledger.origin import PEM, VKEY
from custody.ledger.proof import Proof
from custody.ledger.view import CHECKPOINT, View


def kit(view: View, index: int) -> dict[str, bytes]:
    """The files by name, for an entry that the newest checkpoint covers.

    Raises:
        InputInvalid: it does not cover the entry.
        LedgerBroken: entry, hashes and checkpoint do not belong together.
    """
    head = view.checkpoint()
    if head is None:
        raise LedgerBroken(f"{view.key.name}: nothing was signed yet", "airgap ledger checkpoint")
    entry, path = view.prove(index, head)
    note = read_all(view.disk, view.folder / CHECKPOINT)
    return {
        "entry": entry,
        "proof": Proof(index, tuple(path), note).dump(),
        PEM: view.key.pem,
        VKEY: f"{view.key.vkey}\n".encode(),
        "check": files("custody.ledger").joinpath("check.sh").read_bytes(),
    }


def write_kit(view: View, index: int, out: Path) -> None:
    """Write them to a new folder; nothing is made for an entry that cannot be proven.

    Raises:
        TargetRefused: something is there; and what `kit` raises.
    """
    made = kit(view, index)
    new_folder(out)
    for name, data in made.items():
        (out / name).write_bytes(data)
