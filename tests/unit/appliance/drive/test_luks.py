"""Headers by the real cryptsetup, on a file: neither root's device-mapper nor a drive is needed for them.

All but one of the headers here cost little to guess; that one is made as an appliance makes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.drive import erase, luks
from appliance.drive.drive import Drive
from appliance.drive.luks import Header, Luks, Mode
from appliance.drive.pending import Pending
from appliance.drive.sed import Sed
from custody._run import PATH, Completed, run
from custody.errors import DriveFailed, IntegrityFailure, ProgramFailed, ProgramMissing, SecretRefused, TargetRefused
from custody.report import SilentReporter

FIRST, SECOND, RECOVERY, WRONG = "first passphrase", "second passphrase ü", "RECOVERY-KEY", "not this one"
DATA_OFFSET = 16 << 20
AS_SHIPPED = luks._KDF_FLAGS
pytestmark = pytest.mark.skipif(shutil.which("cryptsetup", path=PATH) is None, reason="no cryptsetup here")


class Watched:
    """What was run, and what could be seen of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def run(self, argv: Sequence[Any], **others: Any) -> Completed:
        handles = others.get("pass_fds", ())
        self.seen.append(" ".join(map(str, argv)))
        self.seen.append(str({key: value for key, value in others.items() if key != "stdin"}))
        assert all("memfd:" in str(Path(f"/proc/self/fd/{handle}").readlink()) for handle in handles)
        assert "env" not in others
        return run(argv, **others)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Little memory and four rounds, for this module's fixture and tests."""
    kept = luks._KDF_FLAGS
    luks._KDF_FLAGS = ("--pbkdf", luks.KDF, "--pbkdf-memory", "8192", "--pbkdf-force-iterations", "4")
    yield
    luks._KDF_FLAGS = kept


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Path:
    """A volume with a passphrase in slot 0 and a recovery key in slot 1."""
    file = blank(tmp_path_factory.mktemp("luks") / "disk")
    Luks(file).format(Mode.LUKS, FIRST)
    Luks(file).add(FIRST, RECOVERY, 1)
    return file


@pytest.fixture
def volume(header: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Luks]:
    """A copy of it; every command line is watched for secrets."""
    watched = Watched()
    monkeypatch.setattr(luks, "run", watched.run)
    yield Luks(Path(shutil.copy(header, tmp_path / "disk")))
    for secret in (FIRST, SECOND, RECOVERY, WRONG):
        assert not [line for line in watched.seen if secret in line]
    open_files = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not [name for name in open_files if "memfd:airgap" in name]


def blank(file: Path) -> Path:
    with file.open("wb") as stream:
        stream.truncate(20 << 20)
    return file


def test_what_an_appliance_writes_is_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """With an appliance's own options, but for how long cryptsetup measures."""
    monkeypatch.setattr(luks, "_KDF_FLAGS", (*AS_SHIPPED, "--iter-time", "100"))
    volume = Luks(blank(tmp_path / "disk"))
    assert not volume.exists
    volume.format(Mode.LUKS, FIRST)
    assert volume.exists
    assert volume.header() == Header(Mode.LUKS, DATA_OFFSET, None, (0,))
    dump = run(["cryptsetup", "luksDump", volume.device]).text
    assert luks.LABEL in dump
    (memory,) = re.findall(r"Memory:\s+(\d+)", dump)
    assert 32 * 1024 <= int(memory) <= luks.MAX_MEMORY_KIB
    assert "argon2id" in dump
    assert "512 bits" in dump


def test_each_slot_takes_its_own(volume: Luks) -> None:
    assert volume.header().slots == (0, 1)
    assert volume.takes(RECOVERY)
    assert volume.takes(FIRST, 0)
    assert not volume.takes(FIRST, 1)
    assert not volume.takes(RECOVERY, 0)
    assert not volume.takes(WRONG)
    assert not volume.takes(FIRST + "\n", 0)
    assert not volume.takes("", 0)


def test_a_passphrase_is_changed_slot_by_slot(volume: Luks) -> None:
    volume.add(RECOVERY, SECOND, 2)
    volume.remove(0)
    assert volume.header().slots == (1, 2)
    assert volume.takes(SECOND, 2)
    assert not volume.takes(FIRST)


