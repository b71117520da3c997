"""The image and the state file: nothing plain, nothing half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.opal_drive import uids
from tests.opal_drive.drive import Drive, OutOfRange
from tests.opal_drive.faults import Fault, model
from tests.opal_drive.media import Media, _keystream
from tests.opal_drive.state import FileStore, MemoryStore, State, StateError

from .conftest import Bench, own, stored

PATTERN = b"a known plain pattern"
MODEL = model((), 1 << 20)


def test_the_image_never_holds_a_plain_pattern(bench: Bench) -> None:
    own(bench)
    data = (PATTERN * 200)[:4096]
    for block in (0, 2048, 6140, bench.model.blocks - 8):
        bench.drive.write(block, data)
        assert bench.drive.read(block, 8) == data
    with bench.host.start(uids.LOCKING_SP, uids.admin(1), b"admin") as session:
        session.set_bytes(uids.DATA_STORE_TABLE, 5, PATTERN)
        session.set_bytes(uids.MBR_TABLE, 5, PATTERN)
    raw = stored(bench.image)
    assert any(raw)
    assert PATTERN[:8] not in raw


def test_equal_blocks_differ_in_the_image(bench: Bench) -> None:
    bench.drive.write(0, bytes([7]) * 1024)
    assert bench.drive.peek(0, 512) != bench.drive.peek(512, 512)


def test_no_keystream_comes_twice_in_the_image(bench: Bench) -> None:
    """Looks where one or two of a unit's three rows come again."""
    units = (0, 1, 60, 61, 66, 67, 70, 71, 61 * 67, 61 * 71, 67 * 71)
    key = bench.drive.state.key(0)
    assert key is not None
    streams = [_keystream(key, unit) for unit in units]
    assert len(set(streams)) == len(units)
    assert not {_keystream(b"another", unit) for unit in units} & set(streams)


@pytest.mark.parametrize(("block", "count"), [(0, 1), (7, 1), (5, 20), (3, 5), (8, 8), (15, 2)])
def test_blocks_come_back_whatever_they_were_written_with(bench: Bench, block: int, count: int) -> None:
    data = bytes(range(256)) * 2 * 32
    bench.drive.write(0, data)
    part = bytes(reversed(range(256))) * 2 * count
    bench.drive.write(block, part)
    assert bench.drive.read(block, count) == part
    assert bench.drive.read(0, 32) == data[: block * 512] + part + data[(block + count) * 512 :]


def test_blocks_that_were_never_written_read_as_zeros(bench: Bench) -> None:
    assert bench.drive.read(100, 8) == bytes(4096)
    bench.drive.write(100, bytes(512))
    assert any(bench.drive.peek(100 * 512, 512))
    assert bench.drive.read(100, 1) == bytes(512)
    bench.drive.write_zeroes(100, 1)
    assert not any(bench.drive.peek(100 * 512, 512))


def test_the_image_stays_sparse(bench: Bench) -> None:
    bench.drive.write_zeroes(0, 8192)
    assert bench.image.stat().st_blocks * 512 < 1 << 20


def test_blocks_off_the_drive_are_refused(bench: Bench) -> None:
    for block, count in ((bench.model.blocks, 1), (bench.model.blocks - 1, 2), (2**63, 1)):
        with pytest.raises(OutOfRange):
            bench.drive.read(block, count)
        with pytest.raises(OutOfRange):
            bench.drive.write(block, bytes(count * 512))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=700)), max_size=5))
def test_bytes_of_tables_come_back(tmp_path: Path, writes: list[tuple[int, bytes]]) -> None:
    media = Media(tmp_path / "tables.img", MODEL)
    media.erase_tables()
    expected = bytearray(6000)
    for at, data in writes:
        media.write_bytes(media.data_store_start + at, data, b"key")
        expected[at : at + len(data)] = data
    assert media.read_bytes(media.data_store_start, 6000, b"key") == expected
    media.close()


def test_state_comes_back_from_its_file(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "drive.state")
    first = State(store, MODEL, "SERIAL")
    first.admin.set(uids.C_PIN_SID, {3: b"\xff pin"})
    first.admin.set(uids.ace(1), {3: [1, [b"x"]]})
    assert State(store, MODEL).admin.changes == {}
    first.commit()
    second = State(store, MODEL)
    assert second.admin.changes == first.admin.changes
    assert (second.identity, second.keys, second.table_key) == (first.identity, first.keys, first.table_key)
    assert (tmp_path / "drive.state").stat().st_mode & 0o777 == 0o600


def test_a_half_written_state_is_never_the_state(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "drive.state")
    identity = State(store, MODEL).identity
    (tmp_path / ".drive.state.part").write_text('{"version": 1, "keys": [')
    state = State(store, MODEL)
    assert state.identity == identity
    state.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["drive.state"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"admin"', '"amdin"'),
        lambda text: text.replace('"msid"', '"disk"'),
        lambda text: json.dumps({**json.loads(text), "keys": ["zz"]}),
        lambda text: json.dumps({**json.loads(text), "admin": {"00": {"3": "f0"}}}),
    ],
)
def test_a_damaged_state_is_refused(damage: object) -> None:
    store = MemoryStore()
    State(store, MODEL)
    assert callable(damage)
    store.text = damage(store.text)
    with pytest.raises(StateError):
        State(store, MODEL)


def test_an_image_of_another_model_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    State(store, MODEL)
    other = model((Fault.FOUR_KN,), 1 << 20)
    with pytest.raises(StateError, match="asked for"):
        Drive(store, Media(tmp_path / "x.img", other), other)
