"""Read a medium back and compare every leaf with what was meant to be written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bundler.bundle.read import FolderSource
from bundler.media.kit import FOLDER
from bundler.media.start import StartPartition
from custody.errors import DigestMismatch
from custody.report import Reporter
from custody.trust.profile import hexdigest
from custody.trust.verify import VerifiedBundle, read_trust, verify_bundle

_HINT = "the medium is bad or was changed: burn another one"


def read_back(bundle: VerifiedBundle, source: FolderSource, pinned: str, reporter: Reporter) -> None:
    """Verify the copy as a stranger would, from its root down to its leaves.

    Raises:
        IntegrityFailure: the copy is not the bundle.
    """
    copy = verify_bundle(source, read_trust(source, pinned), reporter)
    if copy.statement != bundle.statement:
        raise DigestMismatch(f"{source.name}: holds another bundle than the one that was written", _HINT)


def compare_start(start: StartPartition, place: Path) -> None:
    """Compare partition 1, byte for byte.

    Raises:
        DigestMismatch: names the file.
    """
    algorithm = start.algorithm
    expected = {"start": start.script_digest, f"bootstrap/{start.sums_name}": hexdigest(algorithm, start.sums)}
    expected |= {f"bootstrap/{name}": entry.digest for name, entry in start.debs.items()}
    expected |= {f"{FOLDER}/{name}": hexdigest(algorithm, data) for name, data in start.kit.items()}
    for name, digest in expected.items():
        try:
            with (place / name).open("rb") as stream:
                found = hashlib.file_digest(stream, algorithm).hexdigest()
        except OSError as error:
            raise DigestMismatch(
                f"{name}: expected {algorithm} {digest}, found nothing: {error.strerror}", _HINT
            ) from error
        if found != digest:
            raise DigestMismatch(f"{name}: expected {algorithm} {digest}, read back {found}", _HINT)
