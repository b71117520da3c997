"""What is put aside is kept under its old path, and never overwrites what was put aside before."""

from __future__ import annotations

from pathlib import Path

from appliance.before import set_aside


def test_files_and_links_are_moved_and_kept(tmp_path: Path) -> None:
    keep, path = tmp_path / "keep", tmp_path / "etc/a"
    path.parent.mkdir()
    for text in ("first", "second"):
        path.write_text(text)
        assert set_aside(path, keep=keep)
        assert not path.exists()
    kept = keep / path.relative_to("/")
    assert (kept.read_text(), kept.with_name("a.1").read_text()) == ("first", "second")
    assert keep.stat().st_mode & 0o7777 == 0o700


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert not set_aside(tmp_path / "none", keep=tmp_path / "keep")
    assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_is_moved(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").symlink_to("/nowhere/stub")
    assert set_aside(tmp_path / "resolv.conf", keep=tmp_path / "keep")
    assert not (tmp_path / "resolv.conf").is_symlink()