def test_a_wrong_passphrase_adds_nothing(volume: Luks) -> None:
    before = volume.device.read_bytes()
    with pytest.raises(SecretRefused) as caught:
        volume.add(WRONG, SECOND, 2)
    assert volume.device.read_bytes() == before
    assert WRONG not in str(caught.value)
    assert str(volume.device) in caught.value.message


def test_a_taken_slot_is_left_as_it_is(volume: Luks) -> None:
    before = volume.device.read_bytes()
    with pytest.raises(ProgramFailed):
        volume.add(FIRST, SECOND, 1)
    with pytest.raises(ProgramFailed):
        volume.remove(5)
    assert volume.device.read_bytes() == before


def test_a_backup_is_the_header_and_brings_it_back(volume: Luks, tmp_path: Path) -> None:
    whole = volume.device.read_bytes()
    folders = set(Path("/run").iterdir())
    kept = volume.backup()
    assert set(Path("/run").glob("airgap-*")) <= folders
    assert len(kept) == DATA_OFFSET
    assert whole.startswith(kept)
    volume.erase()
    (tmp_path / "header").write_bytes(kept)
    run(["cryptsetup", "luksHeaderRestore", "--batch-mode", "--header-backup-file", tmp_path / "header", volume.device])
    assert volume.takes(FIRST)


def test_an_erased_volume_takes_nothing(volume: Luks) -> None:
    told = json.loads(run(["cryptsetup", "luksDump", "--dump-json-metadata", volume.device]).text)
    areas = [(int(slot["area"]["offset"]), int(slot["area"]["size"])) for slot in told["keyslots"].values()]
    before = volume.device.read_bytes()
    volume.erase()
    assert volume.header().slots == ()
    # Not only forgotten: where the slots were, nothing is what it was.
    after = volume.device.read_bytes()
    assert len(areas) == 2
    for start, size in areas:
        blocks = [at for at in range(start, start + size, 4096) if any(before[at : at + 4096])]
        assert blocks
        assert not [at for at in blocks if after[at : at + 4096] == before[at : at + 4096]]
    with pytest.raises(ProgramFailed):
        volume.takes(FIRST)


def test_a_header_of_somebody_elses_kind_is_not_believed(tmp_path: Path, quick: None) -> None:
    file = blank(tmp_path / "disk")
    key = tmp_path / "key"
    key.write_text(FIRST)
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--batch-mode", "--key-file", str(key)]
    run(["cryptsetup", "luksFormat", "--type", "luks2", *cheap, str(file)])
    with pytest.raises(IntegrityFailure, match="LUKS2 header"):
        Luks(file).header()
    argon = ["--pbkdf", "argon2id", "--pbkdf-memory", "8192", "--pbkdf-force-iterations", "4", *cheap[4:]]
    run(["cryptsetup", "luksFormat", "--type", "luks2", "--cipher", "aes-cbc-essiv:sha256", *argon, str(file)])
    with pytest.raises(IntegrityFailure, match="LUKS2 header"):
        Luks(file).header()


def test_a_luks1_header_is_none_of_ours(tmp_path: Path) -> None:
    file = blank(tmp_path / "disk")
    key = tmp_path / "key"
    key.write_text(FIRST)
    run(["cryptsetup", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--batch-mode",
         "--key-file", str(key), str(file)])  # fmt: skip
    assert Luks(file).exists
    with pytest.raises((IntegrityFailure, ProgramFailed)):
        Luks(file).header()


def test_a_cryptsetup_without_opal_says_so(tmp_path: Path) -> None:
    if tuple(map(int, re.findall(r"\d+", run(["cryptsetup", "--version"]).text)[:3])) >= (2, 7, 0):
        pytest.skip("this cryptsetup has Opal")
    file = blank(tmp_path / "disk")
    with pytest.raises(ProgramFailed):
        Luks(file).format(Mode.BOTH, FIRST, "0" * 32)
    assert not Luks(file).exists
    with pytest.raises(ProgramMissing, match=r"expected 2\.7\.0 or newer for opal\+luks, found cryptsetup 2\."):
        luks.require(Mode.BOTH)
    luks.require(Mode.LUKS)


