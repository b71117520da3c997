"""Leaves of a file and the tree over them.

A leaf is the SHA-256 of one 1 MiB chunk; the tree takes the leaf digests as its entries (RFC 6962, section 2.1:
0x00 before an entry, 0x01 before two nodes). `split -b 1M --filter=sha256sum FILE` makes the same leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LEAF_BYTES = 1 << 20
DIGEST_BYTES = 32


def leaf_count(size_bytes: int) -> int:
    """How many leaves a file of this size has; an empty file has none."""
    return -(-size_bytes // LEAF_BYTES)


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash over 32-byte leaf digests (RFC 6962, section 2.1)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        # Pairing from the left and carrying an odd node up gives RFC 6962's split at the largest power of two.
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def split(data: bytes) -> list[bytes]:
    """A leaf file's bytes as digests."""
    return [data[i : i + DIGEST_BYTES] for i in range(0, len(data), DIGEST_BYTES)]
