"""The drive: state, media and TPer under one power supply, and what reads and writes find.

Locked ranges refuse reads and writes (Core 2.01, 5.7.3). MBR shadowing follows Core 5.7.2.5 and Opal SSC, 4.3.5.3
(from memory): while it is on and not done, reads within the MBR table's extent return the table, writes there are
refused, and so is what lies across its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from . import ranges, uids
from .authentication import exhaust_tries, forget_tries
from .faults import MBR_BYTES, Fault, Model
from .lifecycle import Lifecycle
from .media import Media
from .power import Power
from .state import State, Store
from .tables import POWER_CYCLE, Mbr, Pin
from .tper import Tper, reset_locks

_OTHERS_PIN = b"the pin of somebody else"


class AccessDenied(PermissionError):
    """The blocks are in a locked range, or under the shadow MBR."""


class OutOfRange(ValueError):
    """The blocks are not on the drive."""


class Drive:
    """A powered drive. Take `lock` around everything: commands run one at a time."""

    def __init__(
        self,
        store: Store,
        media: Media,
        model: Model,
        *,
        serial: str = "OPAL0001",
        power: Power | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Power the drive on; a store without a state makes a new drive.

        Raises:
            StateError: The state is damaged or of another model.
        """
        self.model = model
        self.lock = threading.RLock()
        self.power = power or Power()
        self._store = store
        self._media = media
        self._serial = serial
        self._log = log
        self.bios_blocks_sid = model.blocks_sid
        self.power_cycle()

    @property
    def any_locked(self) -> bool:
        """Whether some range is locked."""
        return ranges.any_locked(self.state)

    def power_cycle(self) -> None:
        """Lose everything volatile and start again from what was kept."""
        self.state = State(self._store, self.model, self._serial)
        forget_tries(self.state)
        reset_locks(self.state, POWER_CYCLE)
        self.state.commit()
        self.tper = Tper(self.state, self._media, self.power, self._log)
        if self.bios_blocks_sid and not self.state.owned:
            self.tper.block_sid()

    def suffer(self, faults: Collection[Fault]) -> None:
        """Let happen what is to have happened before a host came."""
        if Fault.OWNED_BY_OTHERS in faults:
            self.state.admin.set(uids.C_PIN_SID, {Pin.PIN: _OTHERS_PIN})
            Lifecycle(self.state, self._media, Power()).activate()
        if Fault.LOCKOUT in faults:
            exhaust_tries(self.state)
        self.state.commit()

    def host_left(self) -> None:
        """The last connection is gone: no session outlives it."""
        self.tper.abort_session()

    def read(self, block: int, count: int) -> bytes:
        """Return blocks.

        Raises:
            OutOfRange: Some are not on the drive.
            AccessDenied: Some may not be read now.
        """
        self._check_extent(block, count)
        if self._in_shadow(block, count):
            start = self._media.mbr_start + block * self.model.block_bytes
            key = self.state.table_key if self.model.encrypts else None
            return self._media.read_bytes(start, count * self.model.block_bytes, key)
        pieces = self._allowed(block, count, write=False)
        return b"".join(self._media.read(at.block, at.count, self.state.key(at.range_number)) for at in pieces)

    def write(self, block: int, data: bytes) -> None:
        """Write blocks. A single block is atomic; more can be torn by a power cut.

        Raises:
            OutOfRange, AccessDenied: Nothing was written.
            PowerCut: Power is lost here.
        """
        size = self.model.block_bytes
        count = len(data) // size
        pieces = self._writable(block, count)
        half = block + count // 2
        for low, high in ((block, half), (half, block + count)):
            for at in pieces:
                first, end = max(at.block, low), min(at.block + at.count, high)
                if first < end:
                    part = data[(first - block) * size : (end - block) * size]
                    self._media.write(first, part, self.state.key(at.range_number))
            if high == half != block:
                self.power.step("write: torn")
        self.power.step("write")

    def write_zeroes(self, block: int, count: int) -> None:
        """Zero blocks, or deallocate them: both leave blocks that read as zeros.

        Raises:
            OutOfRange, AccessDenied: Nothing was written.
            PowerCut: Power is lost here.
        """
        self._writable(block, count)
        self._media.zero(block, count)
        self.power.step("write")

    def flush(self) -> None:
        """Bring the image to the disk below; the drive itself has no volatile cache."""
        self._media.sync()

    def peek(self, start: int, length: int) -> bytes:
        """Return bytes of the user's blocks as they are in the image, whatever is locked."""
        return self._media.read_bytes(start, length, None)

    def close(self) -> None:
        """Close the image."""
        self._media.close()

    def _check_extent(self, block: int, count: int) -> None:
        if block + count > self.model.blocks:
            raise OutOfRange(f"blocks {block} to {block + count - 1} of {self.model.blocks}")

    def _in_shadow(self, block: int, count: int) -> bool:
        """Tell whether blocks lie under the shadow MBR."""
        state = self.state
        if not (state.active and self.model.has_shadow_mbr and state.locking.get(uids.MBR_CONTROL, Mbr.ENABLE)):
            return False
        shadow = MBR_BYTES // self.model.block_bytes
        if state.locking.get(uids.MBR_CONTROL, Mbr.DONE) or block >= shadow:
            return False
        if block + count > shadow:
            raise AccessDenied("across the end of the shadow MBR")
        return True

    def _writable(self, block: int, count: int) -> list[ranges.Extent]:
        self._check_extent(block, count)
        if self._in_shadow(block, count):
            raise AccessDenied("under the shadow MBR")
        return self._allowed(block, count, write=True)

    def _allowed(self, block: int, count: int, *, write: bool) -> list[ranges.Extent]:
        pieces = list(ranges.extents(self.state, block, count))
        for piece in pieces:
            if ranges.is_locked(self.state, piece.range_number, write=write):
                raise AccessDenied(f"range {piece.range_number} is locked")
        return pieces
