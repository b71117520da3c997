"""Paths that a bundle may hold, and versions that a host accepts."""

from __future__ import annotations

import pytest

from custody.errors import BundleMalformed, RolledBack
from custody.trust.policy import Accepted, require_not_older
from custody.trust.statement import Identity, check_paths


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


@pytest.mark.parametrize(
    ("version", "epoch", "channel", "fine"),
    [
        (5, 2, "stable", True),
        (6, 2, "stable", True),
        (4, 2, "stable", False),
        (6, 1, "stable", False),
        (6, 2, "beta", False),
    ],
)
def test_only_forward(version: int, epoch: int, channel: str, fine: bool) -> None:
    offered = Identity(
        name="x", channel=channel, version=version, security_epoch=epoch, digest="sha256", lock_sha256="0" * 64,
        lowest_revocation=0, lowest_verifier="0.1.0", source_date_epoch=0,
    )  # fmt: skip
    if fine:
        require_not_older(offered, Accepted("stable", 5, 2))
    else:
        with pytest.raises(RolledBack):
            require_not_older(offered, Accepted("stable", 5, 2))
