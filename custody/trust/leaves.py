"""Leaves of a file and the tree over them.

A leaf is the digest of one 1 MiB chunk; the tree takes the leaf digests as its entries (RFC 6962, section 2.1:
0x00 before an entry, 0x01 before two nodes). `split -b 1M --filter=sha256sum FILE` makes the same leaves, or
`sha384sum`, as the bundle has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LEAF_BYTES = 1 << 20


def leaf_count(size_bytes: int) -> int:
    """How many leaves a file of this size has; an empty file has none."""
    return -(-size_bytes // LEAF_BYTES)


def digest_bytes(algorithm: str) -> int:
    """Length of a digest."""
    return hashlib.new(algorithm).digest_size


def tree_root(leaves: Sequence[bytes], algorithm: str) -> bytes:
    """Merkle tree hash over leaf digests (RFC 6962, section 2.1)."""

    def node(data: bytes) -> bytes:
        return hashlib.new(algorithm, data).digest()

    if not leaves:
        return node(b"")
    level = [node(b"\x00" + leaf) for leaf in leaves]
    while len(level) > 1:
        # Pairing from the left and carrying an odd node up gives RFC 6962's split at the largest power of two.
        pairs = [node(b"\x01" + a + b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def split(data: bytes, algorithm: str) -> list[bytes]:
    """A leaf file's bytes as digests."""
    size = digest_bytes(algorithm)
    return [data[i : i + size] for i in range(0, len(data), size)]
