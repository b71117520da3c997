"""Random points at which tests kill; a failure shows the seed, and `AIRGAP_TEST_SEED` repeats it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

SEED = int(os.environ.get("AIRGAP_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


def points(name: str, count: int, span_s: float) -> Iterator[float]:
    """Seconds after a start, one in each of `count` equal parts of a run that takes `span_s`."""
    chance = random.Random(f"{SEED} {name}")
    print(f"AIRGAP_TEST_SEED={SEED}")
    return (span_s * (index + chance.random()) / count for index in range(count))
