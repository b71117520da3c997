"""What each fault does to an owner."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.opal_drive import uids
from tests.opal_drive.client import MethodError
from tests.opal_drive.drive import AccessDenied
from tests.opal_drive.faults import Fault, FaultError, model
from tests.opal_drive.packets import Status
from tests.opal_drive.tables import Lock, Mbr, Pin
from tests.opal_drive.tper import InvalidSecurityCommand

from .conftest import ADMIN1, SIZE_BYTES, Bench, own

Make = Callable[..., Bench]
PLAIN = b"plain as day " * 40


def test_block_sid_keeps_owners_out_until_the_bios_lets_it(make_bench: Make) -> None:
    bench = make_bench(Fault.BLOCK_SID)
    with pytest.raises(MethodError) as error:
        bench.host.set_sid_pin(bench.msid, b"mine")
    assert error.value.status is Status.NOT_AUTHORIZED
    bench.drive.power_cycle()
    assert not bench.host.accepts(uids.ADMIN_SP, uids.SID, bench.msid)
    bench.drive.bios_blocks_sid = False
    bench.drive.power_cycle()
    own(bench)
    bench.drive.bios_blocks_sid = True
    bench.drive.power_cycle()
    assert bench.host.accepts(uids.ADMIN_SP, uids.SID, b"sid")


def test_block_sid_refuses_authenticate_too_and_counts_no_try(make_bench: Make) -> None:
    bench = make_bench(Fault.BLOCK_SID)
    with bench.host.start(uids.ADMIN_SP) as session:
        for _ in range(7):
            assert not session.authenticate(uids.SID, bench.msid)
    bench.drive.bios_blocks_sid = False
    bench.drive.power_cycle()
    assert bench.host.accepts(uids.ADMIN_SP, uids.SID, bench.msid)


def test_any_host_may_block_sid_of_a_drive_without_an_owner(bench: Bench) -> None:
    bench.host.block_sid()
    assert bench.host.discovery()[0x402][:2] == bytes([2, 1])
    assert not bench.host.accepts(uids.ADMIN_SP, uids.SID, bench.msid)


def test_block_sid_ends_with_the_reset_that_its_sender_named(bench: Bench) -> None:
    bench.drive.tper.block_sid(cleared_by_reset=False)
    bench.drive.tper.hardware_reset()
    assert not bench.host.accepts(uids.ADMIN_SP, uids.SID, bench.msid)
    bench.drive.power_cycle()
    bench.drive.tper.block_sid(cleared_by_reset=True)
    bench.drive.tper.hardware_reset()
    assert bench.host.accepts(uids.ADMIN_SP, uids.SID, bench.msid)


def test_block_sid_of_an_owned_drive_has_no_effect(bench: Bench) -> None:
    own(bench)
    bench.host.block_sid()
    assert bench.host.discovery()[0x402][0] == 1
    assert bench.host.accepts(uids.ADMIN_SP, uids.SID, b"sid")


def test_block_sid_ends_with_a_revert(make_bench: Make) -> None:
    bench = make_bench(Fault.BLOCK_SID)
    bench.host.revert(uids.PSID, bench.psid)
    own(bench)


def test_block_sid_is_refused_while_it_is_in_force(bench: Bench) -> None:
    bench.host.block_sid()
    with pytest.raises(InvalidSecurityCommand):
        bench.host.block_sid()


def test_a_drive_that_cannot_freeze_refuses_to(bench: Bench) -> None:
    for payload in (b"", b"\0\1"):
        with pytest.raises(InvalidSecurityCommand):
            bench.drive.tper.send(2, 5, payload)
    assert not bench.drive.tper.sid_blocked


def test_lockout_outlives_power_and_ends_with_the_psid(make_bench: Make) -> None:
    bench = make_bench(Fault.LOCKOUT)
    for _ in range(2):
        with pytest.raises(MethodError) as error:
            bench.host.start(uids.ADMIN_SP, uids.SID, bench.msid)
        assert error.value.status is Status.AUTHORITY_LOCKED_OUT
        bench.drive.power_cycle()
    bench.host.revert(uids.PSID, bench.psid)
    own(bench)
    with bench.host.start(uids.ADMIN_SP, uids.SID, b"sid") as session:
        assert session.get(uids.C_PIN_SID, Pin.TRY_LIMIT, Pin.PERSISTENCE) == {5: 5, 6: 0, 7: 1}


def test_lockout_counts_over_a_power_cycle(make_bench: Make) -> None:
    bench = make_bench(Fault.LOCKOUT)
    bench.host.revert(uids.PSID, bench.psid)
    for _ in range(5):
        assert not bench.host.accepts(uids.ADMIN_SP, uids.SID, b"wrong")
        bench.drive.power_cycle()
    with pytest.raises(MethodError) as error:
        bench.host.start(uids.ADMIN_SP, uids.SID, bench.msid)
    assert error.value.status is Status.AUTHORITY_LOCKED_OUT


def test_4kn_has_blocks_of_4096_bytes(make_bench: Make) -> None:
    bench = make_bench(Fault.FOUR_KN)
    assert bench.model.blocks * 4096 == SIZE_BYTES
    bench.host.set_sid_pin(bench.msid, b"sid")
    bench.host.activate(b"sid")
    bench.host.set_range(b"sid", 1, 255, 257)
    bench.drive.write(255, bytes(range(256)) * 16)
    assert bench.drive.read(255, 1) == bytes(range(256)) * 16
    with bench.host.start(uids.LOCKING_SP) as session:
        assert session.get(uids.LOCKING_INFO, 7, 10) == {7: 1, 8: 4096, 9: 1, 10: 0}


def test_misaligned_refuses_a_range_on_a_1_mib_boundary(make_bench: Make) -> None:
    bench = make_bench(Fault.MISALIGNED)
    bench.host.set_sid_pin(bench.msid, b"sid")
    bench.host.activate(b"sid")
    with pytest.raises(MethodError) as error:
        bench.host.set_range(b"sid", 1, 2048, 4096)
    assert error.value.status is Status.INVALID_PARAMETER
    bench.host.stack_reset()
    bench.host.set_range(b"sid", 1, 12288, 12288)


@pytest.mark.parametrize("fault", [Fault.PYRITE, Fault.PYRITE_1])
def test_pyrite_locks_and_writes_in_the_clear(make_bench: Make, fault: Fault) -> None:
    bench = make_bench(fault)
    bench.host.set_sid_pin(bench.msid, b"sid")
    bench.host.activate(b"sid")
    bench.host.set_range(b"sid", 0, 0, 0)
    bench.drive.write(0, PLAIN.ljust(1024, b"\0"))
    bench.drive.power_cycle()
    with pytest.raises(AccessDenied):
        bench.drive.read(0, 1)
    assert PLAIN in bench.drive.peek(0, 1024)
    with pytest.raises(MethodError):
        bench.host.generate_key(b"sid", 0)
    bench.host.stack_reset()
    bench.host.revert(uids.PSID, bench.psid)
    assert (PLAIN in bench.drive.peek(0, 1024)) is (fault is Fault.PYRITE_1)


def test_owned_by_others_knows_no_pin_of_ours(make_bench: Make) -> None:
    bench = make_bench(Fault.OWNED_BY_OTHERS)
    assert bench.drive.state.owned
    assert bench.drive.state.active
    for pin in (bench.msid, b""):
        assert not bench.host.accepts(uids.ADMIN_SP, uids.SID, pin)
        assert not bench.host.accepts(uids.LOCKING_SP, ADMIN1, pin)
    bench.host.revert(uids.PSID, bench.psid)
    own(bench)


def test_no_shadow_mbr_has_no_mbr_to_set(make_bench: Make) -> None:
    bench = make_bench(Fault.NO_SHADOW_MBR)
    own(bench)
    with bench.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        with pytest.raises(MethodError):
            session.set(uids.MBR_CONTROL, {Mbr.ENABLE: 1})
        with pytest.raises(MethodError):
            session.set_bytes(uids.MBR_TABLE, 0, b"x")
        session.set(uids.locking_range(1), {Lock.READ_LOCKED: 1})


def test_no_psid_leaves_no_way_back(make_bench: Make) -> None:
    bench = make_bench(Fault.NO_PSID, Fault.OWNED_BY_OTHERS)
    assert not bench.host.accepts(uids.ADMIN_SP, uids.PSID, bench.psid)


def test_faults_that_contradict_each_other_are_refused() -> None:
    for faults in ((Fault.PYRITE, Fault.PYRITE_1), (Fault.PYRITE, Fault.MISALIGNED)):
        with pytest.raises(FaultError):
            model(faults, SIZE_BYTES)
    with pytest.raises(FaultError):
        model((), 1000)
