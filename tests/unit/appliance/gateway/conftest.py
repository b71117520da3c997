"""The service of an appliance, once for tests that leave it as it was, and anew for those that do not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.appliance.gateway.rig import Rig


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """For all tests; a short path, since a Unix socket's is short."""
    with tempfile.TemporaryDirectory(prefix="gw") as name:
        made = Rig(Path(name))
        try:
            yield made.start()
        finally:
            made.end()


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """One's own, not started."""
    with tempfile.TemporaryDirectory(prefix="gw") as name:
        made: list[Rig] = []

        def make(**settings: Any) -> Rig:
            base = Path(name) / str(len(made))
            base.mkdir()
            made.append(Rig(base, **settings))
            return made[-1]

        try:
            yield make
        finally:
            for rig in made:
                rig.end()
