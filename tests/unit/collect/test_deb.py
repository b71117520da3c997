"""Packages are solved by apt and tied to a signature; every break in that chain is refused."""

from __future__ import annotations

import hashlib
import lzma
from datetime import timedelta
from pathlib import Path

import pytest

from bundler.collect import deb
from bundler.collect.apt import Apt, Source
from bundler.collect.cache import Cache
from bundler.collect.deb import DebCollector, LockedApt, lock_debs, of_use
from bundler.manifest.lock import Lock
from custody.errors import DigestMismatch, FetchFailed, InputInvalid, IntegrityFailure, SignatureRejected
from custody.report import SilentReporter

from .conftest import SignedArchive, gpg, manifest

STATUS = (
    b"Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.0-1\n"
    b"Maintainer: nobody <n@example.org>\nDescription: for a test\nEssential: yes\n"
)


@pytest.fixture
def lock(archive: SignedArchive, tmp_path: Path, serve, monkeypatch):
    """A function that locks packages from the test's archive."""
    address = serve(archive.folder)
    monkeypatch.setattr(deb, "builder_mirrors", lambda: {"debian": address, "debian-security": address})

    def call(*packages: str) -> LockedApt:
        cache = Cache(tmp_path / "cache")
        return lock_debs(manifest(list(packages)), STATUS, cache, tmp_path, SilentReporter(), keyring=archive.keyring)

    return call


def test_lock_names_every_package_of_the_closure(lock) -> None:
    locked = lock("second")
    assert [d.package for d in of_use(locked.debs, "appliance")] == ["first", "libfirst1", "second"]
    assert [d.package for d in of_use(locked.debs, "bootstrap")] == ["first", "libfirst1"]
    assert [d.package for d in of_use(locked.debs, "tree")] == ["apt", "base-files", "first", "libfirst1", "second"]
    first = next(d for d in locked.debs if d.package == "first")
    assert first.sha256 == hashlib.sha256(b"first").hexdigest()
    assert (first.version, first.archive) == ("1:1.0-1", "debian")
    assert first.path == "pool/main/f/first/first_1.0-1_amd64.deb"


def test_lock_keeps_the_signed_indexes_as_they_came(lock, archive: SignedArchive, tmp_path: Path) -> None:
    locked = lock("first")
    assert [i.path for i in locked.indexes] == [
        "dists/trixie/InRelease",
        "dists/trixie/main/binary-amd64/Packages.xz",
    ]
    for index in locked.indexes:
        kept = Cache(tmp_path / "cache").path(index.sha256).read_bytes()
        assert kept == (archive.folder / index.path).read_bytes()


def test_lock_leaves_nothing_in_scratch(lock, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    lock("first")
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}


def test_items_carry_all_but_the_tree(lock, tmp_path: Path) -> None:
    locked = lock("first")
    items = list(DebCollector().items(Lock.model_construct(indexes=locked.indexes, debs=locked.debs), None))  # type: ignore[arg-type]
    destinations = {item.name: item.destination for item in items}
    assert destinations["deb first 1:1.0-1"] == "data/apt/debian/pool/main/f/first/first_1.0-1_amd64.deb"
    assert destinations["deb apt 1:1.0-1"] == ""
    assert destinations["index debian dists/trixie/InRelease"] == "data/apt/debian/dists/trixie/InRelease"


def test_lock_refuses_unknown_package(lock) -> None:
    with pytest.raises(InputInvalid, match=r"no-such-package|Unable to locate"):
        lock("nonesuch")


def test_lock_refuses_package_that_cannot_be_installed(lock) -> None:
    with pytest.raises(InputInvalid, match="no-such-package"):
        lock("broken")


def test_lock_refuses_tampered_inrelease(lock, archive: SignedArchive) -> None:
    text = archive.inrelease.read_text()
    archive.inrelease.write_text(text.replace("Origin: Test", "Origin: Tset"))
    with pytest.raises(SignatureRejected) as caught:
        lock("first")
    assert caught.value.hint


def test_lock_refuses_inrelease_of_another_key(lock, archive: SignedArchive, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    gpg(other, "--quick-generate-key", "mallory <m@example.org>", "ed25519", "sign", "never")
    archive.home = other
    archive.publish()
    with pytest.raises(SignatureRejected):
        lock("first")


def test_lock_refuses_unsigned_archive(lock, archive: SignedArchive) -> None:
    archive.publish(sign=False)
    with pytest.raises(SignatureRejected):
        lock("first")


@pytest.mark.parametrize("place", ["before", "after"])
def test_lock_refuses_text_outside_the_signed_part(lock, archive: SignedArchive, place: str) -> None:
    text, extra = archive.inrelease.read_text(), "Origin: Mallory\n"
    archive.inrelease.write_text(extra + text if place == "before" else text + extra)
    with pytest.raises(SignatureRejected):
        lock("first")


def test_lock_refuses_index_that_was_not_signed(lock, archive: SignedArchive) -> None:
    packages = archive.suite / "main/binary-amd64/Packages.xz"
    plain = lzma.decompress(packages.read_bytes())
    packages.write_bytes(lzma.compress(plain.replace(b"1234", b"4321")))
    with pytest.raises(DigestMismatch):
        lock("first")


def test_lock_refuses_expired_archive_whatever_the_builder_s_apt_is_told(lock, archive: SignedArchive) -> None:
    archive.publish(valid_for=timedelta(days=-1))
    with pytest.raises(IntegrityFailure, match=r"expired|Valid-Until"):
        lock("first")


@pytest.mark.parametrize("components", [("empty", "main"), ("main", "empty")])
def test_an_empty_component_has_no_index(archive: SignedArchive, serve, tmp_path: Path, components) -> None:
    folder = tmp_path / "apt"
    folder.mkdir(mode=0o755)
    apt = Apt(folder, "amd64", [Source("debian", serve(archive.folder), "trixie", components)], archive.keyring)
    apt.update()
    assert [component for _, component, _, _ in apt.lists()] == ["main"]


def test_a_component_that_is_not_there_is_an_error(archive: SignedArchive, serve, tmp_path: Path) -> None:
    folder = tmp_path / "apt"
    folder.mkdir(mode=0o755)
    apt = Apt(folder, "amd64", [Source("debian", serve(archive.folder), "trixie", ("main", "none"))], archive.keyring)
    apt.update()
    with pytest.raises(FetchFailed, match="debian trixie none"):
        list(apt.lists())


def test_lock_reports_unreachable_mirror(lock, monkeypatch) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(deb, "builder_mirrors", lambda: {"debian": nowhere, "debian-security": nowhere})
    with pytest.raises(FetchFailed):
        lock("first")
