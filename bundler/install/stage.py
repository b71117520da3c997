"""Bring a release in: models read once and checked while they are copied, wheels into a private environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path, PurePosixPath

from custody._run import run
from custody.atomic import sync_folder
from custody.errors import SpaceShort
from custody.report import Meter, Reporter
from custody.trust.leaves import LEAF_BYTES
from custody.trust.statement import Entry
from custody.trust.verify import VerifiedBundle


def copy_models(bundle: VerifiedBundle, destination: Path, reporter: Reporter) -> None:
    """Copy the bundle's models, refused at the first bad leaf.

    What lies at the destination already is hashed, not believed; a copy that was interrupted goes on.

    Raises:
        SpaceShort: the file system is too small.
        DigestMismatch: a leaf of the medium differs.
    """
    entries = bundle.entries("data/models/")
    destination.mkdir(parents=True, exist_ok=True)
    needed = sum(entry.size_bytes for entry in entries)
    there = sum(path.stat().st_size for path in destination.iterdir())
    free = shutil.disk_usage(destination).free
    if free + there < needed:
        raise SpaceShort(
            f"{destination}: expected {needed / 1e9:.2f} GB free, found {(free + there) / 1e9:.2f} GB",
            "use a larger data disk",
        )
    with reporter.meter("models", needed) as meter:
        for entry in entries:
            _copy(bundle, entry, destination / PurePosixPath(entry.path).name, meter)
    sync_folder(destination)


def make_environment(release: Path, name: str) -> Path:
    """Build a virtual environment at its final path from the release's wheels, by hash, without an index.

    Returns:
        The environment's folder, `RELEASE/NAME`.
    """
    folder = release / name
    mark = folder / "complete"
    if mark.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    wheels = release / "sealed" / "data" / "wheels"
    # The pip that runs is the one beside this program; the environment itself needs none.
    run(["/usr/bin/python3", "-I", "-m", "venv", "--without-pip", folder], timeout_s=900)
    run(
        [sys.executable, "-I", "-m", "pip", "--python", folder / "bin" / "python", "--isolated", "--quiet",
         "--disable-pip-version-check", "--no-cache-dir", "install", "--no-index", "--no-deps",
         "--only-binary", ":all:", "--require-hashes", "--find-links", wheels, "-r", wheels / f"{name}.txt"],
        timeout_s=1800,
    )  # fmt: skip
    os.sync()  # or a host that loses its power has the mark, and empty files beside it
    mark.touch()
    return folder


def _copy(bundle: VerifiedBundle, entry: Entry, target: Path, meter: Meter) -> None:
    part = target.with_name(target.name + ".part")
    with bundle.source.open(entry.path) as stream:
        if target.exists() and os.path.samestat(os.fstat(stream.fileno()), target.stat()):
            for chunk in bundle.chunks(entry):  # it is read where it lies: nothing to bring
                meter.advance(len(chunk))
            return
    if target.exists():
        target.replace(part)
    with part.open("r+b" if part.exists() else "w+b") as stream:
        # One leaf at a time: what lies here and equals the checked leaf stays, anything else is written.
        for chunk in bundle.chunks(entry):
            place = stream.tell()
            if stream.read(LEAF_BYTES) != chunk:
                stream.seek(place)
                stream.write(chunk)
            stream.seek(place + len(chunk))
            meter.advance(len(chunk))
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())
    part.chmod(int(entry.mode, 8))
    part.replace(target)
