"""Hash files on all cores: flat digest and leaves in one read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from custody.report import Meter
from custody.trust.leaves import LEAF_BYTES, tree_root

_THREADS = 4


@dataclass(frozen=True)
class Hashed:
    """What one file's bytes came to.

    Attributes:
        leaves: digests of its 1 MiB chunks, in order.
    """

    size_bytes: int
    sha256: str
    leaves: tuple[bytes, ...]

    @property
    def leaf_root(self) -> str:
        """RFC 6962 root over the leaves, lower-case hex."""
        return tree_root(self.leaves).hex()


def hash_bytes(data: bytes) -> Hashed:
    """Hash what is in memory."""
    chunks = (data[i : i + LEAF_BYTES] for i in range(0, len(data), LEAF_BYTES))
    leaves = tuple(hashlib.sha256(chunk).digest() for chunk in chunks)
    return Hashed(len(data), hashlib.sha256(data).hexdigest(), leaves)


def hash_file(path: Path, meter: Meter) -> Hashed:
    """Hash one file."""
    flat, leaves, size = hashlib.sha256(), [], 0
    with path.open("rb") as stream:
        while chunk := stream.read(LEAF_BYTES):
            leaves.append(hashlib.sha256(chunk).digest())
            flat.update(chunk)
            size += len(chunk)
            meter.advance(len(chunk))
    return Hashed(size, flat.hexdigest(), tuple(leaves))


def hash_files(paths: Iterable[Path], meter: Meter) -> dict[Path, Hashed]:
    """Hash many files on several threads."""
    paths = list(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: hash_file(path, meter), paths), strict=True))
