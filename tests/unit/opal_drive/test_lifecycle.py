"""From the factory through an owner's life and back."""

from __future__ import annotations

import pytest

from tests.opal_drive import uids
from tests.opal_drive.client import InProcess, MethodError
from tests.opal_drive.drive import AccessDenied
from tests.opal_drive.packets import Status
from tests.opal_drive.tables import LIFE_CYCLE, Ace, Auth, Lock, Mbr, Pin, any_of
from tests.opal_drive.tper import InvalidSecurityCommand

from .conftest import ADMIN1, Bench, own, stored

INSIDE, OUTSIDE = 2048, 0  # blocks in range 1, and in the global one
SECRET = b"carried across the gap, not to be read by others" * 100
BLOCKS = SECRET.ljust(8 * 1024, b".")[: 8 * 512]
USER1 = uids.user(1)


def refused(error: pytest.ExceptionInfo[MethodError]) -> Status:
    return error.value.status


def test_take_ownership(bench: Bench) -> None:
    assert bench.host.msid() == bench.msid
    bench.host.set_sid_pin(bench.msid, b"mine")
    assert bench.drive.state.owned
    assert not bench.host.accepts(uids.ADMIN_SP, uids.SID, bench.msid)
    assert bench.host.accepts(uids.ADMIN_SP, uids.SID, b"mine")
    assert bench.host.msid() == bench.msid


def test_activate_gives_admin1_the_pin_of_sid(bench: Bench) -> None:
    with pytest.raises(MethodError) as error:
        bench.host.start(uids.LOCKING_SP)
    assert refused(error) is Status.INVALID_PARAMETER
    bench.drive.write(INSIDE, BLOCKS)
    bench.host.set_sid_pin(bench.msid, b"mine")
    bench.host.activate(b"mine")
    bench.host.activate(b"mine")
    assert bench.host.accepts(uids.LOCKING_SP, ADMIN1, b"mine")
    with bench.host.start(uids.ADMIN_SP) as session:
        assert session.get(uids.LOCKING_SP, LIFE_CYCLE, LIFE_CYCLE) == {LIFE_CYCLE: 9}
    assert bench.drive.read(INSIDE, 8) == BLOCKS


def test_only_sid_activates(bench: Bench) -> None:
    with bench.host.start(uids.ADMIN_SP) as session, pytest.raises(MethodError) as error:
        session.call(uids.LOCKING_SP, uids.ACTIVATE)
    assert refused(error) is Status.NOT_AUTHORIZED


def test_lock_and_unlock(owned: Bench) -> None:
    owned.drive.write(INSIDE, BLOCKS)
    owned.drive.write(OUTSIDE, BLOCKS)
    owned.host.lock(USER1, b"user", 1, locked=True)
    for access in (
        lambda: owned.drive.read(INSIDE, 1),
        lambda: owned.drive.write(INSIDE, BLOCKS),
        lambda: owned.drive.write_zeroes(INSIDE, 1),
        lambda: owned.drive.read(INSIDE - 1, 2),
        lambda: owned.drive.write(INSIDE + 4095, BLOCKS),
    ):
        with pytest.raises(AccessDenied):
            access()
    assert owned.drive.read(OUTSIDE, 8) == BLOCKS
    assert owned.drive.read(INSIDE + 4096, 1) == bytes(512)
    owned.host.lock(USER1, b"user", 1, locked=False)
    assert owned.drive.read(INSIDE, 8) == BLOCKS


def test_a_range_locked_for_writes_alone_is_read(owned: Bench) -> None:
    owned.drive.write(INSIDE, BLOCKS)
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set(uids.locking_range(1), {Lock.WRITE_LOCKED: 1})
    assert owned.drive.read(INSIDE, 8) == BLOCKS
    with pytest.raises(AccessDenied):
        owned.drive.write(INSIDE, BLOCKS)


