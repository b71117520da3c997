"""Lies about a bundle's files: each is refused by all judges (`tests.attack.judges`)."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from bundler.bundle.read import FolderSource
from bundler.bundle.sign import sign_bundle
from bundler.install.stage import copy_models
from custody.errors import DigestMismatch
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey
from custody.trust.verify import read_trust, verify_bundle
from tests.attack.judges import judge, require_accepted, require_refused
from tests.bundles import Made, make

MODEL = "sealed/data/models/words.gguf"
README = "sealed/data/files/readme.txt"
LEAVES = "sealed/leaves/models/words.gguf.leaves"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One good bundle."""
    return make(tmp_path_factory.mktemp("good"))


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    target = tmp_path / "bundle"
    shutil.copytree(made.folder, target, symlinks=True)
    return target


def flip(path: Path, byte: int = 100) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[byte % len(data)] ^= 1
    path.write_bytes(data)


def _flip(name: str, byte: int = 100) -> Callable[[Path], None]:
    return lambda folder: flip(folder / name, byte)


def _truncate(folder: Path) -> None:
    os.truncate(folder / MODEL, 1 << 20)


def _missing(folder: Path) -> None:
    (folder / "sealed/data/files/readme.txt").unlink()


def _extra(folder: Path) -> None:
    (folder / "sealed/data/files/.hidden").write_text("x")


def _extra_carrier(folder: Path) -> None:
    (folder / "carrier/notes.txt").write_text("x")


def _renamed(folder: Path) -> None:
    (folder / "sealed/data/files/readme.txt").rename(folder / "sealed/data/files/README.txt")


def _link(folder: Path) -> None:
    path = folder / "sealed/data/files/readme.txt"
    shutil.copy(path, folder.parent / "elsewhere")
    path.unlink()
    path.symlink_to(folder.parent / "elsewhere")


def _linked_folder(folder: Path) -> None:
    path = folder / "sealed/data/files"
    path.rename(folder.parent / "files")
    path.symlink_to(folder.parent / "files")


def _hard_things(kind: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / "sealed/data/files/thing"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, 0o20600, os.makedev(1, 3))
        else:
            with socket.socket(socket.AF_UNIX) as listening:
                before = Path.cwd()
                os.chdir(path.parent)  # a socket's path has a limit of 108 bytes
                listening.bind(path.name)
                os.chdir(before)

    return harm


def _named(name: bytes) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        with open(os.fsencode(folder / "sealed/data/files") + b"/" + name, "wb"):  # noqa: PTH123 -- a name in bytes
            pass

    return harm


def _mode(bits: int) -> Callable[[Path], None]:
    return lambda folder: (folder / README).chmod(bits)


def _longer(folder: Path) -> None:
    with (folder / MODEL).open("ab") as stream:
        stream.write(b"x")


def _carrier_link(folder: Path) -> None:
    path = folder / "carrier/statement.json"
    path.rename(folder.parent / "statement.json")
    path.symlink_to(folder.parent / "statement.json")


def _deep(folder: Path) -> None:
    (folder / "sealed/data" / "/".join("d" * 300)).mkdir(parents=True)


def _sealed_link(folder: Path) -> None:
    (folder / "sealed").rename(folder.parent / "sealed")
    (folder / "sealed").symlink_to(folder.parent / "sealed")


def _swapped_leaves(folder: Path) -> None:
    path = folder / LEAVES
    data = path.read_bytes()
    path.write_bytes(data[32:64] + data[:32] + data[64:])


# name of the case, harm, exit code of `airgap verify`, what its message names, exit code of the two scripts
IN_MODELS = {"payload_bit", "payload_last_byte"}
CASES = [
    ("payload_bit", _flip(MODEL, 2_500_000), 11, "words.gguf: leaf 2 of 4", 11),
    ("payload_last_byte", _flip(MODEL, -1), 11, "words.gguf: leaf 3 of 4", 11),
    ("payload_longer", _longer, 13, "words.gguf: expected 3145732 bytes, found 3145733", 13),
    ("small_file_bit", _flip(README, 2), 11, "readme.txt: leaf 0 of 1", 11),
    ("facts_bit", _flip("sealed/facts.txt", 20), 11, "facts.txt", 11),
    ("leaf_file_bit", _flip(LEAVES, 40), 11, "words.gguf.leaves", 11),
    ("leaves_swapped", _swapped_leaves, 11, "words.gguf.leaves", 11),
    ("list_bit", _flip("sealed/SHA256SUMS", 3), 11, "sealed/SHA256SUMS", 11),
    ("list_missing", lambda folder: (folder / "sealed/SHA256SUMS").unlink(), 13, "SHA256SUMS", 13),
    ("truncated", _truncate, 13, "words.gguf: expected 3145732 bytes, found 1048576", 13),
    ("missing", _missing, 13, "readme.txt: missing", 13),
    ("extra", _extra, 13, ".hidden: extra", 13),
    ("extra_in_carrier", _extra_carrier, 13, "carrier/notes.txt", 13),
    ("renamed", _renamed, 13, "readme.txt: missing", 13),
    ("link", _link, 13, "readme.txt: expected a regular file, found a link", 13),
    ("link_in_carrier", _carrier_link, 13, "statement.json", 13),
    ("linked_folder", _linked_folder, 13, "sealed/data/files: expected a regular file, found a link", 13),
    ("pipe", _hard_things("pipe"), 13, "thing: expected a regular file, found a pipe", 13),
    ("socket", _hard_things("socket"), 13, "thing: expected a regular file, found a socket", 13),
    ("device", _hard_things("device"), 13, "thing: expected a regular file, found a character device", 13),
    ("setuid", _mode(0o4755), 13, "readme.txt: setuid", 13),
    ("setgid", _mode(0o2755), 13, "readme.txt: setuid, setgid", 13),
    ("empty_folder", lambda folder: (folder / "sealed/data/more").mkdir(), 13, "found a folder without files", 13),
    ("setuid_in_carrier", lambda folder: (folder / "carrier/statement.json").chmod(0o4644), 13, ".json: setuid", 13),
    ("deep_folders", _deep, 13, "found a path of more than 512 bytes", 13),
    ("sealed_is_a_link", _sealed_link, 13, "expected a bundle with folders", 13),
    (
        "name_that_a_terminal_obeys",
        _named(b"x\x1b[2K\x1b[1Gverdict: accept"),
        13,
        "x?[2K?[1Gverdict: accept: extra",
        13,
    ),
    ("name_with_line_break", _named(b"a\nb"), 13, "extra, nobody signed it", 13),
    ("name_not_utf8", _named(b"caf\xe9"), 13, "extra, nobody signed it", 13),
    ("name_of_an_option", _named(b"--help"), 13, "--help: extra", 13),
    ("name_with_blank", _named(b"a b"), 13, "a b: extra", 13),
]


