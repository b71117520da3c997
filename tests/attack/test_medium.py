"""Lies of a medium before its bundle is looked at: the header of its encrypted partition, and its `start`.

Headers are judged by the very function of `start`, over a file that stands for the partition: cryptsetup reads and
copies headers without a device mapper, and only its `open` and `mount` are replaced here, by words that say that they
were reached. Nothing else of this project opens a partition that it did not format itself in the same run.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.bundle.read import FolderSource
from bundler.install.remote.carry import load_cargo
from bundler.media import kit, volume
from bundler.media.paper import make_paper
from bundler.media.readback import compare_start
from bundler.media.start import start_partition
from custody.errors import DigestMismatch
from custody.report import SilentReporter
from custody.trust.verify import VerifiedBundle, read_trust, verify_statement
from tests.attack import judges
from tests.attack.test_bundle import README, flip
from tests.bundles import Made, make
from tests.carried import lay_down

Header = dict[str, Any]
#: The function as it stands in the script; what it calls besides cryptsetup, and what opens, is replaced.
_HARNESS = """
set -eu
say() { :; }
die() { printf 'start: %s\\n' "$2" >&2; exit "$1"; }
findmnt() { echo /dev/medium1; }
lsblk() { case $3 in PKNAME) echo /dev/medium ;; *) echo "$image airgap-sealed" ;; esac; }
cryptsetup() { case $1 in open) cat >/dev/null; echo "opened $*" ;; *) command cryptsetup "$@" ;; esac; }
mount() { echo mounted; }
here=/mnt passphrase_file= again=again MAPPER=airgap-medium image=$1 WORK=$2
secret() { printf secret; }
FUNCTION
open_medium
"""


def formatted(image: Path, *options: str) -> Path:
    """A partition as `burn` formats it, but for a cheap derivation of its key, and in LUKS1 if `options` say so."""
    image.unlink(missing_ok=True)
    with image.open("wb") as stream:
        stream.truncate(20 << 20)
    cheap = ("--pbkdf", "argon2id", "--pbkdf-memory", "32", "--pbkdf-force-iterations", "4")
    argv = ["cryptsetup", "luksFormat", "--batch-mode", "--cipher", "aes-xts-plain64", "--key-size", "512",
            "--hash", "sha256", *(options or ("--type", "luks2", *cheap)), "--key-file", "-", str(image)]  # fmt: skip
    subprocess.run(argv, input=b"secret", check=True)
    return image


def rewritten(image: Path, change: Callable[[Header], object]) -> Path:
    """The same partition with other words in both copies of its header, and the checksums that belong to them.

    LUKS2 on-disk format 1.1: a binary header of 4096 bytes (size at 8, checksum at 448), then JSON; twice.
    """
    data = bytearray(image.read_bytes())
    size = struct.unpack_from(">Q", data, 8)[0]
    for start in (0, size):
        text = bytes(data[start + 4096 : start + size])
        content = json.loads(text[: text.index(b"\0")])
        change(content)
        data[start + 4096 : start + size] = json.dumps(content).encode().ljust(size - 4096, b"\0")
        data[start + 448 : start + 512] = bytes(64)
        data[start + 448 : start + 480] = hashlib.sha256(data[start : start + size]).digest()
    image.write_bytes(data)
    return image


def opened(image: Path, work: Path) -> subprocess.CompletedProcess[str]:
    """What `start` does with the partition."""
    function = re.search(r"^open_medium\(\) \{\n.*?^\}\n", kit.script("start.sh"), re.MULTILINE | re.DOTALL)
    assert function
    work.mkdir()
    argv = ["sh", "-c", _HARNESS.replace("FUNCTION", function.group()), "sh", str(image), str(work)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _slot(header: Header) -> Header:
    slot: Header = header["keyslots"]["0"]
    return slot


def _segment(header: Header) -> Header:
    segment: Header = header["segments"]["0"]
    return segment


def _second_segment(header: Header) -> None:
    first = _segment(header)
    first["size"] = str(1 << 20)
    header["segments"]["1"] = {**first, "offset": str(int(first["offset"]) + (1 << 20)), "size": "dynamic"}
    header["digests"]["0"]["segments"] = ["0", "1"]


def _plain_segment(header: Header) -> None:
    offset = _segment(header)["offset"]
    header["segments"]["0"] = {"type": "linear", "offset": offset, "size": "dynamic"}
    header["digests"]["0"]["segments"] = []


def _integrity(header: Header) -> None:
    _segment(header)["integrity"] = {"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"}


def _worded(change: Callable[[Header], object]) -> Callable[[Path], Path]:
    return lambda image: rewritten(formatted(image), change)


def _told(*argv: str, text: str = "secret", more: tuple[str, ...] = ()) -> Callable[[Path], Path]:
    """Changed by cryptsetup itself after it was formatted; `more` follows the partition's name."""

    def make_it(image: Path) -> Path:
        formatted(image)
        subprocess.run(["cryptsetup", *argv, str(image), *more], input=text.encode(), check=True, capture_output=True)
        return image

    return make_it


