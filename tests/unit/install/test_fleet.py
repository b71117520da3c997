"""How a run over many hosts ends, given how each host did."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.install.remote.fleet import Ended, exit_code
from bundler.install.remote.inventory import InventoryHost


@pytest.mark.parametrize(("codes", "expected"), [
    ((0, 0), 0), ((0, 45), 45), ((45, 23, 16, 0), 16), ((40, 20), 20),
])  # fmt: skip
def test_the_gravest_code_is_the_run_s(codes: tuple[int, ...], expected: int) -> None:
    host = InventoryHost(name="a", address="10.20.0.1", key=Path("/root/.ssh/site"), site=Path("a.yml"))
    assert exit_code([Ended(host, code=code) for code in codes]) == expected
