"""Faults by switch, and the model of drive that they make.

Most faults are properties of the drive. Three are things that happened to it before the process started: `block-sid`
happens at every power-on, as a BIOS does it; `lockout` and `owned-by-others` happen once, when the process starts.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

MAX_PIN_BYTES = 32  # C_PIN's PIN has type password, 32 bytes at most (Core 5.3.2.12, from memory)
TRY_LIMIT = 5  # for SID and the label; Opal SSC 4.2.1.8 leaves SID's to the vendor, and gives other PINs none
MBR_BYTES = 128 << 20  # Opal SSC, 4.3.5.4: at least 128 MB
DATA_STORE_BYTES = 10 << 20  # Opal SSC, 4.3.8: at least 10 MB


class Fault(enum.Enum):
    """What can be wrong with a drive; the README's table says what each means to a host."""

    BLOCK_SID = "block-sid"
    LOCKOUT = "lockout"
    FOUR_KN = "4kn"
    BOGUS_GEOMETRY = "bogus-geometry"
    MISALIGNED = "misaligned"
    PYRITE = "pyrite"
    PYRITE_1 = "pyrite1"
    OWNED_BY_OTHERS = "owned-by-others"
    NO_SHADOW_MBR = "no-shadow-mbr"
    NO_PSID = "no-psid"


class FaultError(ValueError):
    """Faults that contradict each other."""


@dataclass(frozen=True)
class Model:
    """What firmware and hardware fix."""

    ssc: str  # "opal", "pyrite" (2.00) or "pyrite1" (1.00)
    block_bytes: int
    blocks: int
    ranges: int  # without the global one
    admins: int
    users: int
    alignment_blocks: int  # AlignmentGranularity
    bogus_geometry: bool
    has_psid: bool
    has_shadow_mbr: bool
    blocks_sid: bool  # the BIOS sends Block SID at every power-on
    try_limit: int  # of every PIN but SID's and the label's; 0: none
    keeps_tries: bool  # C_PIN Persistence: wrong PINs are counted over a power cycle

    @property
    def encrypts(self) -> bool:
        """Pyrite locks and does not encrypt."""
        return self.ssc == "opal"


def model(faults: Collection[Fault], size_bytes: int) -> Model:
    """Return the model that a set of faults makes.

    Args:
        size_bytes: User capacity, a multiple of 4096.

    Raises:
        FaultError: Both kinds of Pyrite, or a fault of geometry on a Pyrite drive, which has none.
    """
    pyrite = {Fault.PYRITE, Fault.PYRITE_1} & set(faults)
    geometry = {Fault.BOGUS_GEOMETRY, Fault.MISALIGNED} & set(faults)
    if len(pyrite) > 1 or (pyrite and geometry):
        raise FaultError("a drive is Pyrite 1.00 or 2.00, and Pyrite has no geometry to be wrong")
    if size_bytes <= 0 or size_bytes % 4096:
        raise FaultError(f"size of {size_bytes} bytes, expected a multiple of 4096")
    block_bytes = 4096 if Fault.FOUR_KN in faults else 512
    # 6 MiB: no power of two, so that partitions on 1 MiB boundaries miss it.
    alignment_bytes = 6 << 20 if Fault.MISALIGNED in faults else 4096
    return Model(
        ssc=next(iter(pyrite)).value if pyrite else "opal",
        block_bytes=block_bytes,
        blocks=size_bytes // block_bytes,
        ranges=0 if pyrite else 8,
        admins=1 if pyrite else 4,
        users=2 if pyrite else 9,
        alignment_blocks=alignment_bytes // block_bytes,
        bogus_geometry=Fault.BOGUS_GEOMETRY in faults,
        has_psid=Fault.NO_PSID not in faults,
        has_shadow_mbr=Fault.NO_SHADOW_MBR not in faults,
        blocks_sid=Fault.BLOCK_SID in faults,
        try_limit=TRY_LIMIT if Fault.LOCKOUT in faults else 0,
        keeps_tries=Fault.LOCKOUT in faults,
    )
