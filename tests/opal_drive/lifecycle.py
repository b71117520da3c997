"""Activate, Revert, RevertSP and GenKey: what makes an SP, and what destroys data.

Follows Opal SSC, sections 5.1.1 (Activate), 5.1.2 (Revert), 5.1.3 (RevertSP), Core 2.01, section 5.3.3.16
(GenKey; from memory), and the PSID feature set 1.00. Activate and GenKey are atomic here. Reverts are not, as on real
drives: data goes first, then the byte tables, then the PINs, so that a cut can leave a drive that is empty and still
owned, never one that is free to take and still holds data.
"""

from __future__ import annotations

from . import uids
from .media import Media
from .packets import Status
from .power import Power
from .state import State
from .tables import LIFE_CYCLE, MANUFACTURED, Lock, Pin


class Lifecycle:
    """The operations on a drive's state and media."""

    def __init__(self, state: State, media: Media, power: Power) -> None:
        self._state = state
        self._media = media
        self._power = power

    def activate(self) -> Status:
        """Activate the Locking SP; Admin1 gets the PIN that SID has (Opal SSC 5.1.1.2)."""
        state = self._state
        if not state.active:
            state.locking.changes.clear()
            pin = state.admin.get(uids.C_PIN_SID, Pin.PIN)
            state.locking.set(uids.c_pin(uids.admin(1)), {Pin.PIN: pin})
            state.admin.set(uids.LOCKING_SP, {LIFE_CYCLE: MANUFACTURED})
            state.commit()
        return Status.SUCCESS

    def generate_key(self, row: bytes) -> Status:
        """Give a range a new media key: what it held is noise from here on."""
        self._state.replace_keys([uids.range_number(row)])
        self._state.commit()
        return Status.SUCCESS

    def revert_admin(self) -> Status:
        """Revert the Admin SP and with it the Locking SP.

        Data goes when the Locking SP was active, and stays when it was not (Opal SSC 5.1.2.2).
        """
        if self._state.active:
            self._erase(keep_global=False)
        self._state.locking.changes.clear()
        self._state.admin.changes.clear()
        self._state.removing = False
        self._state.commit()
        return Status.SUCCESS

    def revert_locking(self, *, keep_global: bool = False) -> Status:
        """Revert the Locking SP; SID keeps its PIN.

        Args:
            keep_global: Keep the global range's data (KeepGlobalRangeKey, Opal SSC 5.1.3.2).

        Returns:
            FAIL when that range is locked for reads and writes and is to be kept.
        """
        state = self._state
        both = (Lock.READ_LOCKED, Lock.WRITE_LOCKED)
        if keep_global and all(state.locking.get(uids.GLOBAL_RANGE, column) for column in both):
            return Status.FAIL
        if state.active:
            self._erase(keep_global=keep_global)
            state.locking.changes.clear()
            state.admin.changes.pop(uids.LOCKING_SP, None)
            state.removing = False
            state.commit()
        return Status.SUCCESS

    def _erase(self, *, keep_global: bool) -> None:
        """Destroy the user's data and the byte tables, in steps between which power can be lost."""
        model = self._state.model
        self._state.removing = True
        if model.encrypts:
            self._state.replace_keys(range(1 if keep_global else 0, model.ranges + 1))
            self._state.commit()
            self._power.step("revert: media keys replaced")
        elif model.ssc == "pyrite" and not keep_global:  # Pyrite 2.00 removes data by overwriting, 1.00 leaves it
            self._state.commit()
            self._media.zero(0, model.blocks // 2)
            self._power.step("revert: half of the data overwritten")
            self._media.zero(0, model.blocks)
            self._power.step("revert: data overwritten")
        self._media.erase_tables()
        self._power.step("revert: byte tables emptied")
