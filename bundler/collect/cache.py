"""Fetched and built files, by digest: resumable, shared by all collectors, safe to empty at any time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import httpx

from custody.errors import DigestMismatch, FetchFailed
from custody.lock import held

#: Bytes a read; hashing releases the interpreter's lock above 2 KiB, and its rate falls below 64 KiB.
CHUNK_BYTES = 1 << 20
_TRIES = 4


def sha256_file(path: Path) -> str:
    """Lower-case hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Cache:
    """A folder of files named by their SHA-256, and of files being fetched (`*.part`).

    Args:
        make: make the folder where there is none; without, the cache can only be asked.
    """

    def __init__(self, folder: Path, *, make: bool = True) -> None:
        self._files = folder / "sha256"
        self._named = folder / "named"
        #: Folder for trees and temporary files, on the cache's file system.
        self.scratch = folder / "scratch"
        for path in (self._files, self._named, self.scratch) if make else ():
            path.mkdir(parents=True, exist_ok=True)
        self._client = httpx.Client(follow_redirects=True, timeout=60, trust_env=True)

    def path(self, sha256: str) -> Path:
        """Where the file with this digest lies, or will lie."""
        return self._files / sha256

    def has(self, sha256: str) -> bool:
        """Whether the file is here; only complete, checked files carry their digest as a name."""
        return self.path(sha256).is_file()

    def missing_bytes(self, sha256: str, size_bytes: int) -> int:
        """Bytes still to fetch of a file of this size."""
        if self.has(sha256):
            return 0
        part = self._part(sha256)
        return max(0, size_bytes - (part.stat().st_size if part.exists() else 0))

    def add(self, data: bytes) -> str:
        """Keep bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            part = self._part(f"{digest}.{os.getpid()}.{threading.get_ident()}")
            part.write_bytes(data)
            part.replace(self.path(digest))
        return digest

    def remember(self, key: str, sha256: str) -> None:
        """Note which file a build with this key (hex) made."""
        part = self._named / f"{key}.part"
        part.write_text(sha256)
        part.replace(self._named / key)

    def recall(self, key: str) -> str | None:
        """The digest that `remember` noted, if that file is still here and unharmed."""
        note = self._named / key
        if not note.is_file():
            return None
        digest = note.read_text().strip()
        return digest if self.has(digest) and sha256_file(self.path(digest)) == digest else None

    def fetch(
        self,
        origin: str,
        sha256: str,
        size_bytes: int,
        name: str,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Path:
        """Bring a file here, resuming what lies half fetched.

        Args:
            origin: http(s) URL or a local path.
            name: what to call it in an error.
            advance: told the bytes as they come.

        Raises:
            FetchFailed: not reachable, or the wrong size.
            DigestMismatch: the bytes are not those of the lock; what came is thrown away.
        """
        part = self._part(sha256)
        with held(part):
            try:
                return self._fetch(origin, sha256, size_bytes, name, part, advance)
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()

    def _fetch(
        self, origin: str, sha256: str, size_bytes: int, name: str, part: Path, advance: Callable[[int], None]
    ) -> Path:
        target = self.path(sha256)
        if target.is_file():
            if sha256_file(target) == sha256:
                return target
            target.unlink()
        if "://" in origin:
            self._download(origin, part, size_bytes, name, advance)
        else:
            self._copy(Path(origin), part, name, advance)
        found = sha256_file(part)
        if found != sha256 or part.stat().st_size != size_bytes:
            size = part.stat().st_size
            part.unlink()
            raise DigestMismatch(
                f"{name}: expected sha256 {sha256} ({size_bytes} bytes), found {found} ({size} bytes)\n"
                f"  origin: {origin}",
                "if upstream changed it on purpose, lock again: airgap lock MANIFEST",
            )
        part.replace(target)
        return target

    def obtain(self, origin: str, sha256: str, name: str) -> Path:
        """Bring a file of unknown size here, whose digest is pinned; errors as `fetch`."""
        if self.has(sha256):
            return self.path(sha256)
        if "://" in origin:
            try:
                head = self._client.head(origin, headers={"Accept-Encoding": "identity"})
                head.raise_for_status()
                size_bytes = int(head.headers["Content-Length"])
            except (httpx.HTTPError, KeyError, ValueError) as error:
                raise FetchFailed(f"{name}: size unknown: {error!r}\n  origin: {origin}", "check the URL") from error
        else:
            try:
                size_bytes = Path(origin).stat().st_size
            except OSError as error:
                raise FetchFailed(f"{name}: {error.strerror}: {origin}", "check the path in the manifest") from error
        return self.fetch(origin, sha256, size_bytes, name)

    def _download(self, url: str, part: Path, size_bytes: int, name: str, advance: Callable[[int], None]) -> None:
        problem: Exception | None = None
        for _ in range(_TRIES):
            have = part.stat().st_size if part.exists() else 0
            if have >= size_bytes:
                return
            headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
            try:
                with self._client.stream("GET", url, headers=headers) as response:
                    response.raise_for_status()
                    resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
                    with part.open("ab" if resumed else "wb") as stream:
                        written = have if resumed else 0
                        for chunk in response.iter_raw(CHUNK_BYTES):
                            written += len(chunk)
                            if written > size_bytes:
                                break
                            stream.write(chunk)
                            advance(len(chunk))
                    if written == size_bytes:
                        return
                    problem = FetchFailed(f"{written} bytes came")
            except httpx.HTTPStatusError as error:
                problem = error
                if error.response.status_code in (403, 404, 410):
                    break
            except httpx.HTTPError as error:
                problem = error
        raise FetchFailed(
            f"{name}: expected {size_bytes} bytes with sha256 {part.stem}, found: {problem}\n  origin: {url}",
            "run the same command again: it goes on where it stopped",
        )

    def _copy(self, source: Path, part: Path, name: str, advance: Callable[[int], None]) -> None:
        try:
            with source.open("rb") as reader, part.open("wb") as writer:
                while chunk := reader.read(CHUNK_BYTES):
                    writer.write(chunk)
                    advance(len(chunk))
        except OSError as error:
            raise FetchFailed(f"{name}: {error.strerror}: {source}", "check the path in the manifest") from error

    def _part(self, name: str) -> Path:
        return self._files / f"{name}.part"
