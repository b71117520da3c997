"""Keep what was on the host before: every file that the install takes out of use is moved here, never deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BEFORE = Path("/var/lib/airgap/before")


def set_aside(path: Path, *, keep: Path = BEFORE) -> bool:
    """Move a file or link away, to the same path below `keep`; an earlier keepsake is not overwritten.

    Returns:
        Whether there was anything to move.
    """
    if not os.path.lexists(path):
        return False
    target = keep / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    keep.chmod(0o700)
    number = 0
    while os.path.lexists(target):
        number += 1
        target = keep / f"{path.relative_to('/')}.{number}"
    shutil.move(path, target)
    return True
