"""Level 0 Discovery: what real drives say, as their owners published it, and what no drive should say.

tests/data/discovery holds the bytes and where they come from. Nobody published those of a Pyrite, Opalite, Ruby or
Key per I/O drive in a place that we found: theirs are built here by the specification alone.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.drive import discovery
from appliance.drive.discovery import BLOCK_SID, CLASSES, DATA_REMOVAL, LOCKING, OPAL_2, Discovery, parse
from appliance.drive.kinds import Kind, judge
from custody.errors import DriveFailed

DATA = Path(__file__).parents[3] / "data/discovery"
#: File; classes; ComID of Opal 2; activated, locked, shadowed; SID set, SID blocked; kind; part of the reason.
DRIVES = [
    ("crucial-m550", ("Opal 2",), 0x1000, (1, 1, 0), (None, None), Kind.OWNED, "owned, locked"),
    ("crucial-mx200", ("Opal 2",), 0x1000, (1, 0, 0), (None, None), Kind.OWNED, "owned"),
    ("crucial-mx200-new", ("Opal 2",), 0x1000, (0, 0, 0), (None, None), Kind.FACTORY, "factory"),
    ("crucial-mx500", ("Opal 2",), 0x0888, (1, 0, 0), (True, False), Kind.OWNED, "owned"),
    ("samsung-850-evo", ("Opal 1", "Opal 2"), 0x1004, (1, 1, 1), (None, None), Kind.OWNED, "locked, shadow MBR on"),
    ("samsung-970-evo-plus", ("Opal 2",), 0x1004, (0, 0, 0), (False, True), Kind.SID_BLOCKED, "BIOS blocked SID"),
    ("samsung-pm810", ("Opal 1",), 0, (1, 1, 1), (None, None), Kind.UNSUPPORTED, "Opal 1, not Opal 2"),
    ("samsung-t7-shield", ("Opal 2",), 0x1004, (1, 1, 1), (True, False), Kind.OWNED, "locked, shadow MBR on"),
    ("seagate-st9300503ss", ("Enterprise",), 0, (1, 1, 0), (None, None), Kind.UNSUPPORTED, "Enterprise, not Opal 2"),
    ("unnamed-nvme", ("Opal 2",), 0x07FE, (0, 0, 0), (None, None), Kind.FACTORY, "factory"),
    ("unnamed-sata", ("Opal 2",), 0x07FE, (1, 0, 0), (None, None), Kind.OWNED, "owned"),
    ("wd-sn730", ("Opal 2",), 0x7FFE, (0, 0, 0), (False, False), Kind.FACTORY, "factory"),
]
_HEADER_BYTES = 48


def recorded(name: str) -> bytes:
    """The bytes of a file; the kernel's buffer is longer than what a drive says."""
    lines = (DATA / f"{name}.txt").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#"))).ljust(2048, b"\0")


def build(*features: tuple[int, bytes]) -> bytes:
    """An answer with these features: code and what follows the length."""
    body = b"".join(struct.pack(">HBB", code, 0x10, len(data)) + data for code, data in features)
    return struct.pack(">II40x", 44 + len(body), 1) + body


def locking(flags: int) -> tuple[int, bytes]:
    return LOCKING, bytes([flags]) + bytes(11)


@pytest.mark.parametrize(
    ("name", "classes", "com_id", "state", "sid", "kind", "why"), DRIVES, ids=lambda v: str(v)[:20]
)
def test_real_drives(
    name: str,
    classes: tuple[str, ...],
    com_id: int,
    state: tuple[int, int, int],
    sid: tuple[bool | None, bool | None],
    kind: Kind,
    why: str,
) -> None:
    found = parse(recorded(name))
    assert (found.classes, found.com_id) == (classes, com_id)
    assert (found.activated, found.locked, found.shadowed) == tuple(map(bool, state))
    assert (found.sid_is_set, found.sid_blocked) == sid
    assert found.supported
    assert found.encrypts
    assert found.sid_is_msid is ("Opal 2" in classes)
    assert not found.removal_interrupted
    judged = judge(found)
    assert judged.kind is kind
    assert why in judged.why


def test_every_recorded_drive_is_judged_and_has_its_source() -> None:
    files = sorted(DATA.glob("*.txt"))
    assert {file.stem for file in files} == {name for name, *_ in DRIVES}
    for file in files:
        head = file.read_text().splitlines()[:3]
        assert [line.split(":")[0] for line in head] == ["# drive", "# source", "# bytes"]


@pytest.mark.parametrize("name", [name for name, *_ in DRIVES])
def test_a_real_answer_cut_off_at_any_byte_is_refused(name: str) -> None:
    whole = recorded(name)
    length = 4 + int.from_bytes(whole[:4], "big")
    for size in range(length):
        with pytest.raises(DriveFailed, match="Level 0 Discovery"):
            parse(whole[:size])
    assert parse(whole[:length]) == parse(whole)


@pytest.mark.parametrize("name", [name for name, *_ in DRIVES])
def test_a_real_answer_that_says_less_than_it_has_is_refused_or_has_fewer_features(name: str) -> None:
    whole = recorded(name)
    length = int.from_bytes(whole[:4], "big")
    for said in range(length):
        try:
            found = parse(struct.pack(">I", said) + whole[4:])
        except DriveFailed:
            continue
        assert set(found.classes) <= set(parse(whole).classes)


