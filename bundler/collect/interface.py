"""What every collector offers: resolve to a lock's parts, name what to fetch, and assemble what is made here.

A collector lives in one module, `model.py`, `wheel.py`, `deb.py`, `file.py` or `ansible.py`, and this package is
the only one that reaches a network. Collectors read and write the content-addressed `Cache` and the staging
folder; they never touch a finished bundle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundler.collect.cache import Cache
from bundler.manifest.lock import Lock
from custody.report import Reporter


@dataclass(frozen=True)
class Item:
    """One file to fetch.

    Attributes:
        name: what an operator calls it (`deb nginx 1.26.3-3`).
        origin: http(s) URL or an absolute local path.
        destination: path below `sealed/`, or "" for what only builds others.
        size_bytes: exact size.
        sha256: lower-case hex digest of the whole file.
    """

    name: str
    origin: str
    destination: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Workplace:
    """Where a build happens.

    Attributes:
        cache: fetched and built files by digest; may be emptied at any time.
        staging: folder that becomes the bundle; its `sealed/` receives the payload.
        scratch: folder for trees and temporary files.
        project: root of this project's source.
    """

    cache: Cache
    staging: Path
    scratch: Path
    project: Path
    reporter: Reporter


class Collector(Protocol):
    """One kind of content. Locking is a function of each module, since each fills its own part of the lock."""

    name: str

    def items(self, lock: Lock, workplace: Workplace) -> Iterable[Item]:
        """Everything to fetch, each with size and digest."""

    def assemble(self, lock: Lock, workplace: Workplace) -> None:
        """Make what is not simply fetched, into `staging/sealed/`. Every item lies in the cache by now."""
