"""Tokens and packets: what is encoded comes back, and nothing but `CodecError` comes of bytes that make no sense."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.opal_drive.codec import CodecError, Control, Name, Value, decode, encode, named
from tests.opal_drive.packets import MethodCall, Packet, Status, method_call, read_result, result_payload, unpack

_ATOMS = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.integers(2040, 2056).map(bytes)
VALUES = st.recursive(_ATOMS, lambda inner: st.lists(inner, max_size=4) | st.builds(Name, _ATOMS, inner), max_leaves=8)
_NUMBER = st.integers(0, 2**32 - 1)
_UID = st.binary(min_size=8, max_size=8)


@settings(max_examples=120, deadline=None)
@given(st.lists(VALUES | st.sampled_from(Control), max_size=5))
def test_what_is_encoded_comes_back(items: list[Value | Control]) -> None:
    assert decode(encode(*items)) == items


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "8140"),
        (256, "820100"),
        (-1, "7f"),
        (-32, "60"),
        (-33, "91df"),
        (b"", "a0"),
        (b"\x01", "a101"),
        (bytes(15), "af" + "00" * 15),
        (bytes(16), "d010" + "00" * 16),
        (bytes(2048), "e2000800" + "00" * 2048),
        ([], "f0f1"),
        (Name(3, b"x"), "f203a178f3"),
    ],
)
def test_tokens_have_their_shortest_form(value: Value, tokens: str) -> None:
    assert encode(value).hex() == tokens


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ("82ff", "atom of 2 bytes, 1 left"),
        ("d0", "inside an atom's header"),
        ("e20000", "inside an atom's header"),
        ("e4", "reserved"),
        ("f5", "reserved"),
        ("fe", "reserved"),
        ("f1", "out of place"),
        ("f3", "out of place"),
        ("f0", "ends inside"),
        ("f0f9f1", "out of place"),
        ("f20102", "ends inside"),
        ("f2010203f3", "more than a name"),
        ("80", "number of 0 bytes"),
        ("89" + "00" * 9, "number of 9 bytes"),
        ("b101", "continued"),
        ("f0" * 40 + "f1" * 40, "nested"),
    ],
)
def test_decode_refuses(stream: str, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        decode(bytes.fromhex(stream))


def test_empty_atoms_are_passed_over() -> None:
    assert decode(bytes.fromhex("fff0ff01fff1ff")) == [[1]]


def test_encode_refuses_what_no_atom_holds() -> None:
    with pytest.raises(CodecError):
        encode(2**64)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_make_no_sense_raise_codec_errors_alone(stream: bytes) -> None:
    for read in (decode, unpack, read_result):
        with contextlib.suppress(CodecError):
            read(stream)
    with contextlib.suppress(CodecError):
        method_call(decode(stream))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.sampled_from([0xF0, 0xF1, 0xF2, 0xF3, 0xF8, 0xF9, 0xFA, 0xA8, 0x01, 0x00, 0xD0, 0xE2, 0xFF]), max_size=60
    )
)
def test_streams_of_control_tokens_raise_codec_errors_alone(stream: list[int]) -> None:
    with contextlib.suppress(CodecError):
        method_call(decode(bytes(stream)))


@pytest.mark.parametrize("values", [[1], [Name(1, 2), Name(1, 3)], [Name([], 1)]])
def test_named_refuses_what_has_no_name_of_its_own(values: list[Value]) -> None:
    with pytest.raises(CodecError):
        named(values)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=99)
)
def test_packets_come_back(com_id: int, tsn: int, hsn: int, payload: bytes) -> None:
    packet = Packet(com_id, tsn, hsn, payload)
    assert unpack(packet.pack() + bytes(512)) == packet


@settings(max_examples=100, deadline=None)
@given(_UID, _UID, st.lists(VALUES, max_size=3), st.sampled_from(Status))
def test_calls_and_results_come_back(uid: bytes, method: bytes, values: list[Value], status: Status) -> None:
    call = MethodCall(uid, method, values, status)
    assert method_call(decode(call.pack())) == call
    assert read_result(result_payload(values, status)) == (values, status)


@pytest.mark.parametrize("cut", range(1, 56))
def test_unpack_refuses_a_packet_cut_short(cut: int) -> None:
    whole = Packet(0x1000, 1, 2, b"four").pack()
    with pytest.raises(CodecError):
        unpack(whole[:-cut] if cut < len(whole) else b"")


def test_unpack_refuses_a_second_packet() -> None:
    packet = bytearray(Packet(0x1000, 1, 2, b"four").pack())
    packet += packet[20:]
    packet[16:20] = (len(packet) - 20).to_bytes(4, "big")
    with pytest.raises(CodecError, match="more than one"):
        unpack(bytes(packet))


def test_a_com_packet_without_data_holds_no_packet() -> None:
    assert unpack(bytes(512)) is None