def test_all_accept_a_good_bundle(made: Made) -> None:
    done = require_accepted(made.folder, made.fingerprint)
    assert "builder:   alice" in done["verify"].stdout
    not_judged = [line for line in done["check"].stdout.splitlines() if line.startswith("not judged")]
    assert [line.split()[2] for line in not_judged] == ["version", "base", "target"]


@pytest.mark.parametrize(("name", "harm", "code", "named", "shell_code"), CASES, ids=[case[0] for case in CASES])
def test_refuses_harmed_files(
    made: Made, copy: Path, name: str, harm: Callable[[Path], None], code: int, named: str, shell_code: int
) -> None:
    if name == "device" and os.geteuid() != 0:
        pytest.skip("only root makes device nodes")
    harm(copy)
    require_refused(copy, made.fingerprint, code, shell_code, named, in_models=name in IN_MODELS)


def test_refuses_another_root(made: Made, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    for done in judge(other.folder, made.fingerprint).values():
        assert done.returncode == 14
        assert other.fingerprint in done.stdout + done.stderr


def test_a_refusal_is_told_to_machines_too(made: Made, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    argv = [Path(sys.executable).with_name("airgap"), "verify", other.folder, "--fingerprint", made.fingerprint]
    done = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=False)
    content = json.loads(done.stdout)
    assert (done.returncode, content["verdict"], content["exit_code"]) == (14, "refused", 14)
    assert made.fingerprint in content["reason"]


def test_sign_refuses_a_stranger(made: Made, copy: Path) -> None:
    with pytest.raises(Exception, match="no person") as caught:
        sign_bundle(copy, PrivateKey.generate(), made.trust, SilentReporter())
    assert getattr(caught.value, "exit_code", None) == 14


def test_sign_refuses_bytes_that_differ_from_the_statement(made: Made, copy: Path) -> None:
    flip(copy / MODEL)
    with pytest.raises(Exception, match=r"words\.gguf: leaf 0") as caught:
        sign_bundle(copy, made.builder, made.trust, SilentReporter())
    assert getattr(caught.value, "exit_code", None) == 11


class _Liar(FolderSource):
    """A medium that shows every file as it was signed once, and another one to whoever reads it again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._shown: set[str] = set()

    def open(self, path: str) -> BinaryIO:
        """The file, or its bytes with the last one changed."""
        with super().open(path) as stream:
            data = stream.read()
        if path in self._shown and not path.startswith(
            ("leaves/", "facts.txt")
        ):  # verification itself reads those twice
            data = data[:-1] + bytes([data[-1] ^ 1]) if data else b"x"
        self._shown.add(path)
        return io.BytesIO(data)


def test_refuses_a_file_that_reads_differently_the_second_time(made: Made, tmp_path: Path) -> None:
    source = _Liar(made.folder)
    bundle = verify_bundle(source, read_trust(source, made.fingerprint), SilentReporter())
    for path in ("lock.json", "data/files/readme.txt", "data/files/empty"):
        with pytest.raises(DigestMismatch, match=path):
            bundle.read(path)
    with pytest.raises(DigestMismatch, match=r"words\.gguf"):
        copy_models(bundle, tmp_path / "models", SilentReporter())
    assert not (tmp_path / "models/words.gguf").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("gib", [3, 5])
def test_refuses_the_last_byte_of_a_huge_file(tmp_path: Path, gib: int) -> None:
    """Sizes and offsets over 2^31 and 2^32; the file is a hole, so it costs no space, but every byte is hashed."""
    model = tmp_path / "hole.gguf"
    with model.open("wb") as stream:
        stream.truncate(gib << 30)
    made = make(tmp_path / "good", {"data/files/readme.txt": b"hello\n", "data/models/hole.gguf": model})
    with (made.folder / "sealed/data/models/hole.gguf").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    last = f"hole.gguf: leaf {(gib << 10) - 1} of {gib << 10}"
    require_refused(made.folder, made.fingerprint, 11, 11, last, in_models=True)
