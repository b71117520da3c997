"""Bring a release in: models read once and checked while they are copied, wheels into a private environment."""

from __future__ import annotations

import collections
import hashlib
import os
import shutil
import sys
from pathlib import Path

from custody._run import run
from custody.atomic import sync_folder
from custody.errors import BundleMalformed, SpaceShort
from custody.report import Meter, Reporter
from custody.trust.leaves import LEAF_BYTES
from custody.trust.statement import Entry
from custody.trust.verify import VerifiedBundle


def copy_models(bundle: VerifiedBundle, destination: Path, reporter: Reporter) -> None:
    """Copy the bundle's models, refused at the first bad leaf.

    What lies at the destination already is hashed, not believed, and stays when it is as signed, whatever the medium
    has; a copy that was interrupted goes on.

    Raises:
        BundleMalformed: a model lies in a folder of its own.
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
            _copy(bundle, entry, destination / _name(entry), meter)
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


def _name(entry: Entry) -> str:
    name = entry.path.removeprefix("data/models/")
    if "/" in name:
        raise BundleMalformed(f"{entry.path}: expected a model beside the others, found it in a folder")
    return name


def _is_as_signed(bundle: VerifiedBundle, entry: Entry, file: Path, meter: Meter) -> bool:
    """Whether a file here has the leaves that were signed; what was read of one that has not is not counted."""
    read_bytes = 0
    with file.open("rb") as stream:
        for leaf in bundle.leaves(entry):
            chunk = stream.read(LEAF_BYTES)
            read_bytes += len(chunk)
            meter.advance(len(chunk))
            if hashlib.new(entry.algorithm, chunk).digest() != leaf:
                break
        else:
            if not stream.read(1):
                return True
    meter.advance(-read_bytes)
    return False


def _copy(bundle: VerifiedBundle, entry: Entry, target: Path, meter: Meter) -> None:
    part = target.with_name(target.name + ".part")
    if target.exists():
        if _is_as_signed(bundle, entry, target, meter):
            target.chmod(int(entry.mode, 8))
            return
        with bundle.source.open(entry.path) as stream:
            same = os.path.samestat(os.fstat(stream.fileno()), target.stat())
        if same:  # it is read where it lies: its bad leaf is named, and nothing can be brought
            collections.deque(bundle.chunks(entry), maxlen=0)
            return
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
