"""What a signer is shown: models with licences, counts by kind, and nothing that a terminal would obey."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bundler.bundle.read import unsigned_statement
from bundler.bundle.summary import lines, summarize
from bundler.bundle.write import seal
from bundler.manifest.lock import LockedModel, dump_lock
from custody.errors import DigestMismatch, InputInvalid
from custody.report import SilentReporter
from custody.trust.statement import Statement
from tests.bundles import MODEL, PAYLOAD, lock, stage

EXTRA = {"data/models/stray.gguf": b"stray", "data/wheels/a-1-py3-none-any.whl": b"wheel"}


def made(folder: Path, license_: str) -> tuple[Statement, bytes]:
    """A Statement and its lock, with one model that the lock knows and one that it does not."""
    model = LockedModel(
        name="words", filename="words.gguf", origin="/models/words.gguf", size_bytes=len(MODEL),
        sha256=hashlib.sha256(MODEL).hexdigest(), license=license_, label="general", architecture="llama",
        context_tokens=512, kv_bytes_per_token=64, quantization="Q8_0", tokenizer="gpt2", chat_template_sha256=None,
    )  # fmt: skip
    data = lock().model_copy(update={"models": (model,)})
    staging = stage(folder / "staging", {**PAYLOAD, **EXTRA})
    seal(staging, data, hashlib.sha256(dump_lock(data)).hexdigest(), {}, folder / "bundle", SilentReporter())
    return unsigned_statement(folder / "bundle")[0], (folder / "bundle/sealed/lock.json").read_bytes()


def shown(statement: Statement, data: bytes) -> list[str]:
    return lines(summarize(statement, data), "0" * 64, ("alice (builder)",), None)


def test_shows_models_with_licences_and_counts_by_kind(tmp_path: Path) -> None:
    text = shown(*made(tmp_path, "Apache-2.0"))
    assert "model:     words.gguf: 3.1 MB, Q8_0, licence Apache-2.0, label general" in text
    assert "model:     stray.gguf: 5 bytes, unknown, licence unknown, not in the lock, label unknown" in text
    assert "contents:       2 models, 3.1 MB" in text
    assert "contents:       1 wheels, 5 bytes" in text
    assert "signed by: alice (builder)" in text


def test_counts_every_file_once(tmp_path: Path) -> None:
    statement, data = made(tmp_path, "MIT")
    kinds = summarize(statement, data).kinds
    assert sum(kind.files for kind in kinds) == len(statement.predicate.files)
    assert sum(kind.size_bytes for kind in kinds) == sum(entry.size_bytes for entry in statement.predicate.files)


def test_a_licence_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="expected one line of visible text"):
        shown(*made(tmp_path, "MIT\x1b[2J"))


def test_a_licence_shows_letters_that_only_look_like_others(tmp_path: Path) -> None:
    text = shown(*made(tmp_path, "M\u0406T"))
    assert "model:     words.gguf: 3.1 MB, Q8_0, licence M?T, label general" in text
    assert all(line.isascii() and line.isprintable() for line in text)


def test_refuses_a_lock_that_the_statement_does_not_bind(tmp_path: Path) -> None:
    statement, data = made(tmp_path, "MIT")
    with pytest.raises(DigestMismatch, match=r"lock\.json: expected sha256"):
        summarize(statement, data.replace(b'"MIT"', b'"GPL"'))
