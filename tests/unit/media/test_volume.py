"""A disk that something still uses is waited for, and then refused."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from bundler.media import volume
from custody.errors import TargetRefused

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes loop devices")


def test_a_disk_in_use_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    with volume.loop_device(image) as disk:
        held = os.open(disk, os.O_RDWR | os.O_EXCL)
        monkeypatch.setattr(volume, "_PATIENCE_S", 0.5)
        with pytest.raises(TargetRefused, match="found it in use"):
            volume.wait_until_free(disk)
        monkeypatch.setattr(volume, "_PATIENCE_S", 30)
        begun_s = time.monotonic()
        threading.Timer(1, os.close, (held,)).start()
        volume.wait_until_free(disk)
        assert time.monotonic() - begun_s >= 1
