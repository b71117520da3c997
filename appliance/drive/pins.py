"""Secrets for a drive: made here, by the kernel's generator, in an alphabet that people can type at night."""

from __future__ import annotations

import secrets

from appliance.drive.sed import MAX_PIN_BYTES

#: Crockford's base 32: no I, L, O, U. 32 letters are 160 bits.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROUP = 8


def new_pin() -> str:
    """A PIN of 32 printable letters: all that a drive keeps."""
    return "".join(secrets.choice(ALPHABET) for _ in range(MAX_PIN_BYTES))


def new_recovery_key() -> str:
    """A second passphrase of the volume, for the safe: 160 bits in groups of eight."""
    letters = new_pin()
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def clean_psid(typed: str) -> str:
    """The PSID as the drive knows it, from what a person typed off the label: no spaces or hyphens, upper case."""
    return "".join(typed.split()).replace("-", "").upper()
