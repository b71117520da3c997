"""Lies about a bundle: each is refused by name, by `airgap verify` and by `start --check`, and changes nothing.

Both run in a network namespace of their own with no interface, so they also show that checking needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from bundler.bundle.sign import sign_bundle
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey
from tests.bundles import Made, make

AIRGAP = Path(sys.executable).with_name("airgap")
ALONE = ("unshare", "--map-root-user", "--net")
MODEL = "sealed/data/models/words.gguf"
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


def verify(folder: Path, fingerprint: str) -> subprocess.CompletedProcess[str]:
    """`airgap verify` without a network."""
    command = [*ALONE, str(AIRGAP), "verify", str(folder), "--fingerprint", fingerprint]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def start_check(folder: Path, fingerprint: str) -> subprocess.CompletedProcess[str]:
    """`start --check` without a network, the fingerprint typed."""
    script = str(files("bundler.media").joinpath("start.sh"))
    command = [*ALONE, "sh", script, "--check", str(folder)]
    return subprocess.run(command, input=fingerprint + "\n", capture_output=True, text=True, check=False)


def state(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything about a folder that a check might change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(info.st_mode) else ""
        found[str(path.relative_to(folder))] = (info.st_mode, info.st_mtime_ns, digest)
    return found


def flip(path: Path, byte: int = 100) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[byte % len(data)] ^= 1
    path.write_bytes(data)


def _flip(name: str, byte: int = 100) -> Callable[[Path], None]:
    return lambda folder: flip(folder / name, byte)


def _flip_signature(folder: Path) -> None:
    flip(next((folder / "carrier/sig").iterdir()), 20)


def _flip_signature_in_envelope(folder: Path) -> None:
    path = folder / "carrier/statement.dsse.json"
    content = json.loads(path.read_bytes())
    signature = bytearray(base64.b64decode(content["signatures"][0]["sig"]))
    signature[20] ^= 1
    content["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")))


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


def _one_signature(folder: Path) -> None:
    path = folder / "carrier/statement.dsse.json"
    content = json.loads(path.read_bytes())
    gone = content["signatures"].pop()
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")))
    (folder / f"carrier/sig/{gone['keyid']}.sig").unlink()


def _swapped_leaves(folder: Path) -> None:
    path = folder / LEAVES
    data = path.read_bytes()
    path.write_bytes(data[32:64] + data[:32] + data[64:])


# name of the case, harm, exit code of `airgap verify`, what its message names, exit code of `start --check`
CASES = [
    ("payload_bit", _flip(MODEL, 2_500_000), 11, "words.gguf: leaf 2 of 4", 11),
    ("small_file_bit", _flip("sealed/data/files/readme.txt", 2), 11, "readme.txt: leaf 0 of 1", 11),
    ("statement_bit", _flip("carrier/statement.json", 200), 12, "carrier/statement.json", 12),
    ("signature_file_bit", _flip_signature, 12, ".sig", 12),
    ("leaf_file_bit", _flip(LEAVES, 40), 11, "words.gguf.leaves", 11),
    ("leaves_swapped", _swapped_leaves, 11, "words.gguf.leaves", 11),
    ("list_bit", _flip("sealed/SHA256SUMS", 3), 11, "sealed/SHA256SUMS", 11),
    ("root_bit", _flip("carrier/trust/1.root.json", 30), 14, "1.root.json", 14),
    ("flat_root_bit", _flip("carrier/trust/1.root.flat", 60), 13, "1.root.flat", 14),
    ("truncated", _truncate, 13, "words.gguf: expected 3145732 bytes, found 1048576", 11),
    ("missing", _missing, 13, "readme.txt: missing", 13),
    ("extra", _extra, 13, ".hidden: extra", 13),
    ("renamed", _renamed, 13, "readme.txt: missing", 13),
    ("link", _link, 13, "readme.txt: expected a regular file, found a link", 13),
    ("linked_folder", _linked_folder, 13, "sealed/data/files: expected a regular file, found a link", 13),
    ("one_signature", _one_signature, 12, "expected signatures of 1", 12),
]


def test_verify_and_start_accept_a_good_bundle(made: Made) -> None:
    before = state(made.folder)
    verified, started = verify(made.folder, made.fingerprint), start_check(made.folder, made.fingerprint)
    assert verified.returncode == 0, verified.stderr
    assert "verdict:   accepted" in verified.stdout
    assert "builder:   alice" in verified.stdout
    assert started.returncode == 0, started.stderr
    assert started.stdout.splitlines()[-1] == "accepted"
    assert state(made.folder) == before


@pytest.mark.parametrize(("name", "harm", "code", "named", "start_code"), CASES, ids=[case[0] for case in CASES])
def test_refuses_a_harmed_bundle(
    made: Made, copy: Path, name: str, harm: Callable[[Path], None], code: int, named: str, start_code: int
) -> None:
    harm(copy)
    before = state(copy)
    verified, started = verify(copy, made.fingerprint), start_check(copy, made.fingerprint)
    assert verified.returncode == code, verified.stderr
    assert named in verified.stderr
    assert "Traceback" not in verified.stderr
    assert started.returncode == start_code, started.stderr
    assert "start: " in started.stderr
    assert "accepted" not in started.stdout
    assert state(copy) == before


def test_verify_refuses_a_false_signature_in_the_envelope(made: Made, copy: Path) -> None:
    _flip_signature_in_envelope(copy)
    done = verify(copy, made.fingerprint)
    assert (done.returncode, "signature of key" in done.stderr) == (12, True)


def test_verify_refuses_a_strange_file_in_the_carrier(made: Made, copy: Path) -> None:
    _extra_carrier(copy)
    done = verify(copy, made.fingerprint)
    assert (done.returncode, "carrier/notes.txt" in done.stderr) == (13, True)


def test_refuses_another_root(made: Made, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    for check in (verify, start_check):
        done = check(other.folder, made.fingerprint)
        assert done.returncode == 14
        assert other.fingerprint in done.stderr


def test_sign_refuses_a_stranger(made: Made, copy: Path) -> None:
    with pytest.raises(Exception, match="no person") as caught:
        sign_bundle(copy, PrivateKey.generate(), made.trust, SilentReporter())
    assert getattr(caught.value, "exit_code", None) == 14


def test_sign_refuses_bytes_that_differ_from_the_statement(made: Made, copy: Path) -> None:
    flip(copy / MODEL)
    with pytest.raises(Exception, match=r"words\.gguf: leaf 0") as caught:
        sign_bundle(copy, made.builder, made.trust, SilentReporter())
    assert getattr(caught.value, "exit_code", None) == 11
