"""`pytest --resume FILE`: what passed in an earlier, interrupted run is not run again."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--resume`."""
    parser.addoption("--resume", type=Path, help="keeps the names of tests that passed; remove it to start over")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what passed before."""
    file = config.getoption("resume")
    if file is not None and file.exists():
        passed = set(file.read_text().splitlines())
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
        items[:] = [item for item in items if item.nodeid not in passed]


class _Keeper:
    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as stream:
                stream.write(f"{report.nodeid}\n")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the names of what passes."""
    if file := config.getoption("resume"):
        config.pluginmanager.register(_Keeper(file))
