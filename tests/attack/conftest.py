"""What the attack tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.images import image
from tests.vm.trees import unpacked


@pytest.fixture(scope="session")
def modern() -> Iterator[Path | None]:
    """A tree whose openssl has ML-DSA, or None where this machine's own has it."""
    has = subprocess.run(["openssl", "list", "-signature-algorithms"], capture_output=True, text=True, check=True)
    if "ML-DSA-87" in has.stdout:
        yield None
        return
    with unpacked(image("workstation").tree) as tree:
        yield tree
