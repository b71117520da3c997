"""Turn a source into a wheel inside the build tree, the same bytes every time.

What makes the bytes: the source, the flags, the tools that building takes, the tree, and `FORMAT`; together they
are the key under which the cache remembers the wheel. The path of the build, times and environment are fixed
(`tree.py`), and the archive is written anew: sorted, with fixed times and modes, unpacked sizes as they are and no
file twice. Formats: wheel and RECORD (PyPA specifications), https://reproducible-builds.org/docs/.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from bundler.collect.cache import Cache
from bundler.collect.source import file_mode, project_files
from bundler.collect.tree import Tree
from bundler.manifest.lock import LockedSource
from custody._run import run
from custody.errors import FetchFailed, ProgramFailed

#: Raised when this module makes other bytes out of the same source; part of the provenance's build type.
FORMAT = 1
#: A cold compile of llama.cpp takes ten minutes on two cores; an emulated or busy one a few times that.
_TIMEOUT_S = 4 * 3600
_PIP = ("python3", "-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def wheel_key(source: LockedSource, tree_sha256: str) -> str:
    """What the cache remembers a source's wheel under, as hex."""
    parts = [
        FORMAT, source.name, source.version, source.kind, source.sha256, source.flags, tree_sha256,
        sorted((wheel.filename, wheel.sha256) for wheel in source.build_requires),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def build_wheel(source: LockedSource, tree: Tree, key: str, cache: Cache, project: Path, logs: Path) -> tuple[str, str]:
    """Build a source; its archive and its tools lie in the cache. A build that was cut off goes on.

    Args:
        key: as `wheel_key` gives it.
        project: root of this project's source, for a source of that kind.
        logs: folder that keeps the build's log.

    Returns:
        The wheel's file name, and the digest under which the cache has it.

    Raises:
        FetchFailed: the build failed, or made something else; the log says more.
    """
    log = logs / f"{source.name}-{source.version}-{key[:8]}.log"
    with tree.work(source.name, key) as (folder, settled):
        inside = Path("/build") / source.name
        environment = {
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
            "MAKEFLAGS": f"-j{os.cpu_count() or 1}",
            **source.flags,
            "PATH": f"{inside}/env/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{inside}/env",
            # scikit-build-core's folder has a random name otherwise, and it shows in the libraries. Ninja compiles
            # anew what its log there does not name as finished.
            "SKBUILD_BUILD_DIR": f"{inside}/objects",
        }
        build = [*_PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "out", "./source"]
        try:
            if not settled:
                log.unlink(missing_ok=True)
                _lay_out(source, folder, tree, cache, project, log)
                tree.settle(folder, key)
            tree.run([*build, "--verbose"], folder, environment, _TIMEOUT_S, log)
        except ProgramFailed as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise FetchFailed(f"{source.name} {source.version}: the build failed\n{tail}", f"log: {log}") from error
        return _take(source, folder / "out", cache)


def _lay_out(source: LockedSource, folder: Path, tree: Tree, cache: Cache, project: Path, log: Path) -> None:
    """Put source and tools into a build's folder."""
    for name in ("source", "tools"):
        (folder / name).mkdir()
    for wheel in source.build_requires:
        shutil.copyfile(cache.path(wheel.sha256), folder / "tools" / wheel.filename)
    if source.kind == "sdist":
        shutil.copyfile(cache.path(source.sha256), folder / "sdist")
    else:
        for path in project_files(project):
            target = folder / "source" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / path, target)
            target.chmod(file_mode(project / path))
    run(["chown", "-R", "--no-dereference", "nobody:nogroup", folder])
    if source.kind == "sdist":
        unpack = ["tar", "--extract", "--gzip", "--file", "sdist", "--directory", "source", "--strip-components=1"]
        tree.run([*unpack, "--no-same-owner", "--no-same-permissions"], folder, {}, 600, log)
    if source.build_requires:
        tools = [f"tools/{wheel.filename}" for wheel in source.build_requires]
        tree.run([*_PIP, "install", "--no-index", "--no-deps", "--no-compile", "--target", "env", *tools],
                 folder, {}, 600, log)  # fmt: skip


def _take(source: LockedSource, folder: Path, cache: Cache) -> tuple[str, str]:
    """The one wheel that was made, its archive written anew; nothing that lies beside it is looked at."""
    made = sorted(path for path in folder.glob("*.whl") if path.is_file() and not path.is_symlink())
    try:
        (wheel,) = made
        name, version, _, _ = parse_wheel_filename(wheel.name)
        if (name, version) != (canonicalize_name(source.name), Version(source.version)):
            raise ValueError("another name or version")
        return wheel.name, cache.add(normalised(wheel.read_bytes()))
    except (ValueError, zipfile.BadZipFile) as error:
        found = ", ".join(path.name for path in made) or "none"
        raise FetchFailed(
            f"{source.name} {source.version}: expected one wheel of that name and version, found {found}: {error}",
            "see the build's log",
        ) from error


def normalised(wheel: bytes) -> bytes:
    """The same wheel with its entries sorted, stored, and of one time; RECORD is made anew.

    Stored, because a compressor's bytes depend on its version.

    Raises:
        ValueError, zipfile.BadZipFile: not a wheel.
    """
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        entries = {
            info.filename: (archive.read(info), bool(info.external_attr >> 16 & 0o111))
            for info in archive.infolist()
            if not info.is_dir()
        }
    (record,) = (name for name in entries if name.endswith(".dist-info/RECORD"))
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name in sorted(set(entries) - {record}):
        data = entries[name][0]
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(data)))
    writer.writerow((record, "", ""))
    entries[record] = (rows.getvalue().encode(), False)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            data, executable = entries[name]
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(info, data)
    return out.getvalue()
