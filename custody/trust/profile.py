"""What a root demands of its persons and of its bundles: schemes to sign with, and the digest.

`p384` is what tokens and every openssl have. `cnsa` follows NSA's CNSA 2.0 as far as signatures and digests go: a
person counts only with a signature of each scheme, and SHA-384 stands wherever `p384` has SHA-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from custody.errors import TrustRejected

P384_SCHEME = "ecdsa-p384-sha384"
MLDSA_SCHEME = "ml-dsa-87"
#: Hexadecimal digits of a digest → its algorithm, as hashlib and coreutils call it.
ALGORITHMS = {64: "sha256", 96: "sha384"}


@dataclass(frozen=True)
class Profile:
    """One of `PROFILES`.

    Attributes:
        algorithm: of digests, as hashlib calls it.
        schemes: with each of them a person must sign.
    """

    name: str
    algorithm: str
    schemes: frozenset[str]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("p384", "sha256", frozenset({P384_SCHEME})),
        Profile("cnsa", "sha384", frozenset({P384_SCHEME, MLDSA_SCHEME})),
    )
}


def hexdigest(algorithm: str, data: bytes) -> str:
    """Digest of bytes, lower-case hex."""
    return hashlib.new(algorithm, data).hexdigest()


def algorithm_of(digest: str) -> str:
    """The algorithm that made a digest, told by its length.

    Raises:
        TrustRejected: neither 64 nor 96 digits.
    """
    if len(digest) not in ALGORITHMS:
        raise TrustRejected(f"{digest!r}: expected 64 or 96 hexadecimal digits", "copy all of it from the paper")
    return ALGORITHMS[len(digest)]