# Out of service: a disk that is no self-encrypting drive


def plain(device: Path, folder: Path) -> Drive:
    """A drive behind a file."""
    return Drive("PLAIN1", "File", "none", Sed(device), Luks(device), None, Pending("PLAIN1", folder), SilentReporter())


def test_the_keys_of_a_plain_disk_are_destroyed_and_that_is_what_is_told(volume: Luks, tmp_path: Path) -> None:
    device = volume.device
    noise = os.urandom(1 << 20)
    with device.open("r+b") as stream:
        stream.seek(DATA_OFFSET)
        stream.write(noise)
    kept = volume.backup()
    drive = plain(device, tmp_path)
    seen = erase.decommission(drive, device.stat().st_size, folder=tmp_path / "erase")
    assert seen.category == "Clear (cryptographic erase)"
    assert "key slots" in seen.method
    assert "discards no blocks" in seen.method  # a plain file: the certificate claims nothing that was not done
    # The noise stays; of the header, key slots and what lies between them, nothing does.
    assert (seen.compared, seen.compared_data) == (seen.unchanged + _held(kept), seen.unchanged)
    assert seen.unchanged == (1 << 20) // 4096
    assert not volume.exists
    assert not any(device.read_bytes()[:DATA_OFFSET])
    assert erase.decommission(drive, device.stat().st_size, folder=tmp_path / "erase") == seen  # until it is ended
    erase.end(drive, folder=tmp_path / "erase")
    assert not list((tmp_path / "erase").iterdir())


def _held(data: bytes) -> int:
    """Blocks that hold something."""
    return sum(any(data[at : at + 4096]) for at in range(0, len(data), 4096))


class Stale(Sed):
    """A disk that goes on handing out some blocks as they were."""

    def __init__(self, device: Path, start: int, size_bytes: int) -> None:
        super().__init__(device)
        self.start, self.kept = start, device.read_bytes()[start : start + size_bytes]

    def read(self, offset_bytes: int, length_bytes: int = 4096) -> bytes | None:
        at = offset_bytes - self.start
        if 0 <= at < len(self.kept):
            return self.kept[at : at + length_bytes]
        return super().read(offset_bytes, length_bytes)


@pytest.mark.parametrize(
    ("start", "size_bytes"),
    [(0, 4096), (32768, 258048), (290816 + 258048 - 4096, 4096)],
    ids=["header", "slot 0", "end of slot 1"],
)
def test_a_plain_disk_whose_key_slots_stay_is_never_certified(
    volume: Luks, tmp_path: Path, start: int, size_bytes: int
) -> None:
    """One block of a slot that stays may be enough for somebody: each is looked at."""
    drive = replace(plain(volume.device, tmp_path), sed=Stale(volume.device, start, size_bytes))
    left = f"found {size_bytes // 4096} of 4092 blocks as they were"
    with pytest.raises(DriveFailed, match=left) as caught:
        erase.decommission(drive, volume.device.stat().st_size, folder=tmp_path / "erase")
    assert "destroy the drive" in caught.value.hint