@pytest.mark.parametrize(("code", "kind"), [
    (0x0302, Kind.PYRITE), (0x0303, Kind.PYRITE), (0x0301, Kind.UNSUPPORTED), (0x0304, Kind.UNSUPPORTED),
    (0x0305, Kind.UNSUPPORTED),
])  # fmt: skip
def test_classes_of_which_nobody_published_a_drive(code: int, kind: Kind) -> None:
    encrypts = 0 if kind is Kind.PYRITE else 0x08
    ssc = struct.pack(">HH5xBB5x", 0x1000, 1, 0, 0)
    found = parse(build((1, bytes([0x11]) + bytes(11)), locking(0x01 | encrypts), (code, ssc)))
    assert found.classes == (CLASSES[code],)
    assert judge(found).kind is kind
    assert CLASSES[code].split()[0] in judge(found).why or kind is Kind.PYRITE


def test_a_pyrite_drive_that_says_opal_too_is_pyrite() -> None:
    ssc = struct.pack(">HH5xBB5x", 0x1000, 1, 0, 0)
    assert judge(parse(build(locking(0x09), (OPAL_2, ssc), (0x0303, ssc)))).kind is Kind.PYRITE


@settings(max_examples=150, deadline=None)
@given(
    flags=st.integers(0, 255),
    com_id=st.integers(0, 0xFFFF),
    initial_pin=st.integers(0, 255),
    sid=st.none() | st.integers(0, 255),
    removal=st.none() | st.integers(0, 255),
    others=st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=4, unique_by=lambda f: f[0]),
    order=st.randoms(),
)
def test_what_a_drive_says_is_what_is_read(
    flags: int,
    com_id: int,
    initial_pin: int,
    sid: int | None,
    removal: int | None,
    others: list[tuple[int, bytes]],
    order: random.Random,
) -> None:
    known = {LOCKING, OPAL_2, BLOCK_SID, DATA_REMOVAL}
    features = [locking(flags), (OPAL_2, struct.pack(">HHBHHBB5x", com_id, 1, 0, 4, 9, initial_pin, 0))]
    if sid is not None:
        features.append((BLOCK_SID, bytes([sid]) + bytes(11)))
    if removal is not None:
        features.append((DATA_REMOVAL, bytes([0, removal]) + bytes(30)))
    features += [(code, body) for code, body in others if code not in known and code not in CLASSES]
    order.shuffle(features)
    assert parse(build(*features).ljust(2048, b"\0")) == Discovery(
        com_id=com_id,
        classes=("Opal 2",),
        supported=bool(flags & 1),
        activated=bool(flags & 2),
        locked=bool(flags & 4),
        encrypts=bool(flags & 8),
        shadowed=flags & 0x30 == 0x10,
        sid_is_set=None if sid is None else bool(sid & 1),
        sid_blocked=None if sid is None else bool(sid & 2),
        sid_is_msid=initial_pin == 0,
        removal_interrupted=removal is not None and bool(removal & 2),
    )


@pytest.mark.parametrize("code", [1, LOCKING, OPAL_2, BLOCK_SID, 0xC001])
def test_a_feature_that_is_told_twice_is_refused(code: int) -> None:
    feature = (code, bytes(16))
    with pytest.raises(DriveFailed, match=f"{code:#06x} twice"):
        parse(build(feature, (4, bytes(4)), feature))


@pytest.mark.parametrize("code", [LOCKING, OPAL_2, BLOCK_SID, DATA_REMOVAL])
@pytest.mark.parametrize("length", [0, 1])
def test_a_feature_too_short_for_what_it_should_say_is_refused(code: int, length: int) -> None:
    with pytest.raises(DriveFailed, match="cut off"):
        parse(build((code, bytes(length))))


@pytest.mark.parametrize("length", range(10))
def test_an_opal_feature_that_ends_before_the_pin_is_not_taken_for_a_new_drive(length: int) -> None:
    try:
        found = parse(build(locking(0x09), (OPAL_2, bytes(length))))
    except DriveFailed:
        return
    assert judge(found).kind is not Kind.FACTORY


@pytest.mark.parametrize("length", [0, 1, 2])
def test_an_unknown_feature_may_be_as_short_as_it_likes(length: int) -> None:
    assert parse(build((0x0406, bytes(length)), locking(0x01))).supported


@pytest.mark.parametrize("said", [0, 43, 2045, 0xFFFFFFFF])
def test_a_length_that_lies_is_refused(said: int) -> None:
    with pytest.raises(DriveFailed, match="a length of"):
        parse(struct.pack(">I", said) + bytes(2044))


def test_no_features_at_all_is_no_drive_for_us() -> None:
    assert judge(parse(build())).kind is Kind.UNSUPPORTED


def test_more_than_any_drive_has_is_refused() -> None:
    with pytest.raises(DriveFailed):
        parse(struct.pack(">II40x", 8188, 1) + bytes(8192 - 48))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=252).map(lambda body: struct.pack(">I", len(body)) + body))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert isinstance(parse(data), Discovery)
    except DriveFailed as error:
        assert error.message.startswith("Level 0 Discovery")
        assert error.hint


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([name for name, *_ in DRIVES]), st.integers(0, 250), st.integers(0, 255))
def test_one_wrong_byte_never_makes_an_owned_drive_ours_without_saying_so(name: str, at: int, value: int) -> None:
    data = bytearray(recorded(name))
    data[at] = value
    try:
        found = discovery.parse(bytes(data))
    except DriveFailed:
        return
    if judge(found).kind is Kind.FACTORY:
        assert "Opal 2" in found.classes
        assert found.supported
        assert found.encrypts
        assert not found.activated
        assert not found.sid_is_set
        assert not found.sid_blocked
