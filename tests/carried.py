"""The folder that `start --stage` lays down on a laptop, made from a bundle that lies on the builder."""

from __future__ import annotations

import shutil
from pathlib import Path

from bundler.bundle.read import FolderSource
from bundler.media.kit import FOLDER
from bundler.media.start import start_partition
from custody.trust.verify import read_trust, verify_statement


def lay_down(bundle: Path, fingerprint: str, folder: Path) -> tuple[Path, str]:
    """Lay a signed bundle, its `start` and the packages of partition 1 down.

    Returns:
        The folder, and what the paper says of `start`.
    """
    source = FolderSource(bundle)
    verified = verify_statement(source, read_trust(source, fingerprint))
    partition = start_partition(verified)
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("sealed", "carrier"):
        shutil.copytree(bundle / part, folder / part)
    (folder / "start").write_bytes(partition.script)
    (folder / "bootstrap").mkdir()
    (folder / "bootstrap" / partition.sums_name).write_bytes(partition.sums)
    (folder / FOLDER).mkdir()
    for name, data in partition.kit.items():
        (folder / FOLDER / name).write_bytes(data)
    for name, entry in partition.debs.items():
        shutil.copyfile(bundle / "sealed" / entry.path, folder / "bootstrap" / name)
    return folder, partition.script_digest
