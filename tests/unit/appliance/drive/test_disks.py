"""Which disk is meant and what may be done to it; outputs of lsblk, blkid and cryptsetup as Debian 13 prints them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.drive import disks
from appliance.drive.luks import Header, Mode
from custody.errors import DriveFailed, IntegrityFailure, TargetRefused
from tests.unit.appliance.conftest import Programs

SYSTEM = {
    "name": "vda", "path": "/dev/vda", "type": "disk", "serial": "SYSTEM1", "model": None, "size": 8 << 30, "ro": False,
    "mountpoints": ["/"],
}  # fmt: skip
DATA: dict[str, Any] = {**SYSTEM, "name": "vdb", "path": "/dev/vdb", "serial": "DATA1", "mountpoints": [None]}
OPENED = {"path": "/dev/mapper/airgap-data", "type": "crypt", "mountpoints": ["/srv/airgap"]}
PARTITION = {"path": "/dev/vdb1", "type": "part", "mountpoints": [None]}
OURS = "DEVNAME=/dev/vdb\nVERSION=2\nUUID=0\nLABEL=airgap-data\nTYPE=crypto_LUKS\nUSAGE=crypto\n"
OPAL = {"opal_segment_number": 1, "opal_key_size": 32, "opal_segment_size": "1024"}
_NEEDS_OPAL = {"requirements": {"mandatory": ["opal"]}}
#: Segment, configuration, and the mode that they mean; as cryptsetup 2.7.5 writes them.
SEGMENTS = [
    ({"type": "crypt", "encryption": "aes-xts-plain64"}, {}, "luks"),
    ({"type": "hw-opal-crypt", "encryption": "aes-xts-plain64", **OPAL}, _NEEDS_OPAL, "opal+luks"),
    ({"type": "hw-opal", **OPAL}, _NEEDS_OPAL, "opal"),
]


def lsblk(*devices: dict[str, Any]) -> tuple[int, str]:
    """Return what `lsblk --json` prints."""
    return 0, json.dumps({"blockdevices": list(devices)})


def header(**changes: Any) -> str:
    """Return luksDump's JSON of our own header, with changes."""
    slot = {
        "type": "luks2",
        "area": {"encryption": "aes-xts-plain64"},
        "kdf": {"type": "argon2id", "memory": 262144},
    }
    segment = {"type": "crypt", "offset": "16777216", "encryption": "aes-xts-plain64"}
    return json.dumps({"keyslots": {"0": slot}, "segments": {"0": segment}, "config": {}, **changes})


@pytest.fixture
def machine(programs: Callable[..., Programs]) -> Callable[..., Programs]:
    """Return a maker of machines with these block devices."""

    def make(*devices: dict[str, Any], blkid: tuple[int, str] = (2, ""), dump: str = "") -> Programs:
        answers = {"lsblk": lsblk(*devices), "blkid": blkid, "cryptsetup luksDump": (0, dump or header())}
        return programs("appliance.drive.disks", "appliance.drive.luks", answers=answers)

    return make


def test_find_returns_the_disk_with_the_serial(machine: Callable[..., Programs]) -> None:
    machine(SYSTEM, DATA)
    assert disks.find("DATA1").path == Path("/dev/vdb")


def test_find_refuses_no_disk_and_names_those_that_are_there(machine: Callable[..., Programs]) -> None:
    machine(SYSTEM, DATA)
    with pytest.raises(TargetRefused, match=r"serial DATA2: expected exactly one, found none.*/dev/vdb DATA1"):
        disks.find("DATA2")


def test_find_refuses_two_disks_with_one_serial(machine: Callable[..., Programs]) -> None:
    machine(SYSTEM, DATA, {**DATA, "path": "/dev/vdc"})
    with pytest.raises(TargetRefused, match="/dev/vdb and /dev/vdc"):
        disks.find("DATA1")


def test_find_does_not_take_a_partition_for_a_disk(machine: Callable[..., Programs]) -> None:
    machine({**DATA, "type": "part"})
    with pytest.raises(TargetRefused):
        disks.find("DATA1")


def test_a_blank_disk_is_blank(machine: Callable[..., Programs]) -> None:
    machine(DATA)
    assert disks.judge(disks.find("DATA1"), "airgap-data") is None


@pytest.mark.parametrize("children", [[], [OPENED]])
@pytest.mark.parametrize(("segment", "config", "mode"), SEGMENTS)
def test_our_volume_is_ours_closed_and_open(
    machine: Callable[..., Programs],
    children: list[dict[str, Any]],
    segment: dict[str, Any],
    config: dict[str, Any],
    mode: str,
) -> None:
    dump = header(segments={"0": {"offset": "16777216", **segment}}, config=config)
    machine({**DATA, "children": children}, blkid=(0, OURS), dump=dump)
    found = disks.judge(disks.find("DATA1"), "airgap-data")
    assert found == Header(Mode(mode), 16 << 20, segment.get("opal_segment_number"), (0,))


