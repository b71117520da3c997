"""A secret comes from a regular, private, sensible file or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from custody.errors import SecretRefused
from custody.secret import MAX_BYTES, read_secret


def secret(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"a b", "a b"), (b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (" ä ".encode(), " ä ")],
)
def test_one_line_end_goes(tmp_path: Path, data: bytes, text: str) -> None:
    assert read_secret(secret(tmp_path / "s", data)) == text


@pytest.mark.parametrize(
    ("data", "mode", "said"),
    [
        (b"a", 0o644, "0644"),
        (b"a", 0o660, "0660"),
        (b"", 0o600, "empty"),
        (b"\n", 0o600, "empty"),
        (b"\xff\xfe", 0o600, "UTF-8"),
        (b"a" * (MAX_BYTES + 1), 0o600, "at most"),
    ],
)
def test_a_poor_file_is_refused(tmp_path: Path, data: bytes, mode: int, said: str) -> None:
    with pytest.raises(SecretRefused, match=said):
        read_secret(secret(tmp_path / "s", data, mode))


def test_links_folders_and_nothing_are_refused(tmp_path: Path) -> None:
    secret(tmp_path / "s", b"a")
    (tmp_path / "link").symlink_to("s")
    for name in ("link", "none", "."):
        with pytest.raises(SecretRefused):
            read_secret(tmp_path / name)
