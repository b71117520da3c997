"""What the scenarios' tests share: the container that molecule made, seen through testinfra."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.containers import Container
from tests.roles.release import SCENARIOS, play

MANUAL = Path(__file__).parents[3] / "docs/reference/roles.md"
#: The highest figure of `systemd-analyze security` that a unit of this project may have.
EXPOSURE_LIMIT = 2.0


@pytest.fixture(scope="session")
def container() -> Container:
    """The scenario's container, which runs."""
    if "MOLECULE_SCENARIO_NAME" not in os.environ:
        pytest.skip("molecule runs these in a container that it made: make molecule")
    return Container.running(os.environ["MOLECULE_SCENARIO_NAME"])


@pytest.fixture(scope="session")
def host(container: Container) -> Any:
    """testinfra's view of the container."""
    return container.testinfra_host()


@pytest.fixture(scope="session")
def whole_role(container: Container) -> Callable[..., str]:
    """Runs a role whole, which is to fail; returns what Ansible said."""

    def run(role: str, *options: str) -> str:
        arguments, environment = play(SCENARIOS / role / "whole.yml", *options)
        done = subprocess.run(container.enter(*arguments, env=environment), capture_output=True, text=True)
        assert done.returncode != 0
        return done.stdout

    return run


@pytest.fixture(scope="session")
def exposure(host: Any) -> Callable[..., None]:
    """Measures a unit's exposure, and holds it against the manual and the limit."""

    def measure(unit: str, limit: float = EXPOSURE_LIMIT) -> None:
        said = host.check_output(f"systemd-analyze security --no-pager {unit}")
        (found,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", said)
        table = dict(re.findall(r"^\| `([a-z.-]+\.service)` \| (\d+\.\d) \|", MANUAL.read_text(), re.MULTILINE))
        assert table.get(unit) == found, f"docs/reference/roles.md says {table.get(unit)} of {unit}; measured: {found}"
        assert float(found) <= limit

    return measure
