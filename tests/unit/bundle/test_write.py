"""Sealing: the same payload gives the same bytes; what a bundle may not hold is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.bundle.write import seal
from custody.errors import BundleMalformed, DigestMismatch
from custody.report import SilentReporter
from tests.bundles import lock, sealed, stage


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_payload_same_bytes(tmp_path: Path) -> None:
    first = sealed(tmp_path / "one")
    umask = os.umask(0o077)
    try:
        second = sealed(tmp_path / "deeper" / "two")
    finally:
        os.umask(umask)
    assert contents(first) == contents(second)


def test_seal_refuses_what_differs_from_the_lock(tmp_path: Path) -> None:
    staging = stage(tmp_path / "staging", {"data/files/a": b"a"})
    with pytest.raises(DigestMismatch, match="data/files/a: expected sha256 0000"):
        seal(staging, lock(), "0" * 64, {"data/files/a": "0" * 64}, tmp_path / "bundle", SilentReporter())
    with pytest.raises(DigestMismatch, match="no such file"):
        seal(staging, lock(), "0" * 64, {"data/files/b": "0" * 64}, tmp_path / "bundle", SilentReporter())
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", [".hidden", "-x", "a b", "A/x"])
def test_seal_refuses_forbidden_names(tmp_path: Path, name: str) -> None:
    staging = stage(tmp_path / "staging", {f"data/files/{name}": b"", "data/files/a": b""})
    with pytest.raises(BundleMalformed):
        seal(staging, lock(), "0" * 64, {}, tmp_path / "bundle", SilentReporter())


def test_seal_refuses_links(tmp_path: Path) -> None:
    staging = stage(tmp_path / "staging", {"data/files/a": b""})
    (staging / "sealed/data/files/b").symlink_to("a")
    with pytest.raises(BundleMalformed, match="neither a file nor a folder"):
        seal(staging, lock(), "0" * 64, {}, tmp_path / "bundle", SilentReporter())
