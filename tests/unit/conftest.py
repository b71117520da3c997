"""No test writes into a custody ledger of the machine that it runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from custody.ledger import record


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a ledger would be, there is none."""
    nowhere = tmp_path_factory.getbasetemp() / "no-ledger"
    monkeypatch.setattr(record, "default_folder", lambda: nowhere)


@pytest.fixture
def ledger_here(no_ledger: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A ledger, where commands look for one."""
    folder = tmp_path / "ledger-here"
    monkeypatch.setattr(record, "default_folder", lambda: folder)
    record.begin(folder, "site-7.example/custody")
    return folder
