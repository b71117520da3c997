"""Revocations: keys and bundles that no longer count, in one signed list that only grows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from custody.errors import TrustRejected
from custody.trust import canonical
from custody.trust.profile import hexdigest

PAYLOAD_TYPE = "application/vnd.airgap.revocations+json"
#: Thousands of entries.
LIMIT_BYTES = 1 << 20
_KEYID = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{96}")
_REASON = re.compile(r"[ -~]{1,256}")
_NEWER = "fetch a medium that was made with the newest list of the trust folder"


@dataclass(frozen=True)
class Revocations:
    """A list's content; whether it may be believed is `custody.trust.chain`'s answer.

    Attributes:
        number: 0 stands for "no list yet"; each list has a higher one than the list before.
        keys: reason by key id.
        statements: reason by digest of a Statement's bytes, SHA-256 or SHA-384, as its bundle has it.
    """

    number: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    statements: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.number) is not int or not 0 <= self.number <= canonical.LARGEST:
            raise TrustRejected(f"revocations: number {self.number!r}, expected 0 or more")
        for entries, form, digits in ((self.keys, _KEYID, "64"), (self.statements, _DIGEST, "64 or 96")):
            for digest, reason in entries.items():
                if not form.fullmatch(digest):
                    raise TrustRejected(f"revocations: {digest!r}: expected {digits} hexadecimal digits")
                if not _REASON.fullmatch(reason):
                    raise TrustRejected(f"revocations: {digest}: expected a reason of 1 to 256 printable characters")

    def require_growth(self, older: Revocations, name: str) -> None:
        """Refuse a list that takes something back.

        Raises:
            TrustRejected: an entry of the older list is gone, or two lists have one number.
        """
        if self.number == older.number and self != older:
            raise TrustRejected(f"{name}: another list with number {self.number} was seen before", _NEWER)
        # Kind by kind: a key that is listed among the Statements instead is revoked no more.
        gone = sorted((older.keys.keys() - self.keys.keys()) | (older.statements.keys() - self.statements.keys()))
        if gone:
            raise TrustRejected(
                f"{name}: {gone[0]} was revoked in list {older.number} and is not in {self.number}", _NEWER
            )

    def flat(self) -> bytes:
        """The flat twin: one fact a line."""
        lines = ["airgap-revocations 1", f"number {self.number}"]
        lines += [f"key {keyid}" for keyid in sorted(self.keys)]
        lines += [f"statement {digest}" for digest in sorted(self.statements)]
        return ("\n".join(lines) + "\n").encode()

    def payload(self) -> bytes:
        """Canonical JSON."""
        return canonical.dump(
            {
                "_type": "airgap-revocations",
                "schema_version": 1,
                "number": self.number,
                "flat_sha384": hexdigest("sha384", self.flat()),
                "keys": self.keys,
                "statements": self.statements,
            }
        )

    @staticmethod
    def parse(payload: bytes, name: str) -> Revocations:
        """Read a list's payload.

        Raises:
            BundleMalformed: not canonical JSON.
            TrustRejected: a field is missing, unknown, or makes no sense.
        """
        content: Any = canonical.parse(payload, name, LIMIT_BYTES)
        try:
            found = Revocations(content["number"], dict(content["keys"]), dict(content["statements"]))
            same = found.number > 0 and found.payload() == payload
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TrustRejected(f"{name}: not a list of revocations: {error!r}") from error
        if not same:
            raise TrustRejected(f"{name}: unknown fields, or fields that contradict each other")
        return found
