"""Put files in place: whole, at once, with owner and mode, and only when something differs.

A file may take its text, or a part of it, from a secret file on the host: the marker `@SECRET@` in its content is
replaced here, so that no secret passes through Ansible's arguments, logs, differences or temporary files. A public file
(a certificate) is copied from its source in the same way.
Refuses to write through a symbolic link, and a secret that others than root can read.

A run may be killed after a file is written and before the service that reads it is restarted. So a debt is noted first:
a file below `/run`, which stays until somebody has brought the change into effect, and which a reboot settles too.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custody.atomic import write_whole
from custody.errors import EnvironmentProblem, OperatorMistake
from custody.secret import read_secret

#: Replaced by the text of the secret file.
MARKER = "@SECRET@"


@dataclass(frozen=True)
class Wanted:
    """A file as it shall be.

    `content` is text; `secret_file` the path of a secret on the host, or None; `source` a public file on the host that
    takes the place of `content`, or None; `mode` the permission bits.
    """

    path: Path
    content: str = MARKER
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret_file: Path | None = None
    source: Path | None = None


@dataclass(frozen=True)
class Folder:
    """A folder as it shall be."""

    path: Path
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Change:
    """What was, or would be, changed; `before` and `after` are empty where the file holds a secret."""

    path: Path
    what: str
    before: str = ""
    after: str = ""


def place(
    files: Sequence[Wanted],
    folders: Sequence[Folder] = (),
    absent: Sequence[Path] = (),
    *,
    debt: Path | None = None,
    dry_run: bool = False,
) -> list[Change]:
    """Make folders and files what they shall be and remove what shall be absent.

    Args:
        files: absolute paths; a missing parent is made with mode 0755, owned by root.
        folders: made before the files, in this order.
        absent: files and links to remove; a folder is refused.
        debt: made before the first change; while it is there, it counts as a change.
        dry_run: only say what would change.

    Returns:
        What changed, in order; empty when all was as wanted and is in effect.

    Raises:
        OperatorMistake: a path is a link or not a regular file, or an owner does not exist.
        SecretRefused: a secret file is missing or readable by others.
    """
    if debt is not None and not dry_run and place(files, folders, absent, dry_run=True):
        debt.parent.mkdir(parents=True, exist_ok=True)
        debt.touch()
    changes = [change for folder in folders if (change := _place_folder(folder, dry_run))]
    changes += [change for file in files if (change := _place_file(file, dry_run))]
    for path in absent:
        if not os.path.lexists(path):
            continue
        if path.is_dir() and not path.is_symlink():
            raise OperatorMistake(f"{path}: expected a file or nothing, found a folder", f"ls -la {path}")
        if not dry_run:
            path.unlink()
        changes.append(Change(path, "removed"))
    if debt is not None and debt.exists() and not changes:
        changes.append(Change(debt, "not in effect yet"))
    return changes


def _ids(owner: str, group: str, path: Path, dry_run: bool) -> tuple[int, int] | None:
    try:
        return pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        if dry_run:
            return None  # made by an earlier task of a run that only looks
        raise OperatorMistake(f"{path}: owner {owner}:{group} does not exist", "the role base makes it") from error


def _place_folder(wanted: Folder, dry_run: bool) -> Change | None:
    ids = _ids(wanted.owner, wanted.group, wanted.path, dry_run)
    found = _lstat(wanted.path)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise OperatorMistake(f"{wanted.path}: expected a folder, found something else", f"ls -la {wanted.path}")
    if found is not None and _has(found, ids, wanted.mode):
        return None
    if not dry_run and ids is not None:
        wanted.path.mkdir(parents=True, exist_ok=True)
        os.chown(wanted.path, *ids)
        wanted.path.chmod(wanted.mode)
    return Change(wanted.path, "folder made" if found is None else "owner or mode set")


def _place_file(wanted: Wanted, dry_run: bool) -> Change | None:
    content = wanted.content if wanted.source is None else _public(wanted.source)
    if wanted.secret_file is not None:
        secret = read_secret(wanted.secret_file)
        # A file that is nothing but the secret keeps its last newline: PEM readers like it there.
        content = f"{secret}\n" if content == MARKER else content.replace(MARKER, secret)
    data = content.encode()
    ids = _ids(wanted.owner, wanted.group, wanted.path, dry_run)
    found = _lstat(wanted.path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise OperatorMistake(f"{wanted.path}: expected a regular file, found something else", f"ls -la {wanted.path}")
    before = wanted.path.read_bytes() if found is not None else b""
    same_bytes = found is not None and before == data
    if same_bytes and found is not None and _has(found, ids, wanted.mode):
        return None
    if not dry_run and ids is not None:
        _write(wanted, data, ids)
    what = "written" if found is None else "owner or mode set" if same_bytes else "changed"
    if wanted.secret_file is not None:
        return Change(wanted.path, what)
    return Change(wanted.path, what, before.decode(errors="replace"), content)


def _public(source: Path) -> str:
    try:
        return source.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorMistake(f"{source}: expected a text file, found: {error}", f"ls -la {source}") from error


def _has(found: os.stat_result, ids: tuple[int, int] | None, mode: int) -> bool:
    return ids == (found.st_uid, found.st_gid) and stat.S_IMODE(found.st_mode) == mode


def _write(wanted: Wanted, data: bytes, ids: tuple[int, int]) -> None:
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_whole(wanted.path, data, mode=wanted.mode, owner=ids)
    except OSError as error:
        raise EnvironmentProblem(f"{wanted.path}: cannot be written: {error.strerror}", "df -h; mount") from error


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