def _not_luks(image: Path) -> Path:
    formatted(image)
    image.write_bytes(bytes(20 << 20))
    return image


_REENCRYPT = ("reencrypt", "--init-only", "--batch-mode", "--key-file", "-", "--pbkdf-memory", "32",
              "--pbkdf-force-iterations", "4")  # fmt: skip
_TOKEN = ("token", "import", "--json-file", "-")
_PBKDF2 = {
    "type": "pbkdf2",
    "hash": "sha256",
    "iterations": 1000,
    "salt": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
}
# name of the case, how such a partition is made, exit code of `start`
HEADERS: list[tuple[str, Callable[[Path], Path], int]] = [
    ("no_encryption", _worded(lambda h: _segment(h).update(encryption="cipher_null-ecb")), 13),
    ("another_cipher", _worded(lambda h: _segment(h).update(encryption="aes-cbc-essiv:sha256")), 13),
    ("shorter_key", _worded(lambda h: _slot(h).update(key_size=32)), 13),
    ("plain_segment", _worded(_plain_segment), 13),
    ("second_segment", _worded(_second_segment), 13),
    ("integrity_that_is_none", _worded(_integrity), 13),
    ("flag_of_a_segment", _worded(lambda h: _segment(h).update(flags=["x-later"])), 13),
    ("half_reencrypted", _told(*_REENCRYPT), 13),
    ("unknown_requirement", _worded(lambda h: h["config"].update(requirements={"mandatory": ["x-later"]})), 13),
    ("flag_of_the_whole", _worded(lambda h: h["config"].update(flags=["allow-discards"])), 13),
    ("unknown_token", _told(*_TOKEN, text='{"type":"x-own","keyslots":["0"]}'), 13),
    ("token_that_fetches_a_key", _told(*_TOKEN, text='{"type":"luks2-keyring","keyslots":["0"],"key_description":"x"}'),
     13),
    ("pbkdf2", _worded(lambda h: _slot(h).update(kdf=_PBKDF2)), 13),
    ("argon2i", _worded(lambda h: _slot(h)["kdf"].update(type="argon2i")), 13),
    ("argon2id_above_256_mib", _worded(lambda h: _slot(h)["kdf"].update(memory=(256 << 10) + 1)), 13),
    ("argon2id_that_takes_hours", _worded(lambda h: _slot(h)["kdf"].update(time=1 << 20)), 13),
    ("argon2id_of_4_gib", _worded(lambda h: _slot(h)["kdf"].update(memory=4 << 20)), 13),
    ("second_key_with_pbkdf2", _told("luksAddKey", "--batch-mode", "--key-file", "-", "--pbkdf", "pbkdf2",
                                     "--pbkdf-force-iterations", "1000", more=(__file__,)), 13),
    ("no_key", _told("luksErase", "--batch-mode"), 13),
    ("luks1", lambda image: formatted(image, "--type", "luks1", "--pbkdf-force-iterations", "1000"), 13),
    ("not_luks", _not_luks, 13),
]  # fmt: skip


def test_start_opens_what_burn_formats(tmp_path: Path) -> None:
    image = formatted(tmp_path / "image")
    done = opened(image, tmp_path / "cheap")
    copy = tmp_path / "cheap/header"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"opened open --type luks2 --readonly --header {copy} --key-file - {image} airgap-medium",
        "mounted",
    ]
    volume.format_luks(image, b"secret")
    assert opened(image, tmp_path / "burned").returncode == 0


def test_start_opens_what_stays_within_its_list(tmp_path: Path) -> None:
    """The helper's checksums are right: a header with other words in it is refused for its words alone."""
    image = rewritten(formatted(tmp_path / "image"), lambda h: _slot(h)["kdf"].update(memory=256 << 10))
    assert opened(image, tmp_path / "work").returncode == 0


@pytest.mark.parametrize(("name", "prepare", "code"), HEADERS, ids=[case[0] for case in HEADERS])
def test_start_refuses_a_luks_header_outside_the_allow_list(
    tmp_path: Path, name: str, prepare: Callable[[Path], Path], code: int
) -> None:
    done = opened(prepare(tmp_path / "image"), tmp_path / "work")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert f"start: {tmp_path}/image: " in done.stderr


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One good bundle."""
    return make(tmp_path_factory.mktemp("medium"))


def verified(made: Made) -> VerifiedBundle:
    """It, as the machine sees it that writes the paper."""
    source = FolderSource(made.folder)
    return verify_statement(source, read_trust(source, made.fingerprint))


def _edited(before: str, after: str) -> Callable[[Path], None]:
    def harm(medium: Path) -> None:
        text = (medium / "start").read_text()
        assert text.count(before) == 1
        (medium / "start").write_text(text.replace(before, after))

    return harm


def _replaced(medium: Path) -> None:
    (medium / "start").write_text("#!/bin/sh\necho accepted\n")


def _longer(medium: Path) -> None:
    with (medium / "start").open("a") as stream:
        stream.write(": more\n")


def _shorter(medium: Path) -> None:
    (medium / "start").write_bytes((medium / "start").read_bytes()[:-1])


def _of_another_release(medium: Path) -> None:
    """An honest one: just not this bundle's, and so perhaps one with a hole that was mended since."""
    text = (medium / "start").read_text()
    (medium / "start").write_text(re.sub(r"^BUNDLE='.*'$", "BUNDLE='demo-0'", text, flags=re.MULTILINE))


