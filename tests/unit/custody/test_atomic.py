"""Files are the old ones or the new ones."""

import os
from pathlib import Path

import pytest

from custody.atomic import write_whole


def test_a_new_file_replaces_the_old_one_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")
    write_whole(file, b"new", mode=0o600)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)


def test_what_a_killed_run_left_is_written_over_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".a.part").symlink_to(victim)
    write_whole(tmp_path / "a", b"new")
    assert (victim.read_bytes(), (tmp_path / "a").is_symlink()) == (b"mine", False)


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")

    def full(_: int) -> None:
        assert (tmp_path / ".a.part").stat().st_mode & 0o777 == 0o644
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, b"new")
    assert [(x.name, x.read_bytes()) for x in tmp_path.iterdir()] == [("a", b"old")]
