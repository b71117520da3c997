"""Sessions as SID: with the emulated drive, and with drives that lie, fall silent or talk without end.

Tokens are checked against the emulated drive's own codec, which shares no line with ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.drive import tcg
from appliance.drive.tcg import Mark
from custody.errors import DriveFailed
from tests.opal_drive import codec, uids
from tests.opal_drive.faults import Fault
from tests.opal_drive.packets import MethodCall, Packet, Status, result_payload
from tests.unit.appliance.drive.emulated import EmulatedSed, Machine

COM_ID = 0x1000
OPENED = MethodCall(uids.SESSION_MANAGER, uids.SYNC_SESSION, [1, 0x1001]).pack()
DONE = result_payload([], Status.SUCCESS)
CLOSED = b"\xfa"
_BYTES = 2048


class Says:
    """A drive that gives these answers, whatever it hears, and the last one for ever."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = [*answers]
        self.heard: list[bytes] = []
        self.asked = 0

    def send(self, protocol: int, com_id: int, data: bytes) -> None:
        assert (protocol, com_id, len(data) % 512) == (1, COM_ID, 0)
        self.heard.append(data)

    def receive(self, protocol: int, com_id: int, length_bytes: int) -> bytes:
        assert (protocol, com_id) == (1, COM_ID)
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer[:length_bytes].ljust(length_bytes, b"\0")


def packed(payload: bytes) -> bytes:
    return Packet(COM_ID, 0x1001, 1, payload).pack()


