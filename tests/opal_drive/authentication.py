"""PINs: proof of an authority, wrong tries counted, Block SID.

Follows Core 2.01, section 5.3.4.1.1 (authentication, Tries and TryLimit; from memory) and the Block SID Authentication
feature set 1.01, section 4.2.2.
"""

from __future__ import annotations

import hmac

from . import uids
from .packets import Status
from .state import Provider, State
from .tables import Auth, Pin


def authenticate(state: State, provider: Provider, authority: bytes, proof: bytes, *, sid_blocked: bool) -> Status:
    """Check the PIN of an authority; a wrong one is counted and the count is kept before anything is answered.

    Returns:
        SUCCESS, NOT_AUTHORIZED, or AUTHORITY_LOCKED_OUT when no try is left; a right PIN sets the count to 0.
    """
    if authority == uids.ANYBODY:
        return Status.SUCCESS
    if authority not in provider or authority[:4] != uids.ANYBODY[:4] or not provider.get(authority, Auth.ENABLED):
        return Status.NOT_AUTHORIZED
    pin_row = provider.get(authority, Auth.CREDENTIAL)
    if pin_row not in provider.factory or (authority == uids.SID and sid_blocked):
        return Status.NOT_AUTHORIZED
    assert isinstance(pin_row, bytes)
    tries, limit = provider.number(pin_row, Pin.TRIES), provider.number(pin_row, Pin.TRY_LIMIT)
    if limit and tries >= limit:
        return Status.AUTHORITY_LOCKED_OUT
    right = hmac.compare_digest(_pin(state, provider, pin_row), proof)
    if not right or tries:
        provider.set(pin_row, {Pin.TRIES: 0 if right else tries + 1})
        state.commit()
    return Status.SUCCESS if right else Status.NOT_AUTHORIZED


def forget_tries(state: State) -> None:
    """Set the counts to 0 that a power cycle does not keep (C_PIN column Persistence)."""
    for provider in (state.admin, state.locking):
        for row in provider.rows(uids.C_PIN_SID[:4]):
            if provider.get(row, Pin.TRIES) and not provider.get(row, Pin.PERSISTENCE):
                provider.set(row, {Pin.TRIES: 0})


def exhaust_tries(state: State) -> None:
    """Use up the tries of every PIN but that of the label."""
    for provider in (state.admin, state.locking):
        for row in provider.rows(uids.C_PIN_SID[:4]):
            if row not in (uids.C_PIN_PSID, uids.C_PIN_MSID):
                provider.set(row, {Pin.TRIES: provider.number(row, Pin.TRY_LIMIT)})


def _pin(state: State, provider: Provider, row: bytes) -> bytes:
    return state.identity.psid if row == uids.C_PIN_PSID else provider.text(row, Pin.PIN)
