"""One walk along the whole path serves all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm import path
from tests.vm.machine import Machine


@dataclass(frozen=True)
class Walked:
    """A walk that reached its end, and its appliance, still running.

    Attributes:
        first, second: answers before the reboot and after the unlock.
        pcaps: everything on the appliance's wire since before the installation.
    """

    walk: path.Walk
    machine: Machine
    first: str
    second: str
    pcaps: list[Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here boots guests."""
    for item in items:
        item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def bundled() -> path.Walk:
    """A locked, built and signed bundle."""
    walk = path.new_walk()
    path.make_bundle(walk, path.cache_folder())
    path.sign(walk)
    return walk


@pytest.fixture(scope="session")
def medium(bundled: path.Walk) -> Path:
    """Its burned medium."""
    return path.burn(bundled)


@pytest.fixture(scope="session")
def walked(bundled: path.Walk, medium: Path) -> Iterator[Walked]:
    """The whole path."""
    with path.appliance(bundled) as machine, machine.capture(bundled.work / "appliance.pcap") as capture:
        path.install(bundled, machine, medium)
        first = path.ask(bundled, machine)
        path.reboot_and_unlock(bundled, machine)
        second = path.ask(bundled, machine)
        path.keep_watched(bundled, machine, "after the reboot")
        yield Walked(bundled, machine, first, second, capture.pcaps)
