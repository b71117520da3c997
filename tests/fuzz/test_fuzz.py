"""Ten minutes of libFuzzer for each parser, at night; a dozen seconds belong to every run (`make fuzz`)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzz.targets import TARGETS

_SECONDS = 600


@pytest.mark.nightly
@pytest.mark.parametrize("name", TARGETS)
def test_parser_neither_breaks_nor_hangs(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", str(_SECONDS), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
