"""Models are copied leaf by leaf: resumed, repaired, and refused at the first bad leaf."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundler.bundle.read import FolderSource, SplitSource
from bundler.install.stage import copy_models
from custody.errors import BundleMalformed, DigestMismatch
from custody.report import SilentReporter
from custody.trust.verify import VerifiedBundle, read_trust, verify_statement
from tests.bundles import MODEL, Made, make


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "made")


def verified(made: Made) -> VerifiedBundle:
    source = FolderSource(made.folder)
    return verify_statement(source, read_trust(source, made.fingerprint))


@pytest.mark.parametrize("there", [b"", MODEL[: 1 << 20], MODEL[:2_000_000], b"\0" * 5_000_000, MODEL])
def test_copy_ends_the_same_whatever_lay_there(made: Made, tmp_path: Path, there: bytes) -> None:
    target = tmp_path / "models"
    target.mkdir()
    (target / "words.gguf.part").write_bytes(there)
    copy_models(verified(made), target, SilentReporter())
    assert (target / "words.gguf").read_bytes() == MODEL
    assert [path.name for path in target.iterdir()] == ["words.gguf"]


def test_copy_repairs_a_finished_file_that_was_changed(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "models"
    copy_models(verified(made), target, SilentReporter())
    data = bytearray(MODEL)
    data[1_500_000] ^= 1
    (target / "words.gguf").write_bytes(data)
    copy_models(verified(made), target, SilentReporter())
    assert (target / "words.gguf").read_bytes() == MODEL


def test_copy_stops_at_a_bad_leaf(made: Made, tmp_path: Path) -> None:
    bundle = verified(made)
    path = made.folder / "sealed/data/models/words.gguf"
    data = bytearray(MODEL)
    data[1_500_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch, match=r"words\.gguf: leaf 1 of 4"):
        copy_models(bundle, tmp_path / "models", SilentReporter())
    assert not (tmp_path / "models/words.gguf").exists()


def test_what_is_read_where_it_lies_is_checked_and_stays(made: Made, tmp_path: Path) -> None:
    models = tmp_path / "models"
    copy_models(verified(made), models, SilentReporter())
    split = SplitSource(made.folder, models)
    installed = verify_statement(split, read_trust(split, made.fingerprint))
    copy_models(installed, models, SilentReporter())
    data = bytearray(MODEL)
    data[1_500_000] ^= 1
    (models / "words.gguf").write_bytes(data)
    with pytest.raises(DigestMismatch, match=r"words\.gguf: leaf 1 of 4"):
        copy_models(installed, models, SilentReporter())
    assert [path.name for path in models.iterdir()] == ["words.gguf"]


def test_a_bad_medium_takes_no_model_away(made: Made, tmp_path: Path) -> None:
    models, medium = tmp_path / "models", tmp_path / "medium"
    copy_models(verified(made), models, SilentReporter())
    shutil.copytree(made.folder, medium)
    file = medium / "sealed/data/models/words.gguf"
    file.write_bytes(b"x" * file.stat().st_size)
    source = FolderSource(medium)
    copy_models(verify_statement(source, read_trust(source, made.fingerprint)), models, SilentReporter())
    assert (models / "words.gguf").read_bytes() == MODEL
    (models / "words.gguf").write_bytes(MODEL[:-1] + b"?")
    with pytest.raises(DigestMismatch):
        copy_models(verify_statement(source, read_trust(source, made.fingerprint)), models, SilentReporter())


def test_a_model_in_a_folder_of_its_own_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path, {"data/models/a/x.gguf": b"x", "data/models/b/x.gguf": b"y"})
    with pytest.raises(BundleMalformed, match="in a folder"):
        copy_models(verified(made), tmp_path / "models", SilentReporter())


def test_only_verification_makes_a_verified_bundle(made: Made) -> None:
    good = verified(made)
    with pytest.raises(TypeError):
        VerifiedBundle(good.statement, good.trust, good.builders, good.approvers, good.source, object())