def _other_packages(medium: Path) -> None:
    """Its list and the packages fit each other, and `start`."""
    (medium / "bootstrap/evil_1_all.deb").write_bytes(b"evil")
    sums = f"{hashlib.sha256(b'evil').hexdigest()}  evil_1_all.deb\n".encode()
    (medium / "bootstrap/SHA256SUMS").write_bytes(sums)
    text = (medium / "start").read_text()
    named = f"BOOTSTRAP='{hashlib.sha256(sums).hexdigest()}'"
    (medium / "start").write_text(re.sub(r"^BOOTSTRAP='.*'$", named, text, flags=re.MULTILINE))


_DIGEST = """digest() { "${2:-$sha}sum" <"$1" | cut -d' ' -f1; } # file, algorithm"""
# name of the case, what becomes of `start`; nobody who compares its digest is taken in
STARTS: list[tuple[str, Callable[[Path], None]]] = [
    ("start_with_a_line_more", _longer),
    ("start_without_its_last_byte", _shorter),
    ("start_replaced", _replaced),
    ("start_of_another_release", _of_another_release),
    ("start_that_believes_any_root", _edited('believe_roots "$typed"', 'believe_roots "$(cat "$here/root")"')),
    ("start_that_compares_no_digests", _edited('judge_copied "$models"', ":")),
    ("start_with_other_packages", _other_packages),
    ("start_that_shows_the_digest_of_the_paper", _edited(_DIGEST, "digest() { echo DIGEST; }")),
]


@pytest.mark.parametrize(("name", "harm"), STARTS, ids=[case[0] for case in STARTS])
def test_whoever_compares_its_digest_refuses_a_start_that_lies(
    made: Made, tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    medium, digest = lay_down(made.folder, made.fingerprint, tmp_path / "medium")
    bundle = verified(made)
    assert make_paper(bundle).start == digest, "the paper is made where the bundle was verified, not from the medium"
    compare_start(start_partition(bundle), medium)
    harm(medium)
    shown = subprocess.run(["sha256sum", medium / "start"], capture_output=True, text=True, check=True).stdout
    assert shown.split()[0] != digest, "a person on a bare host compares this line with the paper"
    with pytest.raises(DigestMismatch, match="start: expected sha256") as read_back:
        compare_start(start_partition(bundle), medium)
    with pytest.raises(DigestMismatch, match="start: expected sha256") as carried:
        load_cargo(medium, made.fingerprint, digest, SilentReporter())
    assert (read_back.value.exit_code, carried.value.exit_code) == (11, 11)


def test_a_start_that_lies_is_nothing_to_those_who_judge_the_bundle(made: Made, tmp_path: Path) -> None:
    """It says what its maker likes, the paper's digest and `accepted` too; nobody else runs it, or asks it."""
    medium, digest = lay_down(made.folder, made.fingerprint, tmp_path / "medium")
    _edited(_DIGEST, f"digest() {{ echo {digest}; }}")(medium)
    judges.require_accepted(medium, made.fingerprint)
    flip(medium / README, 2)
    _edited("judge_statement\njudge_list\njudge_copied", "printf 'accepted\\n'; exit 0; judge_copied")(medium)
    _edited('believe_roots "$typed"\n', "")(medium)
    _edited("believe_revocations\n", "")(medium)
    argv = [*judges.ALONE, "sh", str(medium / "start"), "--check", str(medium)]
    lie = subprocess.run(argv, input=f"{made.fingerprint}\n", capture_output=True, text=True, check=False)
    assert (lie.returncode, lie.stdout) == (0, "accepted\n"), lie.stderr
    assert digest in lie.stderr
    judges.require_refused(medium, made.fingerprint, 11, 11, "readme.txt: leaf 0 of 1")


@pytest.mark.parametrize("name", ["start", "bootstrap/SHA256SUMS", "audit/check"])
def test_read_back_misses_what_is_gone_from_the_small_partition(made: Made, tmp_path: Path, name: str) -> None:
    medium, _ = lay_down(made.folder, made.fingerprint, tmp_path / "medium")
    (medium / name).unlink()
    with pytest.raises(DigestMismatch, match=f"{name}: expected sha256 .*, found nothing"):
        compare_start(start_partition(verified(made)), medium)
