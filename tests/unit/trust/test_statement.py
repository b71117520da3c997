"""Paths that a bundle may hold, and versions that a host accepts."""

from __future__ import annotations

import pytest

from custody.errors import BundleMalformed
from custody.trust.statement import check_paths


@pytest.mark.parametrize(
    "paths",
    [
        ["/etc/passwd"], ["a/../b"], ["a//b"], ["./a"], [".hidden"], ["-rf"], ["a/-x"], ["a b"], ["a\nb"], ["é"], [""],
        ["a" * 513], ["A", "a"], ["a", "a/b"], ["dir/A", "DIR/b", "dir"],
    ],
)  # fmt: skip
def test_bad_paths_are_refused(paths: list[str]) -> None:
    with pytest.raises(BundleMalformed):
        check_paths(paths)


def test_good_paths_pass() -> None:
    check_paths(["data/apt/debian/pool/main/g/gcc/libc++_1%3a2~rc1+b1@x=y.deb", "data/b"])