def test_a_lock_that_is_not_enabled_locks_nothing(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set(uids.locking_range(1), {Lock.READ_ENABLED: 0, Lock.READ_LOCKED: 1})
    assert owned.drive.read(INSIDE, 1) == bytes(512)


def test_nobody_but_admin1_is_enabled_at_first(bench: Bench) -> None:
    bench.host.set_sid_pin(bench.msid, b"sid")
    bench.host.activate(b"sid")
    for who in (uids.admin(2), uids.user(1)):
        assert not bench.host.accepts(uids.LOCKING_SP, who, b"")
    assert not bench.host.accepts(uids.ADMIN_SP, uids.ADMIN_SP_ADMIN1, b"")


def test_the_global_range_holds_what_no_range_holds(owned: Bench) -> None:
    owned.host.set_range(b"admin", 0, 0, 0)
    owned.host.lock(ADMIN1, b"admin", 0, locked=True)
    owned.drive.read(INSIDE, 4096)
    for block in (0, INSIDE - 1, INSIDE + 4096):
        with pytest.raises(AccessDenied):
            owned.drive.read(block, 1)


def test_user_may_not_do_what_admins_do(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, USER1, b"user") as session:
        for uid, cells in (
            (uids.locking_range(1), {Lock.START: 0}),
            (uids.locking_range(2), {Lock.READ_LOCKED: 0}),
            (uids.user(2), {Auth.ENABLED: 1}),
            (uids.c_pin(ADMIN1), {Pin.PIN: b"x"}),
            (uids.ace(0x3E001), {Ace.EXPRESSION: any_of(USER1)}),
        ):
            with pytest.raises(MethodError) as error:
                session.set(uid, cells)
            assert refused(error) is Status.NOT_AUTHORIZED
        with pytest.raises(MethodError):
            session.call(uids.media_key(1), uids.GEN_KEY)
        with pytest.raises(MethodError):
            session.call(uids.THIS_SP, uids.REVERT_SP)


def test_a_user_sees_its_range_and_nothing_of_others(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, USER1, b"user") as session:
        row = session.get(uids.locking_range(1), Lock.START, Lock.WRITE_LOCKED)
        assert row == {3: 2048, 4: 4096, 5: 1, 6: 1, 7: 0, 8: 0}
        assert session.get(uids.locking_range(2), Lock.START, Lock.WRITE_LOCKED) == {}


def test_pins_are_never_read(owned: Bench) -> None:
    with owned.host.start(uids.ADMIN_SP, uids.SID, b"sid") as session:
        assert set(session.get(uids.C_PIN_SID, 0, 7)) == {0, 4, 5, 6, 7}
        assert Pin.PIN not in session.get(uids.C_PIN_PSID, 0, 7)
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        assert Pin.PIN not in session.get(uids.c_pin(USER1), 0, 7)


def test_rotate_pins(owned: Bench) -> None:
    owned.host.set_sid_pin(b"sid", b"sid2")
    owned.host.set_pin(ADMIN1, b"admin", ADMIN1, b"admin2")
    owned.host.set_pin(USER1, b"user", USER1, b"user2")
    for sp, who, old, new in (
        (uids.ADMIN_SP, uids.SID, b"sid", b"sid2"),
        (uids.LOCKING_SP, ADMIN1, b"admin", b"admin2"),
        (uids.LOCKING_SP, USER1, b"user", b"user2"),
    ):
        assert owned.host.accepts(sp, who, new)
        assert not owned.host.accepts(sp, who, old)


def test_a_pin_of_33_bytes_is_refused(owned: Bench) -> None:
    with pytest.raises(MethodError) as error:
        owned.host.set_sid_pin(b"sid", bytes(33))
    assert refused(error) is Status.INVALID_PARAMETER
    owned.host.stack_reset()
    assert owned.host.accepts(uids.ADMIN_SP, uids.SID, b"sid")


def test_a_set_with_one_bad_cell_changes_nothing(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        with pytest.raises(MethodError) as error:
            session.set(uids.locking_range(1), {Lock.READ_LOCKED: 1, Lock.WRITE_LOCKED: 7})
        assert refused(error) is Status.INVALID_PARAMETER
        assert session.get(uids.locking_range(1), 7, 8) == {7: 0, 8: 0}


@pytest.mark.parametrize(("start", "length"), [(0, 40000), (6140, 8), (2047, 8), (3, 8), (8, 3), (4096, 8), (-8, 8)])
def test_ranges_that_cannot_lie_there_are_refused(owned: Bench, start: int, length: int) -> None:
    with pytest.raises(MethodError) as error:
        owned.host.set_range(b"admin", 2, start, length)
    assert refused(error) is Status.INVALID_PARAMETER


def test_generating_a_key_makes_noise_of_one_range(owned: Bench) -> None:
    for block in (INSIDE, OUTSIDE):
        owned.drive.write(block, BLOCKS)
    owned.host.generate_key(b"admin", 1)
    noise = owned.drive.read(INSIDE, 8)
    assert noise != BLOCKS
    assert SECRET[:16] not in noise
    assert len(set(noise)) > 200
    assert owned.drive.read(OUTSIDE, 8) == BLOCKS


def test_moving_a_range_over_data_makes_it_noise(owned: Bench) -> None:
    owned.drive.write(8192, BLOCKS)
    owned.host.set_range(b"admin", 2, 8192, 8)
    assert owned.drive.read(8192, 8) != BLOCKS


@pytest.mark.parametrize("keep_global", [False, True])
def test_revert_sp_keeps_sid_and_destroys_the_ranges(owned: Bench, keep_global: bool) -> None:
    for block in (INSIDE, OUTSIDE):
        owned.drive.write(block, BLOCKS)
    owned.drive.power_cycle()
    owned.host.revert_locking_sp(b"admin", keep_global=keep_global)
    assert not owned.drive.state.active
    assert owned.host.accepts(uids.ADMIN_SP, uids.SID, b"sid")
    assert owned.drive.read(INSIDE, 8) != BLOCKS
    assert (owned.drive.read(OUTSIDE, 8) == BLOCKS) is keep_global


@pytest.mark.parametrize("authority", [uids.SID, uids.PSID])
def test_revert_gives_back_a_new_drive(owned: Bench, authority: bytes) -> None:
    for block in (INSIDE, OUTSIDE):
        owned.drive.write(block, BLOCKS)
    psid = owned.psid
    owned.host.revert(authority, psid if authority == uids.PSID else b"sid")
    assert not owned.drive.state.owned
    assert not owned.drive.state.active
    assert owned.psid == psid
    assert owned.host.accepts(uids.ADMIN_SP, uids.SID, owned.msid)
    for block in (INSIDE, OUTSIDE):
        assert owned.drive.read(block, 8) != BLOCKS
    own(owned)


@pytest.mark.parametrize("authority", [uids.SID, uids.PSID])
def test_revert_of_a_drive_that_was_never_activated_leaves_its_data(bench: Bench, authority: bytes) -> None:
    bench.drive.write(INSIDE, BLOCKS)
    bench.host.set_sid_pin(bench.msid, b"sid")
    bench.host.revert(authority, bench.psid if authority == uids.PSID else b"sid")
    assert not bench.drive.state.owned
    assert bench.drive.read(INSIDE, 8) == BLOCKS


def test_psid_does_nothing_but_revert(owned: Bench) -> None:
    with owned.host.start(uids.ADMIN_SP, uids.PSID, owned.psid) as session:
        for uid, method in ((uids.LOCKING_SP, uids.ACTIVATE), (uids.LOCKING_SP, uids.REVERT)):
            with pytest.raises(MethodError) as error:
                session.call(uid, method)
            assert refused(error) is Status.NOT_AUTHORIZED
        with pytest.raises(MethodError):
            session.set(uids.C_PIN_SID, {Pin.PIN: b"x"})


def test_sid_reverts_the_locking_sp_alone(owned: Bench) -> None:
    with owned.host.start(uids.ADMIN_SP, uids.SID, b"sid") as session:
        session.call(uids.LOCKING_SP, uids.REVERT)
    assert not owned.drive.state.active
    assert owned.drive.state.owned


def test_revert_ends_the_session(owned: Bench) -> None:
    session = owned.host.start(uids.ADMIN_SP, uids.SID, b"sid")
    session.call(uids.ADMIN_SP, uids.REVERT)
    with pytest.raises(ValueError, match="expected a result"):
        session.get(uids.SP_INFO, 0, 2)
    owned.host.start(uids.ADMIN_SP).close()


def test_wrong_pins_are_counted_and_lock_out(owned: Bench) -> None:
    for tried in range(1, 6):
        with pytest.raises(MethodError) as error:
            owned.host.start(uids.ADMIN_SP, uids.SID, b"wrong")
        assert refused(error) is Status.NOT_AUTHORIZED
        assert owned.drive.state.admin.get(uids.C_PIN_SID, Pin.TRIES) == tried
    with pytest.raises(MethodError) as error:
        owned.host.start(uids.ADMIN_SP, uids.SID, b"sid")
    assert refused(error) is Status.AUTHORITY_LOCKED_OUT
    owned.drive.power_cycle()
    assert owned.host.accepts(uids.ADMIN_SP, uids.SID, b"sid")


def test_pins_of_the_locking_sp_have_no_limit(owned: Bench) -> None:
    for _ in range(20):
        assert not owned.host.accepts(uids.LOCKING_SP, USER1, b"wrong")
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        assert session.get(uids.c_pin(USER1), 5, 6) == {5: 0, 6: 20}
    assert owned.host.accepts(uids.LOCKING_SP, USER1, b"user")


def test_a_right_pin_forgives_wrong_ones(owned: Bench) -> None:
    assert not owned.host.accepts(uids.ADMIN_SP, uids.SID, b"wrong")
    assert owned.host.accepts(uids.ADMIN_SP, uids.SID, b"sid")
    with owned.host.start(uids.ADMIN_SP, uids.SID, b"sid") as session:
        assert session.get(uids.C_PIN_SID, 6, 6) == {6: 0}


def test_authenticate_adds_an_authority_to_a_session(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP) as session:
        assert not session.authenticate(USER1, b"wrong")
        assert not session.authenticate(uids.ADMINS, b"")
        assert not session.authenticate(uids.user(2), b"")
        with pytest.raises(MethodError):
            session.set(uids.locking_range(1), {Lock.READ_LOCKED: 1})
        assert session.authenticate(USER1, b"user")
        session.set(uids.locking_range(1), {Lock.READ_LOCKED: 1})


def test_a_user_whose_ace_was_replaced_may_not_unlock(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set(uids.ace(0x3E001), {Ace.EXPRESSION: any_of(uids.user(2))})
    with pytest.raises(MethodError):
        owned.host.lock(USER1, b"user", 1, locked=False)
    owned.host.stack_reset()
    owned.host.lock(ADMIN1, b"admin", 1, locked=False)


@pytest.mark.parametrize("expression", [[], any_of(USER1, USER1)[:2], [1], any_of(uids.user(77))])
def test_an_expression_that_makes_no_sense_is_refused(owned: Bench, expression: list) -> None:
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session, pytest.raises(MethodError) as error:
        session.set(uids.ace(0x3E001), {Ace.EXPRESSION: expression})
    assert refused(error) is Status.INVALID_PARAMETER


def test_a_read_only_session_changes_nothing(bench: Bench) -> None:
    with bench.host.start(uids.ADMIN_SP, uids.SID, bench.msid, write=False) as session, pytest.raises(MethodError):
        session.set(uids.C_PIN_SID, {Pin.PIN: b"x"})
    assert not bench.drive.state.owned


def test_one_session_at_a_time_until_a_stack_reset(bench: Bench) -> None:
    bench.host.start(uids.ADMIN_SP)
    with pytest.raises(MethodError) as error:
        bench.host.start(uids.ADMIN_SP)
    assert refused(error) is Status.NO_SESSIONS_AVAILABLE
    bench.host.stack_reset()
    answer = InProcess(bench.drive).security_receive(2, 0x1000, 16)
    assert answer[:16].hex() == "10000000000000020000000400000000"
    bench.host.start(uids.ADMIN_SP).close()


def test_properties_next_acl_and_random(owned: Bench) -> None:
    assert owned.host.properties()[b"MaxComPacketSize"] == 0x10000
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        ranges = [uids.locking_range(number) for number in range(9)]
        assert session.call(uids.uid(0x802, 0), uids.NEXT) == [ranges]
        acl = session.call(uids.ACCESS_CONTROL_TABLE, uids.GET_ACL, [uids.locking_range(1), uids.SET])[0]
        assert uids.ace(0x3E001) in acl
        assert len(session.call(uids.THIS_SP, uids.RANDOM, [32])[0]) == 32
        with pytest.raises(MethodError):
            session.call(uids.THIS_SP, uids.RANDOM, [33])
        with pytest.raises(MethodError) as error:
            session.call(uids.locking_range(1), bytes(8))
        assert refused(error) is Status.NOT_AUTHORIZED


def test_the_data_store(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        assert session.get(uids.uid(1, 0x1001), 7, 7) == {7: 10 << 20}
        session.set_bytes(uids.DATA_STORE_TABLE, 1000, b"escrow" * 200)
        assert session.get_bytes(uids.DATA_STORE_TABLE, 998, 1204) == b"\0\0" + b"escrow" * 200 + b"\0\0"
        assert len(session.get_bytes(uids.DATA_STORE_TABLE, 0, 5000)) == 5000  # more than the host's first transfer
        for start, length in ((0, 0), ((10 << 20) - 1, 2), (-1, 2)):
            with pytest.raises(MethodError):
                session.get_bytes(uids.DATA_STORE_TABLE, start, length)
    with owned.host.start(uids.LOCKING_SP, USER1, b"user") as session, pytest.raises(MethodError):
        session.get_bytes(uids.DATA_STORE_TABLE, 0, 1)
    assert b"escrow" not in stored(owned.image)
    owned.host.revert(uids.SID, b"sid")
    own(owned)
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        assert session.get_bytes(uids.DATA_STORE_TABLE, 1000, 6) == bytes(6)


def test_the_shadow_mbr_covers_the_drive_until_it_is_done(owned: Bench) -> None:
    owned.drive.write(OUTSIDE, BLOCKS)
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set_bytes(uids.MBR_TABLE, 0, b"unlock first".ljust(512, b"\0"))
        session.set(uids.MBR_CONTROL, {Mbr.ENABLE: 1})
    assert owned.drive.read(OUTSIDE, 1).startswith(b"unlock first")
    with pytest.raises(AccessDenied):
        owned.drive.write(OUTSIDE, BLOCKS)
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set(uids.MBR_CONTROL, {Mbr.DONE: 1})
    assert owned.drive.read(OUTSIDE, 8) == BLOCKS
    owned.drive.power_cycle()
    assert owned.drive.read(OUTSIDE, 1).startswith(b"unlock first")


def test_programmatic_reset_locks_what_it_is_to_lock(owned: Bench) -> None:
    transport = InProcess(owned.drive)
    with pytest.raises(InvalidSecurityCommand):
        transport.security_send(2, 4, b"")
    with owned.host.start(uids.ADMIN_SP, uids.SID, b"sid") as session:
        session.set(uids.TPER_INFO, {8: 1})
    owned.host.set_range(b"admin", 2, 8192, 8)
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set(uids.locking_range(1), {Lock.ON_RESET: [0, 3]})
    transport.security_send(2, 4, b"")
    with pytest.raises(AccessDenied):
        owned.drive.read(INSIDE, 1)
    owned.drive.read(8192, 1)


def test_unknown_protocols_are_refused(bench: Bench) -> None:
    transport = InProcess(bench.drive)
    assert transport.security_receive(0, 0, 12) == bytes.fromhex("000000000000000300010200")
    for protocol, com_id in ((1, 0x2000), (0xEE, 0), (2, 9)):
        with pytest.raises(InvalidSecurityCommand):
            transport.security_send(protocol, com_id, bytes(512))
        with pytest.raises(InvalidSecurityCommand):
            transport.security_receive(protocol, com_id, 512)
