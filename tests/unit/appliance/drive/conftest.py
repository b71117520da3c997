"""What every test of drives has: a host that writes down nothing on the machine that runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.drive import pending


@pytest.fixture(autouse=True)
def _drive_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "FOLDER", tmp_path / "drive-folder")