@pytest.mark.parametrize("cut", ["destroying the header", "wipefs", "overwriting", "reading the same"])
def test_a_plain_disk_whose_end_was_cut_off_is_ended_by_the_same_call(
    volume: Luks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    device, folder = volume.device, tmp_path / "erase"
    other = Path(shutil.copy(device, tmp_path / "other"))
    whole = erase.decommission(plain(other, tmp_path), other.stat().st_size, folder=tmp_path / "whole")

    class Cut(SilentReporter):
        def step(self, text: str) -> None:
            if cut in text:
                raise KeyboardInterrupt

    def cut_run(argv: Sequence[Any], **others: Any) -> Completed:
        if cut == argv[0]:
            raise KeyboardInterrupt
        return run(argv, **others)

    drive = plain(device, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(erase, "run", cut_run)
        erase.decommission(replace(drive, reporter=Cut()), device.stat().st_size, folder=folder)
    if cut == "wipefs":
        assert volume.header().slots == ()  # it can be read, and opens nothing any more
    assert erase.decommission(drive, device.stat().st_size, folder=folder) == whole
    assert not volume.exists


def test_what_was_kept_of_a_plain_disks_former_life_is_no_measure_of_this_one(volume: Luks, tmp_path: Path) -> None:
    (tmp_path / "PLAIN1.erase").write_text(json.dumps({"data_offset": 4096, "blocks": {"0": "0" * 64}}))
    seen = erase.decommission(plain(volume.device, tmp_path), volume.device.stat().st_size, folder=tmp_path)
    assert seen.compared > 4000


def test_a_volume_without_a_key_slot_is_never_certified(volume: Luks, tmp_path: Path) -> None:
    """Whoever destroyed the slots, nobody here saw what they held."""
    volume.erase()
    before = volume.device.read_bytes()
    with pytest.raises(TargetRefused, match="no keys on it that could be destroyed"):
        erase.decommission(plain(volume.device, tmp_path), len(before), folder=tmp_path / "erase")
    assert volume.device.read_bytes() == before


@pytest.mark.parametrize("foreign", [False, True])
def test_a_disk_without_keys_is_never_certified(tmp_path: Path, quick: None, foreign: bool) -> None:
    """Its data would be there still: nothing was encrypted, and discarding promises nothing."""
    device = blank(tmp_path / "disk")
    if foreign:
        (tmp_path / "key").write_text(FIRST)
        cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--batch-mode", "--key-file"]
        run(["cryptsetup", "luksFormat", "--type", "luks2", *cheap, tmp_path / "key", device])
    with device.open("r+b") as stream:
        stream.seek(DATA_OFFSET)
        stream.write(b"plain as day " * 400)
    before = device.read_bytes()
    with pytest.raises(TargetRefused, match="no keys on it that could be destroyed") as caught:
        erase.decommission(plain(device, tmp_path), device.stat().st_size, folder=tmp_path / "erase")
    assert "PLAIN1" in caught.value.message
    assert device.read_bytes() == before


# Versions and modes


@pytest.mark.parametrize(
    ("told", "modes"),
    [
        ("cryptsetup 2.6.1 flags: UDEV BLKID KEYRING KERNEL_CAPI", {Mode.LUKS}),
        ("cryptsetup 2.7.0 flags: UDEV BLKID KEYRING KERNEL_CAPI HW_OPAL", {Mode.LUKS, Mode.BOTH}),
        ("cryptsetup 2.7.2", {Mode.LUKS, Mode.BOTH}),
        ("cryptsetup 2.7.3", set(Mode)),
        ("cryptsetup 2.7.5 flags: UDEV BLKID KEYRING KERNEL_CAPI HW_OPAL", set(Mode)),
        ("cryptsetup 2.8", set(Mode)),
        ("cryptsetup 2.10.0", set(Mode)),
        ("cryptsetup 1.7.5", set()),
        ("", set()),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, told: str, modes: set[Mode]) -> None:
    monkeypatch.setattr(luks, "run", lambda argv: Completed(tuple(argv), 0, told.encode(), b""))
    for mode in Mode:
        if mode in modes:
            luks.require(mode)
        else:
            with pytest.raises(ProgramMissing, match=f"for {re.escape(mode)}, found {re.escape(told or 'nothing')}"):
                luks.require(mode)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_admin_pin_goes_by_standard_input_alone(monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    heard: list[tuple[str, bytes, list[bytes]]] = []

    def note(argv: Sequence[Any], *, stdin: bytes = b"", pass_fds: Sequence[int] = (), **_: Any) -> Completed:
        heard.append((" ".join(map(str, argv)), stdin, [Path(f"/dev/fd/{handle}").read_bytes() for handle in pass_fds]))
        return Completed((), 0, b"", b"")

    monkeypatch.setattr(luks, "run", note)
    pin = "" if mode is Mode.LUKS else "A" * 32
    Luks(Path("/dev/nvme0n1")).format(mode, FIRST, pin)
    ((line, stdin, files),) = heard
    assert (stdin, files) == (pin.encode(), [FIRST.encode()])  # no line end: cryptsetup would count it in
    assert ("--hw-opal-only" in line, "--hw-opal " in line) == (mode is Mode.OPAL, mode is Mode.BOTH)
    assert ("--cipher aes-xts-plain64 --key-size 512" in line) is (mode is not Mode.OPAL)
    assert "A" * 32 not in line