def busy(outstanding: int = 1) -> bytes:
    return struct.pack(">4xHHIII", COM_ID, 0, outstanding, 0, 0)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting costs nothing here, and is counted."""
    waited: list[float] = []
    monkeypatch.setattr("appliance.drive.tcg.time.sleep", waited.append)
    return waited


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# Tokens


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 63) | st.binary(max_size=2047) | st.sampled_from(Mark), max_size=8))
def test_what_is_encoded_comes_back(tokens: list[tcg.Token]) -> None:
    assert list(tcg._decode(tcg._encode(*tokens))) == tokens


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.binary(max_size=2047), max_size=6))
@example([63, 64, 255, 256, bytes(15), bytes(16), bytes(2047)])
def test_what_the_drive_encodes_is_read(values: list[int | bytes]) -> None:
    assert list(tcg._decode(codec.encode(*values))) == values
    assert list(tcg._decode(codec.encode(list(values)))) == [Mark.LIST, *values, Mark.END_LIST]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 63) | st.binary(max_size=60), max_size=6))
def test_what_we_encode_the_drive_reads(values: list[int | bytes]) -> None:
    assert codec.decode(tcg._encode(*values)) == values


def test_empty_atoms_between_tokens_are_padding() -> None:
    assert list(tcg._decode(bytes.fromhex("ff 01 ffff a2 abcd ff"))) == [1, b"\xab\xcd"]


@pytest.mark.parametrize("stream", [
    "40", "7f",  # signed tiny atoms: nothing that is asked here answers with one
    "e0", "e2000001aa", "e4", "ef",  # long atoms, more than the buffer; reserved
    "f4", "f7", "fb", "fc", "fd", "fe",  # reserved, transactions
    "81", "82aa", "a1", "afaa", "8f", "a2ff",  # short atoms cut off
    "c0", "c1", "d0", "d002aa", "d7ff", "c002aa",  # medium ones, in the header too
    "80", "c000",  # numbers of no bytes
])  # fmt: skip
def test_tokens_that_make_no_sense_are_refused(stream: str) -> None:
    with pytest.raises(DriveFailed, match="TCG session"):
        list(tcg._decode(bytes.fromhex(stream)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_random_tokens_are_read_or_refused(stream: bytes) -> None:
    try:
        tokens = list(tcg._decode(stream))
    except DriveFailed:
        return
    assert all(isinstance(token, int | bytes | Mark) for token in tokens)


# With the emulated drive


def sed(machine: Machine) -> EmulatedSed:
    return EmulatedSed(machine.drive)


def owned(machine: Machine, pin: bytes = b"sid") -> EmulatedSed:
    found = sed(machine)
    found.take_ownership(pin)
    return found


def test_a_right_pin_opens_and_changes_nothing(machine: Machine) -> None:
    drive = owned(machine)
    before = machine.drive.state.admin.changes
    tcg.check_sid(drive, COM_ID, b"sid")
    assert machine.drive.state.admin.changes == before
    tcg.check_sid(drive, COM_ID, b"sid")  # the session before is closed: the drive has one alone


def test_a_wrong_pin_is_refused_and_counted(machine: Machine) -> None:
    drive = owned(machine)
    for _ in range(5):
        with pytest.raises(tcg.Refused) as caught:
            tcg.check_sid(drive, COM_ID, b"wrong")
        assert caught.value.status == Status.NOT_AUTHORIZED
    with pytest.raises(tcg.Refused) as caught:
        tcg.check_sid(drive, COM_ID, b"sid")
    assert caught.value.status == Status.AUTHORITY_LOCKED_OUT
    assert "sid" not in str(caught.value)


def test_lockout_and_block_are_told(tmp_path: Path) -> None:
    for fault, status in ((Fault.LOCKOUT, Status.AUTHORITY_LOCKED_OUT), (Fault.BLOCK_SID, Status.NOT_AUTHORIZED)):
        (tmp_path / fault.value).mkdir()
        machine = Machine(tmp_path / fault.value, (fault,))
        with pytest.raises(tcg.Refused) as caught:
            tcg.check_sid(sed(machine), COM_ID, machine.drive.state.identity.msid)
        assert caught.value.status == status


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=st.binary(min_size=1, max_size=32), new=st.binary(min_size=1, max_size=32))
def test_any_pin_that_a_drive_keeps_can_be_set(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes
) -> None:
    drive = owned(Machine(tmp_path_factory.mktemp("drive")), old)
    tcg.set_sid(drive, COM_ID, old, new)
    tcg.check_sid(drive, COM_ID, new)
    if old != new:
        with pytest.raises(tcg.Refused):
            tcg.check_sid(drive, COM_ID, old)


def test_with_a_wrong_old_pin_nothing_is_set(machine: Machine) -> None:
    drive = owned(machine)
    with pytest.raises(tcg.Refused):
        tcg.set_sid(drive, COM_ID, b"wrong", b"new")
    tcg.check_sid(drive, COM_ID, b"sid")


def test_a_pin_that_the_drive_refuses_leaves_no_session_open(machine: Machine) -> None:
    drive = owned(machine)
    with pytest.raises(tcg.Refused) as caught:
        tcg.set_sid(drive, COM_ID, b"sid", bytes(33))
    assert caught.value.status == Status.INVALID_PARAMETER
    tcg.check_sid(drive, COM_ID, b"sid")


def test_a_session_that_somebody_left_open_is_told(machine: Machine) -> None:
    drive = owned(machine)
    drive.host.start(uids.ADMIN_SP)
    with pytest.raises(tcg.Refused) as caught:
        tcg.check_sid(drive, COM_ID, b"sid")
    assert caught.value.status == Status.NO_SESSIONS_AVAILABLE


# With drives that do not play by the rules

TALKS: list[Callable[[Says], None]] = [
    lambda drive: tcg.check_sid(drive, COM_ID, b"pin"),
    lambda drive: tcg.set_sid(drive, COM_ID, b"old", b"new"),
]


@pytest.mark.parametrize("talk", TALKS)
def test_a_drive_that_plays_by_the_rules(talk: Callable[[Says], None], pauses: list[float]) -> None:
    answers = [OPENED, DONE, CLOSED] if talk is TALKS[1] else [OPENED, CLOSED]
    drive = Says(*(answer for payload in answers for answer in (busy(), busy(), packed(payload))))
    talk(drive)
    assert len(drive.heard) == len(answers)
    assert len(pauses) == 2 * len(answers)
    # Our number with every packet of the session, the drive's after it told it.
    assert [struct.unpack_from(">II", data, 20) for data in drive.heard[1:]] == [(0x1001, 1)] * (len(answers) - 1)


@pytest.mark.parametrize("talk", TALKS)
def test_a_drive_that_is_never_ready_is_given_up(talk: Callable[[Says], None], pauses: list[float]) -> None:
    for outstanding in (1, 2**32 - 1):
        drive = Says(busy(outstanding))
        with pytest.raises(DriveFailed, match="no answer in time"):
            talk(drive)
        assert drive.asked < 1000
    assert sum(pauses) < 60


@pytest.mark.parametrize("talk", TALKS)
def test_a_drive_that_says_nothing_is_told(talk: Callable[[Says], None]) -> None:
    with pytest.raises(DriveFailed, match="no answer"):
        talk(Says(b""))


@pytest.mark.parametrize(("com_packet", "packet", "sub"), [
    (0, 0, 1), (1, 0, 0), (35, 0, 0), (36, 12, 1), (64, 40, 2**32 - 1), (2**32 - 1, 40, 2000),
    (2**32 - 1, 2**32 - 1, 2**32 - 1), (2028, 2000, 1993),
])  # fmt: skip
def test_lengths_that_lie_are_refused(com_packet: int, packet: int, sub: int) -> None:
    answer = struct.pack(">4xHHIII", COM_ID, 0, 0, 0, com_packet)
    answer += struct.pack(">IIIHHII", 0, 0, 0, 0, 0, 0, packet) + struct.pack(">6xHI", 0, sub)
    with pytest.raises(DriveFailed):
        tcg.check_sid(Says(answer.ljust(_BYTES, b"\xa5")), COM_ID, b"pin")


@pytest.mark.parametrize("talk", TALKS)
def test_an_answer_cut_off_at_any_byte_is_never_success(talk: Callable[[Says], None]) -> None:
    for size in range(len(OPENED)):
        with pytest.raises(DriveFailed):
            talk(Says(packed(OPENED[:size]), packed(DONE), packed(CLOSED)))
    if talk is TALKS[1]:
        for size in range(len(DONE) - 1 - 2):  # the last two numbers of a status list are reserved
            with pytest.raises(DriveFailed):
                talk(Says(packed(OPENED), packed(DONE[:size]), packed(CLOSED)))


@pytest.mark.parametrize("payload", [
    tcg._encode(Mark.END_OF_DATA, 5, 0),  # no list around the status
    tcg._encode(Mark.END_OF_DATA, Mark.LIST, b"\0", 0, 0, Mark.END_LIST),
    tcg._encode(Mark.END_OF_DATA, Mark.LIST, Mark.END_LIST),
    tcg._encode(Mark.END_OF_DATA),
    tcg._encode(Mark.LIST, 0, 0, 0, Mark.END_LIST),
    b"",
])  # fmt: skip
def test_an_answer_without_a_status_is_never_success(payload: bytes) -> None:
    with pytest.raises(DriveFailed):
        tcg.set_sid(Says(packed(OPENED), packed(payload), packed(CLOSED)), COM_ID, b"old", b"new")


@pytest.mark.parametrize("number", [2**32, 2**64 - 1, b"\0\0\x10\x01"])
def test_a_session_number_that_is_none_is_refused(number: int | bytes) -> None:
    answer = MethodCall(uids.SESSION_MANAGER, uids.SYNC_SESSION, [1, number]).pack()
    with pytest.raises(DriveFailed, match="session number"):
        tcg.check_sid(Says(packed(answer), packed(CLOSED)), COM_ID, b"pin")


@pytest.mark.parametrize("status", [*range(1, 0x14), 0x3F])
def test_every_status_but_success_refuses(status: int) -> None:
    with pytest.raises(tcg.Refused) as caught:
        tcg.check_sid(
            Says(packed(tcg._encode(Mark.END_OF_DATA, Mark.LIST, status, 0, 0, Mark.END_LIST))), COM_ID, b"pin"
        )
    assert caught.value.status == status


_TOKENS = st.lists(st.integers(0, 63) | st.binary(max_size=20) | st.sampled_from(Mark), max_size=14).map(
    lambda tokens: tcg._encode(*tokens)
)
_ANSWERS = st.lists(
    st.sampled_from([packed(OPENED), packed(DONE), packed(CLOSED), busy(), b""])
    | st.binary(max_size=200)
    | st.binary(min_size=20, max_size=_BYTES).map(lambda body: busy(0)[:16] + struct.pack(">I", len(body)) + body)
    | (_TOKENS | st.binary(max_size=120)).map(packed),
    min_size=1,
    max_size=5,
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(answers=_ANSWERS, talk=st.sampled_from(TALKS))
def test_whatever_a_drive_answers_ends_in_one_of_three_ways(answers: list[bytes], talk: Callable[[Says], None]) -> None:
    drive = Says(*answers)
    try:
        talk(drive)
    except (DriveFailed, tcg.Refused) as error:
        assert "old" not in str(error)
    # A talk is three sends at the most: no answer makes us repeat one.
    assert len(drive.heard) <= 3


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 150), st.integers(0, 255), st.sampled_from([OPENED, DONE]))
def test_one_wrong_byte_ends_in_one_of_three_ways(at: int, value: int, payload: bytes) -> None:
    answer = bytearray(packed(payload).ljust(_BYTES, b"\0"))
    answer[at] = value
    answers = [bytes(answer), packed(DONE)] if payload is OPENED else [packed(OPENED), bytes(answer)]
    try:
        tcg.set_sid(Says(*answers, packed(CLOSED)), COM_ID, b"old", b"new")
    except (DriveFailed, tcg.Refused):
        return


def test_pins_are_padded_and_never_cut(machine: Machine) -> None:
    drive = Says(*repeat(packed(tcg._encode(Mark.END_OF_DATA, Mark.LIST, 1, 0, 0, Mark.END_LIST)), 2))
    pin = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    with pytest.raises(tcg.Refused):
        tcg.check_sid(drive, COM_ID, pin)
    (sent,) = drive.heard
    assert sent.count(pin) == 1
    assert sent[sent.index(pin) - 2 :][:2] == bytes([0xD0, 32])
