"""A bundle in a folder, read with suspicion: no links followed, only regular files, sizes limited."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from bundler.bundle.write import LOCK_NAME
from bundler.manifest.lock import MAX_BYTES, Lock, parse_lock
from custody.errors import BundleMalformed
from custody.trust import statement as statements
from custody.trust.envelope import Envelope
from custody.trust.statement import PATH_LIMIT_BYTES, Statement
from custody.trust.verify import Found, VerifiedBundle

#: Where models lie, below `sealed/`.
MODELS = "data/models/"
_KINDS = {
    stat.S_IFLNK: "link",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
    stat.S_IFREG: "file",
}


class FolderSource:
    """`custody.trust.verify.Source` over a folder with `sealed/` and `carrier/`."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder
        if not all((folder / part).is_dir() and not (folder / part).is_symlink() for part in ("sealed", "carrier")):
            raise BundleMalformed(
                f"{folder}: expected a bundle with folders sealed/ and carrier/",
                "name the folder that `airgap build` made",
            )

    def carrier(self, path: str, limit_bytes: int) -> bytes:
        """See `Source.carrier`."""
        with _open(self._folder, "carrier", path) as stream:
            data = stream.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            raise BundleMalformed(f"carrier/{path}: more than {limit_bytes} bytes")
        return data

    def carrier_listing(self) -> Iterable[Found]:
        """See `Source.carrier_listing`."""
        return _walk(self._folder / "carrier", "")

    def listing(self) -> Iterable[Found]:
        """See `Source.listing`."""
        return _walk(self._folder / "sealed", "")

    def open(self, path: str) -> BinaryIO:
        """See `Source.open`."""
        return _open(self._folder, "sealed", path)


class SplitSource(FolderSource):
    """A bundle in two places: all but the models in one folder, the models below another.

    Args:
        folder: has `sealed/` (without `data/models/`) and `carrier/`.
        models: stands for `sealed/data/models`.
    """

    def __init__(self, folder: Path, models: Path) -> None:
        super().__init__(folder)
        self._models = models

    def listing(self) -> Iterable[Found]:
        """See `Source.listing`."""
        yield from super().listing()
        if self._models.is_dir():
            yield from _walk(self._models, MODELS)

    def open(self, path: str) -> BinaryIO:
        """See `Source.open`."""
        if path.startswith(MODELS):
            return _open(self._models.parent, self._models.name, path.removeprefix(MODELS))
        return super().open(path)


def _open(base: Path, part: str, path: str) -> BinaryIO:
    # Component by component, so that no folder on the way may be a link either.
    where = f"{part}/{path}"
    folder = os.open(base / part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        *parents, name = path.split("/")
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise BundleMalformed(f"{where}: {error.strerror}", "fetch the medium again from where it was made") from error
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise BundleMalformed(f"{where}: not a regular file")
    return os.fdopen(file, "rb")


def read_lock(bundle: VerifiedBundle) -> Lock:
    """The lock that a verified bundle carries."""
    return parse_lock(bundle.read(LOCK_NAME, MAX_BYTES), Path("sealed") / LOCK_NAME)


def unsigned_statement(folder: Path) -> tuple[Statement, bytes]:
    """The Statement of a bundle that nobody may have signed yet: for signing, never for installing."""
    data = FolderSource(folder).carrier("statement.json", statements.LIMIT_BYTES)
    return statements.parse(data, f"{folder}/carrier/statement.json"), data


def read_envelope(folder: Path, payload: bytes) -> Envelope:
    """The envelope so far: the one in `carrier/`, or an empty one over `payload`."""
    path = folder / "carrier" / "statement.dsse.json"
    if not path.exists():
        return Envelope(statements.PAYLOAD_TYPE, payload, {})
    return Envelope.parse(FolderSource(folder).carrier("statement.dsse.json", statements.LIMIT_BYTES * 2), str(path))


def _walk(folder: Path, prefix: str) -> Iterable[Found]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            info = entry.stat(follow_symlinks=False)
            path = prefix + entry.name
            if len(os.fsencode(path)) > PATH_LIMIT_BYTES:
                yield Found(path, f"path of more than {PATH_LIMIT_BYTES} bytes", stat.S_IMODE(info.st_mode), 0)
                continue
            if stat.S_ISDIR(info.st_mode):
                inner = list(_walk(folder / entry.name, path + "/"))
                yield from inner or [Found(path, "folder without files", stat.S_IMODE(info.st_mode), 0)]
                continue
            kind = _KINDS.get(stat.S_IFMT(info.st_mode), "unknown thing")
            yield Found(path, kind, stat.S_IMODE(info.st_mode), info.st_size)
