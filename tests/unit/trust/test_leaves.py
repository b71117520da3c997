"""Leaves and the tree over them, against RFC 6962's definition and against coreutils."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bundler.bundle.leaves import hash_bytes
from custody.trust.leaves import tree_root


def by_definition(entries: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return hashlib.sha256(b"\x01" + by_definition(entries[:split]) + by_definition(entries[split:])).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_tree_is_that_of_the_rfc(entries: list[bytes]) -> None:
    assert tree_root(entries, "sha256") == by_definition(entries)


def test_split_makes_the_same_leaves(tmp_path: Path) -> None:
    data = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(80_000))
    (tmp_path / "file").write_bytes(data)
    done = subprocess.run(
        ["split", "-b", "1M", "--filter=sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True
    )
    assert [leaf.hex() for leaf in hash_bytes(data, "sha256").leaves] == [
        line.split()[0] for line in done.stdout.splitlines()
    ]