@pytest.mark.parametrize(
    ("device", "blkid", "said"),
    [
        ({**DATA, "mountpoints": ["/mnt"]}, (2, ""), "mounted at /mnt"),
        ({**DATA, "mountpoints": ["[SWAP]"]}, (2, ""), r"mounted at \[SWAP\]"),
        ({**DATA, "children": [{**PARTITION, "mountpoints": ["/home"]}]}, (2, ""), "mounted at /home"),
        ({**DATA, "children": [PARTITION]}, (0, "PTTYPE=gpt\n"), "partitions or volumes /dev/vdb1"),
        (
            {**DATA, "children": [{**OPENED, "path": "/dev/mapper/other", "mountpoints": [None]}]},
            (0, OURS),
            "/dev/mapper/other",
        ),
        ({**DATA, "ro": True}, (2, ""), "write-protected"),
        (DATA, (0, "TYPE=ext4\nLABEL=photos\n"), "content .TYPE ext4, LABEL photos"),
        (DATA, (0, "PTTYPE=dos\n"), "content .PTTYPE dos"),
        (DATA, (0, "TYPE=crypto_LUKS\nVERSION=2\nLABEL=other\n"), "content .TYPE crypto_LUKS, VERSION 2, LABEL other"),
        (DATA, (0, "TYPE=crypto_LUKS\nVERSION=1\nLABEL=airgap-data\n"), "VERSION 1"),
        (DATA, (8, ""), "content .TYPE ambiguous"),
    ],
)
def test_judge_refuses(
    machine: Callable[..., Programs], device: dict[str, Any], blkid: tuple[int, str], said: str
) -> None:
    machine(device, blkid=blkid)
    with pytest.raises(TargetRefused, match=said) as caught:
        disks.judge(disks.find("DATA1"), "airgap-data")
    assert "/dev/vdb" in caught.value.message
    assert "DATA1" in caught.value.message
    assert caught.value.hint


def test_judge_refuses_the_system_disk(machine: Callable[..., Programs]) -> None:
    machine(SYSTEM)
    with pytest.raises(TargetRefused, match="mounted at /"):
        disks.judge(disks.find("SYSTEM1"), "airgap-data")


SLOT = {"type": "luks2", "area": {"encryption": "aes-xts-plain64"}, "kdf": {"type": "argon2id", "memory": 262144}}


@pytest.mark.parametrize(
    "dump",
    [
        header(segments={"0": {"type": "crypt", "encryption": "cipher_null-ecb"}}),
        header(segments={"0": {"type": "linear"}}),
        header(segments={str(n): {"type": "crypt", "encryption": "aes-xts-plain64"} for n in range(2)}),
        header(config={"requirements": {"mandatory": ["online-reencrypt"]}}),
        header(keyslots={"0": {**SLOT, "area": {"encryption": "cipher_null-ecb"}}}),
        header(keyslots={"0": {**SLOT, "kdf": {"type": "pbkdf2", "iterations": 1, "memory": 0}}}),
        header(keyslots={"0": {**SLOT, "kdf": {"type": "argon2id", "memory": 4194304}}}),
        header(keyslots={"0": SLOT, "1": {**SLOT, "type": "reencrypt"}}),
        header(segments={"0": {"type": "hw-opal", "encryption": "cipher_null-ecb", **OPAL}}),
        header(segments={"0": {"type": "hw-opal-crypt", "encryption": "cipher_null-ecb", **OPAL}}),
        header(config={"requirements": {"mandatory": ["opal", "online-reencrypt"]}}),
    ],
)
def test_judge_refuses_our_label_over_a_header_that_we_do_not_write(
    machine: Callable[..., Programs], dump: str
) -> None:
    machine(DATA, blkid=(0, OURS), dump=dump)
    with pytest.raises(IntegrityFailure, match="LUKS2 header"):
        disks.judge(disks.find("DATA1"), "airgap-data")


def test_what_cannot_be_read_is_not_called_blank(tmp_path: Path) -> None:
    """libblkid ends alike for a blank disk and for one that fails; /proc/self/mem fails at its first byte."""
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(8 << 20))
    assert disks.probe(blank) == {}
    with pytest.raises(DriveFailed, match=r"can be read, found: Input/output error") as caught:
        disks.require_readable(Path("/proc/self/mem"))
    assert caught.value.hint
    with pytest.raises(DriveFailed, match="No such file"):
        disks.probe(tmp_path / "none")


@pytest.mark.parametrize("at", [0, 3 << 20])
def test_a_bad_sector_anywhere_among_the_signatures_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8 << 20))
    ordinary = os.pread

    def fails(handle: int, length: int, offset: int) -> bytes:
        if offset <= at < offset + length:
            raise OSError(failure, os.strerror(failure))
        return ordinary(handle, length, offset)

    monkeypatch.setattr(os, "pread", fails)
    failure = errno.EIO
    with pytest.raises(DriveFailed):
        disks.probe(disk)
    failure = errno.ENODATA  # a drive that keeps its blocks: `kinds` says what it is
    assert disks.probe(disk) == {}
