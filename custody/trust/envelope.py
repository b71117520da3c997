"""DSSE envelopes: what was signed, and by which keys.

Follows DSSE 1.0.2 (protocol and JSON envelope). The envelope itself is never signed, so nothing in it counts
but the payload that a signature covers; it is still held to one spelling, because a shell script reads it too.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from custody.errors import BundleMalformed, SignatureRejected
from custody.trust import canonical
from custody.trust.keys import PublicKey, Signer

#: A Statement of 20,000 files is 6 MB; base64 makes it 8.
LIMIT_BYTES = 64 << 20
#: More signatures than any threshold needs; bounds the work of checking them.
_MAX_SIGNATURES = 64
_KEYID = re.compile(r"[0-9a-f]{64}")


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that a signature is over (DSSE protocol, PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class Envelope:
    """A payload and its signatures, by key id; nothing in it is verified yet."""

    payload_type: str
    payload: bytes
    signatures: dict[str, bytes]

    @staticmethod
    def parse(data: bytes, name: str) -> Envelope:
        """Read an envelope.

        Raises:
            BundleMalformed: not canonical JSON, unknown fields, two signatures under one key id.
        """
        content = canonical.parse(data, name, LIMIT_BYTES)
        try:
            if set(content) != {"payload", "payloadType", "signatures"}:
                raise ValueError("expected payload, payloadType and signatures")
            if not 0 <= len(content["signatures"]) <= _MAX_SIGNATURES:
                raise ValueError(f"more than {_MAX_SIGNATURES} signatures")
            signatures: dict[str, bytes] = {}
            for entry in content["signatures"]:
                if set(entry) != {"keyid", "sig"} or not _KEYID.fullmatch(entry["keyid"]):
                    raise ValueError("a signature has a keyid (64 hex digits) and a sig")
                if entry["keyid"] in signatures:
                    raise ValueError(f"two signatures of key {entry['keyid'][:16]}")
                signatures[entry["keyid"]] = _decode(entry["sig"])
            found = Envelope(str(content["payloadType"]), _decode(content["payload"]), signatures)
            if found.dump() != data:
                raise ValueError("expected the signatures sorted by key id")
            return found
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BundleMalformed(f"{name}: not a DSSE envelope: {error}") from error

    def dump(self) -> bytes:
        """Canonical bytes."""
        return canonical.dump(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": keyid, "sig": base64.b64encode(signature).decode()}
                    for keyid, signature in sorted(self.signatures.items())
                ],
            }
        )

    def signed_by(self, key: Signer) -> Envelope:
        """The same with one more signature."""
        signature = key.sign(pae(self.payload_type, self.payload))
        return Envelope(self.payload_type, self.payload, {**self.signatures, key.public.keyid: signature})

    def signers(self, keys: dict[str, PublicKey], name: str) -> frozenset[str]:
        """Key ids among `keys` whose signature holds.

        Signatures by unknown keys are passed over; a false signature under a known key refuses the envelope,
        since nobody honest makes one.

        Raises:
            SignatureRejected: a known key's signature is false.
        """
        message = pae(self.payload_type, self.payload)
        good = set()
        for keyid, signature in self.signatures.items():
            if keyid not in keys:
                continue
            if not keys[keyid].verifies(signature, message):
                raise SignatureRejected(
                    f"{name}: the signature of key {keyid[:16]} is false",
                    "the payload or the signature was changed: fetch the medium again from where it was made",
                )
            good.add(keyid)
        return frozenset(good)


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from error
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64: not the canonical spelling")
    return data
