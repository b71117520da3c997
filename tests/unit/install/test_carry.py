"""What is carried is told by leaves, and the far end's own sha256sum tells the same."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from bundler.install.remote.carry import Piece, load_cargo, missing, parse_leaves, plain_piece
from bundler.install.remote.link import FAR_SCRIPT
from custody.errors import DigestMismatch, InputInvalid
from custody.report import SilentReporter
from tests.bundles import MODEL, PAYLOAD, Made, make
from tests.carried import lay_down

MODEL_PATH = "bundle/sealed/data/models/words.gguf"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "made")


def far(verb: str, *arguments: str | Path) -> bytes:
    """A verb of the script that hosts run, here."""
    command = ["/bin/sh", "-s", "--", verb, *map(str, arguments)]
    return subprocess.run(command, input=FAR_SCRIPT.read_bytes(), capture_output=True, check=True).stdout


@pytest.mark.parametrize(("profile", "sums"), [("p384", "SHA256SUMS"), ("cnsa", "SHA384SUMS")])
def test_cargo_is_the_whole_bundle_start_and_its_packages(tmp_path: Path, profile: str, sums: str) -> None:
    made = make(tmp_path / "made", profile=profile)
    folder, digest = lay_down(made.folder, made.fingerprint, tmp_path / "carry")
    cargo = load_cargo(folder, made.fingerprint, digest, SilentReporter())
    paths = {piece.path for piece in cargo.pieces}
    assert {"start", "far.sh", f"bundle/bootstrap/{sums}", f"bundle/sealed/{sums}", MODEL_PATH} < paths
    assert {f"bundle/sealed/{path}" for path in PAYLOAD} < paths
    assert cargo.size_bytes > len(MODEL)
    for piece in cargo.pieces:  # leaves that no file was read for are those of the file
        assert piece.leaves == plain_piece(piece.path, piece.file, cargo.algorithm).leaves, piece.path


def test_cargo_with_another_start_is_refused(made: Made, tmp_path: Path) -> None:
    folder, digest = lay_down(made.folder, made.fingerprint, tmp_path / "carry")
    with (folder / "start").open("ab") as stream:
        stream.write(b"\n: and one line more\n")
    with pytest.raises(DigestMismatch, match=f"start: expected sha256 {digest}"):
        load_cargo(folder, made.fingerprint, digest, SilentReporter())


def test_cargo_wants_the_digest_that_its_paper_has(made: Made, tmp_path: Path) -> None:
    folder, _ = lay_down(made.folder, made.fingerprint, tmp_path / "carry")
    other = hashlib.sha384((folder / "start").read_bytes()).hexdigest()
    with pytest.raises(InputInvalid, match="expected sha256 of start, found sha384"):
        load_cargo(folder, made.fingerprint, other, SilentReporter())


def test_the_far_end_says_what_lies_there(tmp_path: Path) -> None:
    cargo = tmp_path / "carried" / "cargo"
    (cargo / "bundle/deep/er").mkdir(parents=True)
    files = {
        "start": b"#!/bin/sh\n",
        "bundle/deep/er/model": MODEL,
        "bundle/empty": b"",
        "bundle/even": b"x" * (2 << 20),
    }
    for path, data in files.items():
        (cargo / path).write_bytes(data)
    (cargo / "bundle/link").symlink_to("/etc/passwd")
    for algorithm in ("sha256", "sha384"):
        found = parse_leaves(far("leaves", tmp_path / "carried", algorithm))
        assert found == {path: plain_piece(path, cargo / path, algorithm).leaves for path in files}
    assert not (cargo / "bundle/link").is_symlink()
    assert (tmp_path / "carried").stat().st_mode & 0o777 == 0o700


def test_what_is_missing_is_sent_and_nothing_else() -> None:
    leaves = tuple(hashlib.sha256(b"%d" % n).digest() for n in range(4))
    piece = Piece("x", Path("x"), 4 << 20, leaves, "sha256")
    assert missing(piece, None) == [0, 1, 2, 3]
    assert missing(piece, leaves[:2]) == [2, 3]
    assert missing(piece, (leaves[0], leaves[3], leaves[2], leaves[3])) == [1]
    assert missing(piece, (*leaves, leaves[0])) == []  # too long: only cut


@pytest.mark.parametrize("said", [b"Welcome to gpu-01\n", b"file start\nnot a digest  -\n"])
def test_an_answer_with_something_else_in_it_is_not_guessed_at(said: bytes) -> None:
    with pytest.raises((KeyError, ValueError)):
        parse_leaves(said)
