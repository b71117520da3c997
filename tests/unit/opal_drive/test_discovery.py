"""Level 0 Discovery, field by field."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.opal_drive.client import InProcess
from tests.opal_drive.faults import Fault

from .conftest import Bench, own

TPER, LOCKING, GEOMETRY, DATA_STORE, OPAL_2, BLOCK_SID, DATA_REMOVAL = 1, 2, 3, 0x202, 0x203, 0x402, 0x404


def test_header_and_descriptors(bench: Bench) -> None:
    data = InProcess(bench.drive).security_receive(1, 1, 512)
    length, revision = struct.unpack_from(">II", data)
    assert revision == 1
    assert not any(data[8:48])
    assert not any(data[length + 4 :])
    codes, at = [], 48
    while at < length + 4:
        code, version, size = struct.unpack_from(">HBB", data, at)
        assert size % 4 == 0
        codes.append((code, version))
        at += 4 + size
    assert at == length + 4
    versions = [(TPER, 0x10), (LOCKING, 0x30), (GEOMETRY, 0x10), (DATA_STORE, 0x10), (OPAL_2, 0x22)]
    assert codes == [*versions, (DATA_REMOVAL, 0x20), (BLOCK_SID, 0x20)]


def test_a_new_drive(bench: Bench) -> None:
    features = bench.host.discovery()
    assert features[TPER] == bytes([0x11]) + bytes(11)
    assert features[LOCKING] == bytes([0b00001001]) + bytes(11)
    assert features[GEOMETRY] == struct.pack(">B7xIQQ", 1, 512, 8, 0)
    assert features[DATA_STORE] == struct.pack(">2xHII", 1, 10 << 20, 1)
    assert features[OPAL_2] == struct.pack(">HHBHHBB5x", 0x1000, 1, 0, 4, 9, 0, 0)
    assert features[BLOCK_SID] == bytes(12)
    assert features[DATA_REMOVAL] == bytes([0, 0, 4]) + bytes(29)


def test_an_owned_drive_says_so_and_when_it_is_locked(bench: Bench) -> None:
    own(bench)
    assert bench.host.discovery()[BLOCK_SID][0] == 1
    assert bench.host.discovery()[LOCKING][0] == 0b00001011
    bench.drive.power_cycle()
    assert bench.host.discovery()[LOCKING][0] == 0b00001111


def test_4kn_geometry(make_bench: Callable[..., Bench]) -> None:
    geometry = make_bench(Fault.FOUR_KN).host.discovery()[GEOMETRY]
    assert geometry == struct.pack(">B7xIQQ", 1, 4096, 1, 0)


def test_bogus_geometry_makes_no_sense(make_bench: Callable[..., Bench]) -> None:
    _align, size, granularity, lowest = struct.unpack(">B7xIQQ", make_bench(Fault.BOGUS_GEOMETRY).host.discovery()[3])
    assert (size, granularity) == (1, 0)
    assert lowest > 16 << 20


def test_misaligned_geometry_is_missed_by_1_mib_boundaries(make_bench: Callable[..., Bench]) -> None:
    granularity = struct.unpack(">B7xIQQ", make_bench(Fault.MISALIGNED).host.discovery()[3])[2]
    assert 2048 % granularity


@pytest.mark.parametrize(("fault", "code"), [(Fault.PYRITE, 0x303), (Fault.PYRITE_1, 0x302)])
def test_pyrite_neither_encrypts_nor_has_a_geometry(make_bench: Callable[..., Bench], fault: Fault, code: int) -> None:
    features = make_bench(fault).host.discovery()
    assert features[code] == struct.pack(">HH5xBB5x", 0x1000, 1, 0, 0)
    assert not {GEOMETRY, OPAL_2, 0x200, 0x302, 0x303} & set(features) - {code}
    assert features[LOCKING][0] & 0x08 == 0


def test_no_shadow_mbr_is_said(make_bench: Callable[..., Bench]) -> None:
    assert make_bench(Fault.NO_SHADOW_MBR).host.discovery()[LOCKING][0] & 0x40


def test_block_sid_is_said(make_bench: Callable[..., Bench]) -> None:
    assert make_bench(Fault.BLOCK_SID).host.discovery()[BLOCK_SID][0] == 2
