"""JSON that has one spelling: RFC 8785 bytes, refused when they are anything else."""

from __future__ import annotations

import json
from typing import Any

import rfc8785

from custody.errors import BundleMalformed

#: Of the whole numbers that a shell and an awk read, too: 15 digits.
LARGEST = 10**15 - 1


def dump(content: Any) -> bytes:
    """Canonical bytes of parsed JSON (RFC 8785)."""
    return rfc8785.dumps(content)


def parse(data: bytes, name: str, limit_bytes: int) -> Any:
    """Parse JSON that must be canonical.

    Args:
        name: what to call the document in an error.
        limit_bytes: longer documents are refused before they are parsed.

    Raises:
        BundleMalformed: too long, not JSON, numbers outside ±(2^53-1), or not the canonical spelling.
    """
    if len(data) > limit_bytes:
        raise BundleMalformed(f"{name}: {len(data)} bytes, at most {limit_bytes} expected")
    try:
        content = json.loads(data)
        again = rfc8785.dumps(content)
    except (ValueError, RecursionError) as error:  # rfc8785's errors are ValueErrors
        raise BundleMalformed(f"{name}: not canonical JSON: {error}") from error
    if again != data:
        at = next(
            (i for i, (a, b) in enumerate(zip(again, data, strict=False)) if a != b),
            min(len(again), len(data)),
        )
        raise BundleMalformed(f"{name}: not in canonical form (RFC 8785), first at byte {at}")
    return content
