"""What came out of the diode so far, and what is wrong with it: from the folder, whether a receiver runs or not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from appliance.diode import arrivals
from appliance.diode.arrivals import Arrivals
from appliance.diode.heads import Heads
from custody.atomic import write_whole
from custody.errors import AirgapError, EntriesMissing, InputInvalid, LedgerBroken
from custody.ledger.view import View

_FILE = "state.json"
#: Numbers of contradicting records that are named; more are only counted.
_NAMED = 100
Verdict = Literal["complete", "under way", "silent", "missing", "contradicted", "forked"]


@dataclass
class Heard:
    """What the receiver has heard since its folder was begun.

    Attributes:
        sent: entries that the sender says it has said as often as it will.
        at: when the newest signed checkpoint was last heard, UTC, RFC 3339; empty: never.
        datagrams: all that came.
        copies: records that had come before.
        refused: what was no message of this log, or of an entry that no checkpoint is near.
        dropped: by this machine, for want of room in the socket's buffer.
        conflicts: records that said something else than an earlier one of the same number.
        conflicting: their numbers, the first of them.
        contradicted: size of a checkpoint that is not over the entries that came; None: there is none.
        forked: size of a checkpoint that the log signed twice, over different entries; None: there is none.
    """

    sent: int = 0
    at: str = ""
    datagrams: int = 0
    copies: int = 0
    refused: int = 0
    dropped: int = 0
    conflicts: int = 0
    conflicting: list[int] = field(default_factory=list)
    contradicted: int | None = None
    forked: int | None = None

    @classmethod
    def load(cls, folder: Path) -> Heard:
        """What was saved, or nothing.

        Args:
            folder: `received` of a receiver's folder.
        """
        try:
            found = json.loads((folder / _FILE).read_bytes())
            return cls(**{name: found[name] for name in cls.__dataclass_fields__})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return cls()

    def save(self, folder: Path) -> None:
        """Keep it."""
        write_whole(folder / _FILE, json.dumps(asdict(self)).encode(), mode=0o640)

    def conflict(self, seq: int) -> None:
        """Note that a number came with two contents."""
        self.conflicts += 1
        if len(self.conflicting) < _NAMED and seq not in self.conflicting:
            self.conflicting.append(seq)


@dataclass(frozen=True)
class Standing:
    """How things stand.

    Attributes:
        verified: entries that are here and that a checkpoint vouches for.
        signed: entries under the newest checkpoint that was heard.
        missing: numbers that were sent and did not come.
        too_long: numbers that only a file can bring.
    """

    origin: str
    verified: int
    signed: int
    missing: tuple[range, ...]
    too_long: tuple[range, ...]
    heard: Heard
    verdict: Verdict

    def dump(self) -> dict[str, Any]:
        """For `--json`; ranges as first and last number."""
        return {
            "origin": self.origin, "verdict": self.verdict, "verified": self.verified, "signed": self.signed,
            "missing": [[run.start, run.stop - 1] for run in self.missing], "missing_entries": _count(self.missing),
            "too_long": [[run.start, run.stop - 1] for run in self.too_long], **asdict(self.heard),
        }  # fmt: skip

    @property
    def missing_entries(self) -> int:
        """How many did not come."""
        return _count(self.missing)

    @property
    def problem(self) -> AirgapError | None:
        """The error that says what is wrong; None when all is well."""
        fill = "airgap diode fill DIR EXPORT, with an export of the log"
        if self.verdict == "forked":
            what = f"{self.origin}: signed two pasts of {self.heard.forked} entries"
            return LedgerBroken(what, "keep the folder; the host is not to be trusted any more")
        if self.verdict == "contradicted":
            what = (
                f"the first {self.heard.contradicted} entries that came are not those that a checkpoint was signed over"
            )
            return LedgerBroken(f"{self.origin}: {what}: somebody else spoke, or the log was changed", fill)
        if self.verdict == "missing":
            what = f"{_count(self.missing)} entries did not come, {_count(self.too_long)} only fit into a file"
            return EntriesMissing(f"{self.origin}: {what}", fill)
        if self.verdict == "silent":
            since = f"since {self.heard.at}" if self.heard.at else "yet"
            return EntriesMissing(f"{self.origin}: no checkpoint was heard {since}", "is airgap-diode.service running?")
        return None


def judge(folder: Path, silence_s: float | None = None) -> Standing:
    """Look at a receiver's folder.

    Args:
        silence_s: seconds without a checkpoint that are too many; None: any number is well.

    Raises:
        InputInvalid: nothing was received there.
        LedgerBroken: its checkpoint is malformed, or not signed by the log.
    """
    received = folder / arrivals.FOLDER
    if not received.is_dir():
        raise InputInvalid(f"{folder}: nothing was received there", "airgap diode receive")
    # In this order: a receiver that runs moves entries from the second to the third.
    heard, came, view = Heard.load(received), Arrivals(received), View(folder)
    heads = Heads(received, view.key)
    own = view.checkpoint()
    verified = own.size if own is not None else 0
    missing, too_long = tuple(came.absent(verified, heard.sent)), tuple(came.announced(verified, heard.sent))
    signed = max(verified, heads.newest_size)
    return Standing(
        view.key.name, verified, signed, missing, too_long, heard,
        _verdict(heard, verified, signed, bool(missing or too_long), silence_s),
    )  # fmt: skip


def _verdict(heard: Heard, verified: int, signed: int, is_missing: bool, silence_s: float | None) -> Verdict:
    if heard.forked is not None:
        return "forked"
    if heard.contradicted is not None and heard.contradicted > verified:
        return "contradicted"
    if is_missing:
        return "missing"
    if not heard.at and not signed:
        return "silent"
    if silence_s is not None and _age_s(heard.at) > silence_s:
        return "silent"
    return "complete" if verified == signed else "under way"


def _age_s(moment: str) -> float:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except ValueError:
        return float("inf")


def _count(runs: tuple[range, ...]) -> int:
    return sum(map(len, runs))
