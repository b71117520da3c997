"""What kind of drive stands there, in words that decide what may be done with it.

By the drive's own words alone; whether an owned drive is ours shows in its PIN and in the volume's header. Every answer
that is not a clear yes is a no: a drive that says nothing of something that matters is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appliance.drive.discovery import CLASSES, OPAL_2, Discovery

_ANOTHER = "storage.mode: luks, or another drive"
_NOBODYS = "airgap drive revert, if it is nobody's any more"


class Kind(StrEnum):
    """What a drive is to an appliance."""

    UNSUPPORTED = "unsupported"
    PYRITE = "pyrite"
    FACTORY = "factory"
    SID_BLOCKED = "sid-blocked"
    OWNED = "owned"


@dataclass(frozen=True)
class Judged:
    """A kind, why, and what to do to have a drive that an appliance takes over."""

    kind: Kind
    why: str
    remedy: str = ""

    @property
    def opal(self) -> bool:
        """Whether the drive makes new keys when whoever may tells it to."""
        return self.kind not in (Kind.UNSUPPORTED, Kind.PYRITE)


def judge(found: Discovery | None) -> Judged:
    """Say what a drive is; None is a disk that is no self-encrypting drive to this kernel."""
    if found is None or not found.classes:
        return Judged(Kind.UNSUPPORTED, "no self-encrypting drive", _ANOTHER)
    if any(name.startswith("Pyrite") for name in found.classes):
        return Judged(Kind.PYRITE, "locks and does not encrypt", _ANOTHER)
    if CLASSES[OPAL_2] not in found.classes or not found.supported:
        return Judged(Kind.UNSUPPORTED, f"{', '.join(found.classes)}, not Opal 2", _ANOTHER)
    if not found.encrypts:
        return Judged(Kind.UNSUPPORTED, "Opal 2 that does not encrypt", _ANOTHER)
    if found.removal_interrupted:
        return Judged(Kind.OWNED, "its erasure was cut off", "airgap drive revert or decommission, again")
    if found.activated:
        locked = ", locked" if found.locked else ""
        shadow = ", shadow MBR on" if found.shadowed else ""
        return Judged(Kind.OWNED, f"owned{locked}{shadow}", _NOBODYS)
    # Blocked before set: the BIOS forbids what could be asked of SID at all.
    if found.sid_blocked:
        remedy = "switch 'Block SID' off in the BIOS for one start, then run this again"
        return Judged(Kind.SID_BLOCKED, "the BIOS blocked SID at power-on", remedy)
    if found.sid_is_set:
        return Judged(Kind.OWNED, "SID has a PIN, nothing is activated", _NOBODYS)
    if not found.sid_is_msid:
        return Judged(Kind.OWNED, "SID's first PIN is the maker's and nobody else's", _ANOTHER)
    return Judged(Kind.FACTORY, "as it leaves the factory")
