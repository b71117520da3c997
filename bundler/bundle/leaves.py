"""Hash files on all cores: flat digests and leaves in one read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from custody.report import Meter
from custody.trust.leaves import LEAF_BYTES, tree_root

_THREADS = 4


@dataclass(frozen=True)
class Hashed:
    """What one file's bytes came to.

    Attributes:
        sha384: None when the algorithm is sha256.
        leaves: digests of its 1 MiB chunks, in order.
    """

    size_bytes: int
    sha256: str
    sha384: str | None
    leaves: tuple[bytes, ...]

    @property
    def leaf_root(self) -> str:
        """RFC 6962 root over the leaves, lower-case hex."""
        return tree_root(self.leaves, "sha384" if self.sha384 else "sha256").hex()


def hash_bytes(data: bytes, algorithm: str) -> Hashed:
    """Hash what is in memory.

    Args:
        algorithm: of the leaves; the flat SHA-256 comes with it in any case, as the file's makers name it by that.
    """
    return _hash(io.BytesIO(data), algorithm, lambda count: None)


def hash_file(path: Path, algorithm: str, meter: Meter) -> Hashed:
    """Hash one file; see `hash_bytes`."""
    with path.open("rb") as stream:
        return _hash(stream, algorithm, meter.advance)


def hash_files(paths: Iterable[Path], algorithm: str, meter: Meter) -> dict[Path, Hashed]:
    """Hash many files on several threads."""
    paths = list(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: hash_file(path, algorithm, meter), paths), strict=True))


def _hash(stream: BinaryIO, algorithm: str, advance: Callable[[int], None]) -> Hashed:
    flat = {name: hashlib.new(name) for name in ("sha256", algorithm)}
    leaves, size = [], 0
    while chunk := stream.read(LEAF_BYTES):
        leaves.append(hashlib.new(algorithm, chunk).digest())
        for one in flat.values():
            one.update(chunk)
        size += len(chunk)
        advance(len(chunk))
    sha384 = flat["sha384"].hexdigest() if "sha384" in flat else None
    return Hashed(size, flat["sha256"].hexdigest(), sha384, tuple(leaves))
