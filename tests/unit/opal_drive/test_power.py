"""Power is lost after every step of a drive's life in turn; the drive always opens, with the old PIN or the new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.opal_drive import uids
from tests.opal_drive.client import InProcess, OpalHost
from tests.opal_drive.drive import AccessDenied, Drive
from tests.opal_drive.faults import Fault, Model, model
from tests.opal_drive.media import Media
from tests.opal_drive.power import Power, PowerCut
from tests.opal_drive.state import MemoryStore
from tests.opal_drive.tables import Lock

from .conftest import ADMIN1, Bench

FIRST, LAST = 2048, 6143  # range 1
OLD, NEW = bytes([1]) * 4096, bytes([2]) * 4096
FACTORY = b"(the pin that anybody can read)"
Pins = dict[bytes, set[bytes]]


class Owner:
    """Sets a drive up, uses it and gives it back; knows at each moment which PINs may be in force."""

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self.host = OpalHost(InProcess(drive))
        self.pins: Pins = {uids.SID: {FACTORY}}
        self.data = {bytes(4096)}  # what may lie at the start of range 1, once the range is there
        self.set_up = False  # whether range 1 was there, and its data is to be kept
        self.reverting = False

    @contextmanager
    def changing(self, who: bytes, new: bytes) -> Iterator[None]:
        self.pins[who] = self.pins.get(who, set()) | {new}
        yield
        self.pins[who] = {new}

    def live(self) -> None:
        """Every operation that an appliance uses, in the order of its life."""
        host, drive = self.host, self.drive
        with self.changing(uids.SID, b"sid"):
            host.set_sid_pin(host.msid(), b"sid")
        host.activate(b"sid")
        with self.changing(ADMIN1, b"admin"):
            self.pins[ADMIN1] |= {b"sid"}
            host.set_pin(ADMIN1, b"sid", ADMIN1, b"admin")
        host.set_range(b"admin", 1, FIRST, LAST - FIRST + 1)
        host.add_user(b"admin", 1, b"user", 1)
        self.pins[uids.user(1)] = {b"user"}
        self.set_up = True
        for before, data in ((bytes(4096), OLD), (OLD, NEW)):
            self.data = {before, data[:2048] + before[2048:], data}  # a write of many blocks may be torn
            drive.write(FIRST, data)
        host.lock(uids.user(1), b"user", 1, locked=True)
        host.lock(uids.user(1), b"user", 1, locked=False)
        with self.changing(uids.user(1), b"user2"):
            host.set_pin(uids.user(1), b"user", uids.user(1), b"user2")
        with self.changing(ADMIN1, b"admin2"):
            host.set_pin(ADMIN1, b"admin", ADMIN1, b"admin2")
        with self.changing(uids.SID, b"sid2"):
            host.set_sid_pin(b"sid", b"sid2")
        self.set_up = False  # from here on data goes
        host.generate_key(b"admin2", 1)
        self.reverting = True
        host.revert_locking_sp(b"admin2")
        host.activate(b"sid2")
        self.pins[uids.SID].add(FACTORY)
        host.revert(uids.SID, b"sid2")


class FailingStore(MemoryStore):
    """Loses power right before the n-th save, so that the old state stays."""

    def __init__(self) -> None:
        super().__init__()
        self.saves = 0
        self.fail_at = 0

    def save(self, text: str) -> None:
        self.saves += 1
        if self.saves == self.fail_at:
            raise PowerCut("before a save")
        super().save(text)


def test_every_power_cut_leaves_a_drive_that_opens(tmp_path: Path) -> None:
    made = model((), 16 << 20)
    media = Media(tmp_path / "cut.img", made)
    whole, counted = Owner(Drive(FailingStore(), media, made)), FailingStore()
    whole.live()
    steps = whole.drive.power.steps
    assert len(steps) > 40
    assert {"revert: media keys replaced", "revert: byte tables emptied", "write: torn", "write"} <= set(steps)
    for cut in range(1, len(steps) + 1):
        media.zero(FIRST, 8)
        store = MemoryStore()
        owner = Owner(Drive(store, media, made, power=Power(cut)))
        with pytest.raises(PowerCut, match=steps[cut - 1]):
            owner.live()
        _check(owner, Drive(store, media, made), f"cut {cut} after {steps[cut - 1]}")
    media.zero(FIRST, 8)
    Owner(Drive(counted, media, made)).live()
    for save in range(3, counted.saves + 1):  # the first two make the drive
        media.zero(FIRST, 8)
        store = FailingStore()
        owner = Owner(Drive(store, media, made))
        store.fail_at = save
        with pytest.raises(PowerCut):
            owner.live()
        _check(owner, Drive(store, media, made), f"before save {save}")
    media.close()


def _check(owner: Owner, drive: Drive, why: str) -> None:
    """Look at a drive that has power again."""
    host, msid = OpalHost(InProcess(drive)), drive.state.identity.msid
    sid_pins = {msid if pin == FACTORY else pin for pin in owner.pins[uids.SID]}
    assert sum(host.accepts(uids.ADMIN_SP, uids.SID, pin) for pin in sorted(sid_pins)) == 1, why
    drive.power_cycle()
    if drive.state.active and not owner.reverting:
        candidates = owner.pins.get(ADMIN1, {b"sid"})
        working = [pin for pin in sorted(candidates) if host.accepts(uids.LOCKING_SP, ADMIN1, pin)]
        assert len(working) == 1, why
        if owner.set_up:
            _check_data(owner, drive, host, why)
    if not drive.state.active and not owner.set_up and owner.reverting:
        assert NEW not in drive.read(FIRST, 8), why
    if not drive.state.owned:
        assert not drive.state.active, why
    host.revert(uids.PSID, drive.state.identity.psid)
    assert host.accepts(uids.ADMIN_SP, uids.SID, msid), why


def _check_data(owner: Owner, drive: Drive, host: OpalHost, why: str) -> None:
    """The range is locked after the cut, and unlocked by the user its data is all there."""
    with pytest.raises(AccessDenied):
        drive.read(FIRST, 8)
    working = [pin for pin in sorted(owner.pins[uids.user(1)]) if host.accepts(uids.LOCKING_SP, uids.user(1), pin)]
    assert len(working) == 1, why
    host.lock(uids.user(1), working[0], 1, locked=False)
    assert drive.read(FIRST, 8) in owner.data, why


def test_no_cut_leaves_a_free_drive_that_still_holds_data(tmp_path: Path) -> None:
    made = model((), 16 << 20)
    media = Media(tmp_path / "revert.img", made)
    for cut in range(1, 4):
        store = MemoryStore()
        bench = Owner(Drive(store, media, made))
        bench.host.set_sid_pin(bench.host.msid(), b"sid")
        bench.host.activate(b"sid")
        bench.drive.write(0, NEW)
        bench.drive.power.cut_after_next(1 + cut)  # after StartSession
        with pytest.raises(PowerCut):
            bench.host.revert(uids.SID, b"sid")
        after = Drive(store, media, made)
        assert after.read(0, 8) != NEW
        assert after.state.owned is (cut < 3)
        interrupted = OpalHost(InProcess(after)).discovery()[0x404][1]
        assert interrupted == (2 if cut < 3 else 0)
    media.close()


def test_pyrite_2_overwrites_before_it_lets_go(tmp_path: Path) -> None:
    made: Model = model((Fault.PYRITE,), 16 << 20)
    media = Media(tmp_path / "pyrite.img", made)
    store = MemoryStore()
    owner = Owner(Drive(store, media, made))
    owner.host.set_sid_pin(owner.host.msid(), b"sid")
    owner.host.activate(b"sid")
    for block in (0, made.blocks - 8):
        owner.drive.write(block, NEW)
    owner.drive.power.cut_after_next(2)
    with pytest.raises(PowerCut, match="half"):
        owner.host.revert(uids.SID, b"sid")
    after = Drive(store, media, made)
    assert after.state.owned
    assert [after.read(block, 8) == NEW for block in (0, made.blocks - 8)] == [False, True]
    media.close()


def test_power_cycle_locks_what_lock_on_reset_names(owned: Bench) -> None:
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        session.set(uids.locking_range(1), {Lock.WRITE_ENABLED: 0})
    owned.drive.power_cycle()
    with owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin") as session:
        assert session.get(uids.locking_range(1), 5, 8) == {5: 1, 6: 0, 7: 1, 8: 0}
    owned.drive.write(FIRST, NEW)


def test_power_cycle_ends_the_session(owned: Bench) -> None:
    session = owned.host.start(uids.LOCKING_SP, ADMIN1, b"admin")
    owned.drive.power_cycle()
    assert session.exchange(b"\xfa") == b""
    owned.host.start(uids.LOCKING_SP).close()
