"""Exchanges byte by byte, as a Linux kernel builds its commands: they do not pass through this package's encoder."""

from __future__ import annotations

import struct

from .conftest import Bench

COM_ID = 0x1000
BUFFER_BYTES = 2048
END = "f9 f0 00 00 00 f1"  # end of data, status list


def _exchange(bench: Bench, payload: str, tper_session: int = 0, host_session: int = 0) -> tuple[str, bytes]:
    """Send a payload and return that of the answer, with the headers around it."""
    body = bytes.fromhex(payload)
    padded = body + bytes(-len(body) % 4)
    subpacket = bytes(6) + struct.pack(">HI", 0, len(body)) + padded
    packet = struct.pack(">II12xI", tper_session, host_session, len(subpacket)) + subpacket
    sent = struct.pack(">4xHH8xI", COM_ID, 0, len(packet)) + packet
    bench.drive.tper.send(1, COM_ID, sent.ljust(BUFFER_BYTES, b"\0"))
    answer = bench.drive.tper.receive(1, COM_ID, BUFFER_BYTES)
    length = struct.unpack_from(">I", answer, 52)[0]
    return answer[56 : 56 + length].hex(), answer[:56]


def test_msid_is_read_as_linux_does(bench: Bench) -> None:
    start = "f8 a800000000000000ff a8000000000000ff02 f0 8141 a80000020500000001 01 f1"
    answer, headers = _exchange(bench, f"{start} {END}")
    assert answer == "f8a800000000000000ffa8000000000000ff03f08141821001f1f9f0000000f1"
    assert headers[:8].hex() == "0000000010000000"
    assert struct.unpack_from(">III", headers, 8) == (0, 0, 68)  # nothing outstanding; the packet's length
    assert struct.unpack_from(">I", headers, 40) == (44,)  # the subpacket's, padded
    get = "f8 a80000000b00008402 a80000000600000016 f0 f0 f2 03 03 f3 f2 04 03 f3 f1 f1"
    answer, headers = _exchange(bench, f"{get} {END}", 0x1001, 0x41)
    assert answer == f"f0f0f203d020{bench.msid.hex()}f3f1f1f9f0000000f1"
    assert struct.unpack_from(">II", headers, 20) == (0x1001, 0x41)
    assert _exchange(bench, "fa", 0x1001, 0x41)[0] == "fa"


def test_the_kernel_ends_a_session_as_if_it_were_a_call(bench: Bench) -> None:
    start = "f8 a800000000000000ff a8000000000000ff02 f0 8141 a80000020500000001 01 f1"
    for number in ("1001", "1002"):
        answer, _ = _exchange(bench, f"{start} {END}")
        assert answer == f"f8a800000000000000ffa8000000000000ff03f0814182{number}f1f9f0000000f1"
        assert _exchange(bench, f"fa f1 {END}", int(number, 16), 0x41)[0] == "fa"


def test_a_refused_session_ends_with_its_status(bench: Bench) -> None:
    start = "f8 a800000000000000ff a8000000000000ff02 f0 8141 a80000020500000001 01"
    proof = "f2 00 a5 77726f6e67 f3 f2 03 a80000000900000006 f3 f1"
    assert (
        _exchange(bench, f"{start} {proof} {END}")[0] == "f8a800000000000000ffa8000000000000ff03f0814100f1f9f0010000f1"
    )


def test_the_kernel_takes_no_data_for_nothing_to_say(bench: Bench) -> None:
    answer = bench.drive.tper.receive(1, COM_ID, BUFFER_BYTES)
    assert answer.hex() == "0000000010000000" + "00" * (BUFFER_BYTES - 8)


def test_a_short_transfer_is_told_how_much_there_is(bench: Bench) -> None:
    start = "f8 a800000000000000ff a8000000000000ff02 f0 8141 a80000020500000001 01 f1"
    body = bytes.fromhex(f"{start} {END}")
    packet = struct.pack(">8x12xI", 12 + 40) + bytes(8) + struct.pack(">I", len(body)) + body.ljust(40, b"\0")
    bench.drive.tper.send(1, COM_ID, struct.pack(">4xH10xI", COM_ID, len(packet)) + packet)
    short = bench.drive.tper.receive(1, COM_ID, 32)
    outstanding, minimum, length = struct.unpack_from(">III", short, 8)
    assert (outstanding, minimum, length) == (88, 88, 0)
    assert bench.drive.tper.receive(1, COM_ID, outstanding)[56:58].hex() == "f8a8"
