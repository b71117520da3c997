"""One lock, the same bytes: built again in another folder, at another time, with nothing of the first compile left."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.vm import path


def digests(bundle: Path) -> dict[str, str]:
    """SHA-256 by path of everything that signatures cover, and of the Statement."""
    found = {}
    for file in sorted([*(bundle / "sealed").rglob("*"), bundle / "carrier/statement.json"]):
        if file.is_file():
            with file.open("rb") as stream:
                found[str(file.relative_to(bundle))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


@pytest.mark.nightly
@pytest.mark.network
def test_one_lock_built_twice_gives_the_same_bytes(bundled: path.Walk, tmp_path: Path) -> None:
    # What was fetched may be used again; what was built (wheels, tree) may not.
    cache = path.cache_folder()
    again = tmp_path / "cache"
    (again / "sha256").mkdir(parents=True)
    built = {note.read_text().strip() for note in (cache / "named").iterdir()}
    for file in (cache / "sha256").iterdir():
        if file.name not in built and file.suffix != ".part":
            os.link(file, again / "sha256" / file.name)
    bundle = tmp_path / "elsewhere" / "bundle"
    path.airgap(bundled, "build again", "build", bundled.work / "demo.lock.json", bundle, "--cache", again)
    assert digests(bundle) == digests(bundled.bundle)
