"""What GPUs tell, out of the file that the role gpu has written anew every 30 s; the gateway sees no device itself.

A file that is old, or not of the form that `appliance.figures` writes, adds its age and nothing else: no mistake there
takes the gateway's own figures away.
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

_LONGEST_BYTES = 64 << 10
_OLD_S = 120
#: Each form's group is what may be there once.
_LINE = re.compile(
    rb"(# HELP airgap_gpu_[a-z_]+) [\w ,.;:()-]+"
    rb"|(# TYPE airgap_gpu_[a-z_]+) (?:gauge|counter)"
    rb'|(airgap_gpu_[a-z_]+\{(?:gpu="\d+",)?pci="[0-9a-f:]+"(?:,xid="\d+")?\}) \d{1,18}(?:\.\d{1,15})?'
)
_AGE = b"""\
# HELP airgap_gateway_gpu_age_seconds Since the GPUs were asked.
# TYPE airgap_gateway_gpu_age_seconds gauge
airgap_gateway_gpu_age_seconds %.1f
"""


def figures(path: Path) -> bytes:
    """What is appended to the gateway's own figures; empty: there is no such file, as on a host without GPUs."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            about = os.fstat(stream.fileno())
            data = stream.read(_LONGEST_BYTES + 1) if stat.S_ISREG(about.st_mode) else b""
    except OSError:
        return b""
    age_s = max(0.0, time.time() - about.st_mtime)
    return _AGE % age_s + (data if age_s <= _OLD_S and _is_whole(data) else b"")


def _is_whole(data: bytes) -> bool:
    *lines, rest = data.split(b"\n")
    found = {line[line.lastindex or 0] for line in map(_LINE.fullmatch, lines) if line}
    return rest == b"" and len(data) <= _LONGEST_BYTES and len(found) == len(lines)
