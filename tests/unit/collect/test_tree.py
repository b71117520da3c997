"""The build tree's identity, and what it asks of a builder; that it builds is shown by a whole `airgap build`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from bundler.collect.cache import Cache
from bundler.collect.tree import Tree, open_tree, tree_sha256
from bundler.manifest.lock import Lock, LockedDeb
from custody.errors import EnvironmentProblem
from custody.report import SilentReporter


def _deb(name: str, **changed: object) -> LockedDeb:
    fields = {
        "package": name, "version": "1", "architecture": "amd64", "archive": "debian", "path": f"pool/{name}.deb",
        "size_bytes": 1, "sha256": "0" * 64, "uses": ("tree",),
    }  # fmt: skip
    return LockedDeb.model_validate({**fields, **changed})


def test_tree_digest_is_over_its_own_packages_in_any_order() -> None:
    first, second, other = _deb("first"), _deb("second"), _deb("other", uses=("appliance",))
    assert tree_sha256([first, second]) == tree_sha256([second, other, first])
    assert tree_sha256([first, second]) != tree_sha256([first])
    assert tree_sha256([first]) != tree_sha256([_deb("first", sha256="1" * 64)])
    assert tree_sha256([first]) != tree_sha256([_deb("first", version="2")])


def test_tree_refuses_to_begin_without_root(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentProblem, match="root"):
        open_tree(Lock.model_construct(), Cache(tmp_path), tmp_path, SilentReporter())


@pytest.mark.root
def test_work_folder_is_open_to_nobody_whatever_the_umask(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder to nobody")
    before = os.umask(0o077)
    try:
        with Tree(tmp_path).work("thing", "key"):
            assert (tmp_path / "build").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


@pytest.mark.root
def test_work_folder_is_fresh_and_gone_afterwards(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder to nobody")
    tree = Tree(tmp_path)
    (tmp_path / "build/thing").mkdir(parents=True)
    (tmp_path / "build/thing/left").touch()
    with tree.work("thing", "key") as (folder, settled):
        assert list(folder.iterdir()) == []
        assert folder.stat().st_uid == 65534
        assert not settled
    assert list((tmp_path / "build").iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize(("was_settled", "key", "kept"), [(True, "1", True), (True, "2", False), (False, "1", False)])
def test_a_build_that_was_cut_off_goes_on_in_what_was_settled(
    tmp_path: Path, was_settled: bool, key: str, kept: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder to nobody")
    tree = Tree(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), tree.work("thing", "1") as (folder, _):
        (folder / "object").touch()
        if was_settled:
            tree.settle(folder, "1")
        raise KeyboardInterrupt
    with tree.work("thing", key) as (folder, settled):
        assert (settled, (folder / "object").exists()) == (kept, kept)
    assert list((tmp_path / "build").iterdir()) == []
