"""NVMe/TCP over loopback: a host that behaves, hosts that do not, and power that goes meanwhile."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.opal_drive import control, pdu, uids
from tests.opal_drive.client import OpalHost
from tests.opal_drive.initiator import HostQueue, NvmeError, NvmeHost
from tests.opal_drive.nvme import Code, Op
from tests.opal_drive.pdu import Fatal, Kind, Pdu
from tests.opal_drive.target import Target

from .conftest import ADMIN1, Bench, own

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
IC_REQ = Pdu(Kind.IC_REQ, struct.pack("<HBBI112x", 0, 0, 0, 0)).pack()
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def nvme(target: Target) -> Iterator[NvmeHost]:
    """A connected host."""
    host = NvmeHost(target.address, target.subsystem.name)
    yield host
    host.close()


def alive(target: Target) -> None:
    """The target still serves others."""
    host = NvmeHost(target.address, target.subsystem.name)
    host.read(0, 1)
    host.close()


def test_identify(nvme: NvmeHost, bench: Bench) -> None:
    controller = nvme.identify(1)
    assert controller[4:24].strip() == b"OPAL0001"
    number, version = struct.unpack_from("<HI", controller, 78)
    assert (number, version) == (nvme.controller_number, 0x10400)
    assert controller[256] & 1  # Security Send and Receive
    assert struct.unpack_from("<H", controller, 320)[0] > 0  # keep alive: Linux refuses a fabrics controller without
    assert struct.unpack_from("<I", controller, 536)[0] & 1
    ioccsz, iorcsz, icdoff = struct.unpack_from("<IIH", controller, 1792)
    assert (ioccsz >= 4, iorcsz >= 1, icdoff) == (True, True, 0)
    assert struct.unpack_from("<Q", nvme.identify(0, namespace=1))[0] == bench.model.blocks
    assert struct.unpack_from("<II", nvme.identify(2)) == (1, 0)
    assert nvme.identify(3, namespace=1)[:4] == bytes([2, 16, 0, 0])
    for structure, namespace in ((0, 2), (0x77, 0)):
        with pytest.raises(NvmeError):
            nvme.identify(structure, namespace)


def test_features_logs_and_the_rest_of_admin(nvme: NvmeHost) -> None:
    admin = nvme.admin
    assert admin.command(Op.SET_FEATURES, 0, (7, 1 | 1 << 16))[0] == 1 | 1 << 16
    assert admin.command(Op.SET_FEATURES, 0, (7, 99 | 99 << 16))[0] == 7 | 7 << 16
    assert admin.command(Op.GET_FEATURES, 0, (7,))[0] == 7 | 7 << 16
    assert len(admin.command(Op.GET_LOG_PAGE, 0, (2 | 127 << 16,), read_bytes=512)[1]) == 512
    admin.command(Op.KEEP_ALIVE)
    assert admin.command(Op.ABORT)[0] == 1
    assert admin.command(0x7F, 4, (1, 0))[0] & 0xFFFF == 127  # CAP
    assert admin.command(0x7F, 4, (0, 0x1C))[0] == 1  # CSTS: ready
    admin.command(0x7F, 0, (0, 0x14, 1 << 14))
    assert admin.command(0x7F, 4, (0, 0x1C))[0] == 8  # shut down
    for op, dwords in ((0x55, ()), (Op.SET_FEATURES, (0x7E,)), (Op.GET_LOG_PAGE, (0x99,))):
        with pytest.raises(NvmeError):
            admin.command(op, 0, dwords, read_bytes=0 if op & 1 else 4)


@pytest.mark.parametrize("in_capsule", [True, False])
@pytest.mark.parametrize("count", [1, 8, 512])
def test_what_is_written_is_read(nvme: NvmeHost, count: int, in_capsule: bool) -> None:
    data = random.Random(count).randbytes(count * 512)
    nvme.write(77, data, in_capsule=in_capsule)
    assert nvme.read(77, count) == data
    nvme.io.command(Op.FLUSH, 1)
    nvme.deallocate(77, 1)
    nvme.write_zeroes(77 + count - 1, 1)
    assert nvme.read(77, 1) == nvme.read(77 + count - 1, 1) == bytes(512)


def test_commands_that_make_no_sense_have_a_status(nvme: NvmeHost, bench: Bench) -> None:
    last = bench.model.blocks - 1
    for expected, op, namespace, dwords, data in (
        (Code.LBA_OUT_OF_RANGE, Op.READ, 1, (last, 0, 1), b""),
        (Code.LBA_OUT_OF_RANGE, Op.WRITE, 1, (0, 1, 0), bytes(512)),
        (Code.INVALID_NAMESPACE, Op.READ, 2, (0, 0, 1), b""),
        (Code.INVALID_OPCODE, 0x55, 1, (), bytes(512)),
        (Code.SGL_INVALID, Op.WRITE, 1, (0, 0, 1), bytes(512)),
        (Code.SGL_INVALID, Op.READ, 1, (0, 0, 7), b""),
        (Code.SGL_INVALID, Op.DATASET_MANAGEMENT, 1, (3, 4), bytes(16)),
        (Code.INVALID_FIELD, Op.WRITE, 1, (0, 0, 0), bytes(1 << 19)),
    ):
        with pytest.raises(NvmeError) as error:
            nvme.io.command(op, namespace, dwords, data, 0 if data else 1024, in_capsule=False)
        assert error.value.status == expected
    nvme.read(0, 1)


def test_opal_over_nvme(nvme: NvmeHost, bench: Bench) -> None:
    bench.host = OpalHost(nvme)
    own(bench)
    data = random.Random(1).randbytes(4096)
    nvme.write(2048, data)
    bench.host.lock(ADMIN1, b"admin", 1, locked=True)
    for access in (
        lambda: nvme.read(2048, 8),
        lambda: nvme.write(2048, data),
        lambda: nvme.write_zeroes(2048, 1),
        lambda: nvme.deallocate(2048, 1),
    ):
        with pytest.raises(NvmeError) as error:
            access()
        assert error.value.status & 0x7FF == 0x286  # Access Denied: Linux makes ENODATA of it
    nvme.read(0, 8)
    bench.host.lock(ADMIN1, b"admin", 1, locked=False)
    assert nvme.read(2048, 8) == data
    assert not any(nvme.security_receive(1, 0x1000, 64)[16:])
    with pytest.raises(NvmeError) as error:
        nvme.security_send(0xEE, 0, bytes(512))
    assert error.value.status == Code.INVALID_FIELD
    with bench.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set_bytes(uids.DATA_STORE_TABLE, 0, data * 7)  # more than a capsule holds
        assert session.get_bytes(uids.DATA_STORE_TABLE, 0, 4096 * 7) == data * 7


def test_a_session_does_not_outlive_its_host(target: Target) -> None:
    first = NvmeHost(target.address, target.subsystem.name)
    OpalHost(first).start(uids.ADMIN_SP)
    first.close()
    _wait(lambda: not target._connections)
    second = NvmeHost(target.address, target.subsystem.name)
    OpalHost(second).start(uids.ADMIN_SP).close()
    second.close()


def test_connect_refuses_another_name_and_an_unknown_controller(target: Target) -> None:
    with pytest.raises(NvmeError) as error:
        NvmeHost(target.address, "nqn.2014-08.org.nvmexpress.discovery")
    assert error.value.status == Code.CONNECT_INVALID
    queue = HostQueue(target.address)
    data = bytes(16) + (999).to_bytes(2, "little") + bytes(238) + target.subsystem.name.encode().ljust(768, b"\0")
    for dwords in ((1 << 16,), (99 << 16,), (7,), (0,)):
        with pytest.raises(NvmeError):
            queue.command(0x7F, 1, dwords, data)
    with pytest.raises(NvmeError) as error:
        queue.command(Op.READ, 1, (0,), read_bytes=512)
    assert error.value.status == Code.SEQUENCE_ERROR
    queue.close()


def _pdu(kind: int, header_bytes: int, offset: int, length: int, rest: bytes = b"") -> bytes:
    return struct.pack("<BBBBI", kind, 0, header_bytes, offset, length) + rest


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (_pdu(0x04, 72, 0, 72, bytes(64)), Fatal.SEQUENCE),
        (_pdu(0x00, 128, 0, 128, b"\1" + bytes(119)), Fatal.UNSUPPORTED),
        (IC_REQ + IC_REQ, Fatal.SEQUENCE),
        (IC_REQ + _pdu(0x55, 8, 0, 8), Fatal.INVALID_HEADER),
        (IC_REQ + _pdu(0x04, 8, 0, 8), Fatal.INVALID_HEADER),
        (IC_REQ + _pdu(0x04, 72, 0, 10), Fatal.INVALID_HEADER),
        (IC_REQ + _pdu(0x04, 72, 8, 100), Fatal.INVALID_HEADER),
        (IC_REQ + _pdu(0x04, 72, 255, 1000), Fatal.INVALID_HEADER),
        (IC_REQ + _pdu(0x04, 72, 72, 0xFFFFFFFF), Fatal.LIMIT_EXCEEDED),
        (IC_REQ + _pdu(0x06, 24, 24, 32, bytes(24)), Fatal.SEQUENCE),
        (IC_REQ + _pdu(0x05, 24, 0, 24, bytes(16)), Fatal.SEQUENCE),
        (IC_REQ + _pdu(0x09, 24, 24, 32, bytes(24)), Fatal.INVALID_HEADER),
    ],
)
def test_a_host_that_breaks_the_protocol_loses_its_connection_alone(target: Target, sent: bytes, status: Fatal) -> None:
    with socket.create_connection(target.address, 5) as connection:
        connection.sendall(sent)
        if sent.startswith(IC_REQ):
            assert pdu.read_pdu(connection).kind is Kind.IC_RESP
        answer = pdu.read_pdu(connection)
        assert answer.kind is Kind.C2H_TERM_REQ
        assert int.from_bytes(answer.header[:2], "little") == status
        assert _ended(connection)
    alive(target)


@pytest.mark.parametrize(
    ("offset", "length", "data"), [(512, 512, bytes(512)), (0, 100, bytes(512)), (0, 1536, bytes(1536)), (0, 0, b"")]
)
def test_data_that_was_not_asked_for_ends_the_connection(
    nvme: NvmeHost, target: Target, offset: int, length: int, data: bytes
) -> None:
    entry = struct.pack("<BBHI16xQI3xBQI12x", 1, 0x40, 9, 1, 0, 1024, 0x5A, 0, 1)
    nvme.io.socket.sendall(Pdu(Kind.CAPSULE_CMD, entry).pack())
    assert pdu.read_pdu(nvme.io.socket).kind is Kind.R2T
    header = struct.pack("<HHII4x", 9, 9, offset, length)
    nvme.io.socket.sendall(Pdu(Kind.H2C_DATA, header, data).pack())
    assert pdu.read_pdu(nvme.io.socket).kind is Kind.C2H_TERM_REQ
    assert _ended(nvme.io.socket)
    alive(target)


def test_input_cut_short_never_hangs_the_target(target: Target) -> None:
    entry = struct.pack("<BBHI16xQI3xB24x", 1, 0x40, 9, 1, 0, 512, 0x01)
    whole = IC_REQ + Pdu(Kind.CAPSULE_CMD, entry, bytes(512)).pack()
    for cut in (0, 1, 7, 8, 100, 127, 128, 129, 136, 199, 200, 201, 500, len(whole) - 1):
        with socket.create_connection(target.address, 5) as connection:
            connection.sendall(whole[:cut])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    alive(target)


def test_noise_never_kills_the_target(target: Target) -> None:
    chance = random.Random(4420)
    for _ in range(60):
        with socket.create_connection(target.address, 5) as connection, contextlib.suppress(OSError):
            noise = bytes([chance.choice([0, 2, 4, 6]), 0, chance.choice([24, 72, 128]), 0]) + chance.randbytes(150)
            connection.sendall((IC_REQ if chance.random() < 0.7 else b"") + noise)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    alive(target)


def test_noise_in_commands_and_com_packets_never_kills_the_target(target: Target) -> None:
    chance = random.Random(1)
    host = NvmeHost(target.address, target.subsystem.name)
    for _ in range(150):
        dwords = tuple(chance.getrandbits(32) for _ in range(6))
        for queue in (host.admin, host.io):
            with contextlib.suppress(NvmeError):
                op = chance.choice([0, 1, 2, 6, 8, 9, 0x0A, 0x81, 0x82])
                queue.command(op, chance.choice([0, 1]), dwords, chance.randbytes(512) if op & 1 else b"", 512)
        packet = bytearray(512)
        packet[4:6], packet[19] = b"\x10\0", 200
        packet[20:56] = struct.pack(">8xI4x4xI6xHI", 0, 180, 0, chance.randrange(160))
        packet[56:256] = bytes(chance.choice([0xF8, 0xF0, 0xF1, 0xF2, 0xF3, 0xF9, 0xA8, 0, 255]) for _ in range(200))
        with contextlib.suppress(NvmeError):
            host.security_send(1, 0x1000, bytes(packet))
            host.security_receive(1, 0x1000, 512)
    host.close()
    alive(target)


def test_power_goes_and_comes_back(nvme: NvmeHost, target: Target, bench: Bench) -> None:
    bench.host = OpalHost(nvme)
    own(bench)
    target.power_off()
    assert _ended(nvme.io.socket)
    assert _ended(nvme.admin.socket)
    with pytest.raises(OSError):
        NvmeHost(target.address, target.subsystem.name)
    target.power_on()
    again = NvmeHost(target.address, target.subsystem.name)
    with pytest.raises(NvmeError):
        again.read(2048, 1)
    again.close()


def test_a_command_that_waits_when_power_goes_never_runs(nvme: NvmeHost, target: Target) -> None:
    entry = struct.pack("<BBHI16xQI3xB24x", 1, 0x40, 9, 1, 0, 512, 0x01)
    with target.drive.lock:
        nvme.io.socket.sendall(Pdu(Kind.CAPSULE_CMD, entry, b"late".ljust(512)).pack())
        time.sleep(0.3)  # it waits for the lock by now
        target.power_cycle()
    assert _ended(nvme.io.socket)
    again = NvmeHost(target.address, target.subsystem.name)
    assert again.read(0, 1) == bytes(512)
    again.close()


def test_a_chosen_cut_takes_the_answer_and_every_connection_with_it(
    nvme: NvmeHost, target: Target, tmp_path: Path
) -> None:
    control.serve(tmp_path / "c", target)
    host = OpalHost(nvme)
    msid = host.msid()
    assert control.ask(tmp_path / "c", "cut 2") == "ok"
    with pytest.raises(OSError):
        host.set_sid_pin(msid, b"kept")
    assert _ended(nvme.io.socket)
    assert '"last_cut": "Set"' in control.ask(tmp_path / "c", "status")
    again = NvmeHost(target.address, target.subsystem.name)
    assert OpalHost(again).accepts(uids.ADMIN_SP, uids.SID, b"kept")
    again.close()


def test_control_socket(target: Target, tmp_path: Path) -> None:
    control.serve(tmp_path / "c", target)
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0
    for line in ("off", "on", "cycle", "reset", "bios-blocks-sid on"):
        assert control.ask(tmp_path / "c", line) == "ok"
    assert target.drive.bios_blocks_sid
    assert control.ask(tmp_path / "c", "peek 0 16") == "00" * 16
    for line in ("", "cut 0", "cut x", "peek 0 99999999", "fly"):
        assert control.ask(tmp_path / "c", line).startswith("error")
    assert '"powered": true' in control.ask(tmp_path / "c", "status")


def test_status_counts_hosts_since_power_came(target: Target) -> None:
    assert control.status(target)["hosts"] == 0
    host = NvmeHost(target.address, target.subsystem.name)
    assert control.status(target)["hosts"] == 1
    target.power_cycle()
    assert control.status(target)["hosts"] == 0
    host.close()


def test_who_asks_loads_nothing_of_the_drive() -> None:
    look = "import sys, tests.opal_drive.control; print([name for name in sys.modules if name.startswith('tests.')])"
    said = subprocess.run([sys.executable, "-c", look], cwd=REPOSITORY, capture_output=True, text=True, timeout=20)
    assert said.stdout.strip() == "['tests.opal_drive', 'tests.opal_drive.control']"


def test_the_command_line_survives_sighup_and_sigkill(tmp_path: Path) -> None:
    image = tmp_path / "drive.img"
    command = [sys.executable, "-m", "tests.opal_drive", "--image", str(image), "--size-mib", "8"]
    command += ["--listen", "127.0.0.1:0"]
    first, lines, host = _start([*command, "--cut-after", "1000"])
    msid = lines[0].split()[3].encode()
    OpalHost(host).set_sid_pin(msid, b"kept")
    host.write(5, b"kept".ljust(512))
    first.send_signal(signal.SIGHUP)
    assert _ended(host.io.socket)
    first.kill()
    first.communicate()
    second, again, host = _start(command)
    assert again[0] == lines[0]
    assert OpalHost(host).accepts(uids.ADMIN_SP, uids.SID, b"kept")
    assert host.read(5, 1).startswith(b"kept")
    host.close()
    second.terminate()
    assert second.wait(10) == 0
    second.communicate()
    refused = subprocess.run([*command, "--fault", "4kn"], cwd=REPOSITORY, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1
    assert "asked for" in refused.stderr


def _start(command: list[str]) -> tuple[subprocess.Popen[str], list[str], NvmeHost]:
    """Start a drive and connect with what it prints."""
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = [process.stdout.readline(), process.stdout.readline()]
    words = lines[1].split()
    assert words[:3] == ["ready:", "nvme", "connect"]
    option = dict(zip(words[3::2], words[4::2], strict=True))
    return process, lines, NvmeHost((option["-a"], int(option["-s"])), option["-n"])


def _ended(connection: socket.socket) -> bool:
    """Tell whether the target closed a connection."""
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
