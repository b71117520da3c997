"""The life of drives with faults: whole where that is possible, and else an error that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.drive import erase, own, pending, rotate
from appliance.drive.drive import Drive
from appliance.drive.kinds import Kind, judge
from appliance.drive.luks import Mode
from custody.errors import DriveFailed, IntegrityFailure, SecretRefused, TargetRefused
from tests.opal_drive import uids
from tests.opal_drive.faults import Fault
from tests.opal_drive.tables import Mbr
from tests.unit.appliance.drive.emulated import SIZE_BYTES, EmulatedSed, Machine, take_over

FIRST, SECOND = "first passphrase", "second passphrase"
DATA = b"what nobody but the site may read".ljust(4096, b".")
WANTED = own.Wanted(Mode.BOTH)
_ALL = (Fault.FOUR_KN, Fault.MISALIGNED, Fault.NO_SHADOW_MBR, Fault.NO_PSID)
WHOLE_LIVES = [
    ((Fault.FOUR_KN,), Mode.BOTH),
    ((Fault.BOGUS_GEOMETRY,), Mode.BOTH),
    ((Fault.MISALIGNED,), Mode.BOTH),
    ((Fault.NO_SHADOW_MBR,), Mode.BOTH),
    ((Fault.NO_PSID,), Mode.BOTH),
    (_ALL, Mode.OPAL),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of guessing a passphrase is not what is tested here."""
    monkeypatch.setattr(pending, "_COST", {"n": 2, "r": 8, "p": 1})


def use(machine: Machine, drive: Drive, passphrase: str) -> None:
    at = drive.luks.header().data_offset
    drive.luks.open(passphrase, "airgap-data")
    machine.drive.write(at // machine.drive.model.block_bytes, DATA)
    drive.luks.close("airgap-data")


def data(drive: Drive, passphrase: str) -> bytes | None:
    drive.luks.open(passphrase, "airgap-data")
    try:
        return drive.sed.read(drive.luks.header().data_offset)
    finally:
        drive.luks.close("airgap-data")


def judged(drive: Drive) -> Kind:
    return judge(drive.sed.discover()).kind


@pytest.mark.parametrize(
    ("faults", "mode"), WHOLE_LIVES, ids=["4kn", "bogus", "misaligned", "no-mbr", "no-psid", "all"]
)
def test_a_whole_life(tmp_path: Path, faults: tuple[Fault, ...], mode: Mode) -> None:
    machine = Machine(tmp_path, faults)
    drive = machine.boot()
    assert judged(drive) is Kind.FACTORY
    take_over(drive, mode, WANTED, FIRST)
    use(machine, drive, FIRST)
    assert DATA[:16] not in machine.image.read_bytes()

    drive = machine.power_cycle()
    assert judged(drive) is Kind.OWNED
    assert drive.sed.read(drive.luks.header().data_offset) is None
    assert data(drive, FIRST) == DATA

    rotate.rotate(drive, machine.escrowed()[-1], FIRST, SECOND)
    drive = machine.power_cycle()
    assert data(drive, SECOND) == DATA
    assert not drive.luks.takes(FIRST)

    at = drive.luks.header().data_offset
    secrets = machine.escrowed()[-1]
    seen = erase.decommission(drive, SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=machine.folder / "erase")
    assert seen.compared >= 2
    assert seen.unchanged == 0
    assert judged(machine.power_cycle()) is Kind.FACTORY
    assert machine.boot().sed.read(at) not in (None, DATA)


def test_a_locked_out_drive_is_told_and_left_alone_and_its_label_brings_it_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, (Fault.LOCKOUT,))
    drive = machine.boot()
    before = machine.drive.state.admin.changes
    for _ in range(2):  # the count outlives power
        with pytest.raises(SecretRefused, match="no try is left until power goes") as caught:
            take_over(drive, Mode.BOTH, WANTED, FIRST)
        assert caught.value.hint
        drive = machine.power_cycle()
    assert machine.drive.state.admin.changes == before
    assert not drive.luks.exists
    assert drive.pending.what == "own"
    erase.revert(drive, psid=machine.psid)
    # The same call goes on with what it had written down.
    (planned,) = machine.escrowed()
    take_over(machine.power_cycle(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    assert machine.escrowed()[-1].sid == planned.sid
    use(machine, drive, FIRST)
    assert data(drive, FIRST) == DATA


def test_a_drive_that_is_locked_out_while_ours_is_rotated_after_a_power_cycle(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    take_over(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    use(machine, drive, FIRST)
    for _ in range(5):
        with pytest.raises(SecretRefused):
            drive.sed.check_sid(b"guess")
    secrets = machine.escrowed()[-1]
    with pytest.raises(SecretRefused, match="no try is left until power goes"):
        rotate.rotate(drive, secrets, FIRST, SECOND)
    assert not drive.pending.what
    drive = machine.power_cycle()
    rotate.rotate(drive, secrets, FIRST, SECOND)
    assert data(machine.power_cycle(), SECOND) == DATA


def test_without_a_label_a_lost_pin_is_a_lost_drive_and_nothing_is_done_to_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, (Fault.NO_PSID,))
    take_over(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    use(machine, drive, FIRST)
    for call in (
        lambda: erase.revert(drive, psid=machine.psid),
        lambda: erase.decommission(drive, SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase"),
    ):
        with pytest.raises(SecretRefused, match="reverting as PSID"):
            call()
    assert data(machine.power_cycle(), FIRST) == DATA


@pytest.mark.parametrize("psid", [True, False])
def test_a_drive_with_sid_blocked_is_not_taken_out_of_service_as_if_it_were_a_plain_disk(
    tmp_path: Path, psid: bool
) -> None:
    """Its keys could be made anew: destroying a header and calling that the drive's end would be less than it can."""
    machine = Machine(tmp_path, (Fault.BLOCK_SID,))
    drive = machine.boot()
    machine.drive.write(0, DATA)
    with pytest.raises(TargetRefused, match="the BIOS blocked SID") as caught:
        erase.decommission(drive, SIZE_BYTES, psid=machine.psid if psid else "", folder=machine.folder / "erase")
    assert "Block SID" in caught.value.hint
    assert drive.sed.read(0) == DATA
    machine.drive.bios_blocks_sid = False
    seen = erase.decommission(machine.power_cycle(), SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")
    assert (seen.compared, seen.unchanged) == (1, 0)


def test_a_header_of_somebody_elses_does_not_keep_a_drive_in_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    drive = machine.boot()
    take_over(drive, Mode.BOTH, WANTED, FIRST)
    use(machine, drive, FIRST)
    secrets = machine.escrowed()[-1]

    def not_ours(_self: object) -> None:
        raise IntegrityFailure("a header that we do not write", "")

    monkeypatch.setattr("tests.unit.appliance.drive.emulated.EmulatedLuks.header", not_ours)
    seen = erase.decommission(
        machine.power_cycle(), SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=machine.folder / "erase"
    )
    assert seen.compared
    assert seen.unchanged == 0


def test_a_drive_that_keeps_its_data_is_never_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    take_over(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    use(machine, drive, FIRST)
    secrets = machine.escrowed()[-1]
    kept = {at: drive.sed.read(at) for at in range(0, SIZE_BYTES, 4096)}
    monkeypatch.setattr(EmulatedSed, "read", lambda _self, at, _length=4096: kept[at])
    with pytest.raises(DriveFailed, match=r"expected nothing of what .* found \d+ of \d+ blocks as they were"):
        erase.decommission(drive, SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=machine.folder / "erase")


@pytest.mark.parametrize("with_admin", [True, False])
def test_what_was_locked_is_counted_and_not_called_compared(tmp_path: Path, with_admin: bool) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    use(machine, machine.power_cycle(), FIRST)
    secrets, folder = machine.escrowed()[-1], machine.folder / "erase"
    proof = {"sid": secrets.sid, "admin": secrets.admin} if with_admin else {"psid": machine.psid}
    seen = erase.decommission(machine.power_cycle(), SIZE_BYTES, **proof, folder=folder)
    assert (seen.places, seen.unchanged) == (1296, 0)
    assert (seen.locked, seen.compared, seen.compared_data) == ((0, 2, 1) if with_admin else (1280, 1, 0))


def test_a_shadow_mbr_is_not_taken_for_data(tmp_path: Path) -> None:
    """Somebody else's drive: what can be read of it is their program that asks for a PIN."""
    machine = Machine(tmp_path)
    host = EmulatedSed(machine.drive).host
    host.set_sid_pin(host.msid(), b"theirs")
    host.activate(b"theirs")
    with host.start(uids.LOCKING_SP, uids.admin(1), b"theirs") as session:
        session.set_bytes(uids.MBR_TABLE, 0, b"unlock first".ljust(4096, b"."))
        session.set(uids.MBR_CONTROL, {Mbr.ENABLE: 1})
    seen = erase.decommission(machine.power_cycle(), SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")
    assert (seen.compared, seen.compared_data, seen.unchanged) == (1, 0, 0)


def test_what_is_locked_after_the_revert_is_not_called_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    reads = EmulatedSed.read

    def locks(self: EmulatedSed, at: int, length: int = 4096) -> bytes | None:
        return reads(self, at, length) if machine.drive.state.active else None

    monkeypatch.setattr(EmulatedSed, "read", locks)
    with pytest.raises(DriveFailed, match="1 of 1 blocks as they were, or locked"):
        erase.decommission(drive, SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")


def test_a_decommission_that_fails_leaves_the_data_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    use(machine, drive, FIRST)
    secrets, at = machine.escrowed()[-1], drive.luks.header().data_offset

    def fails(_self: object, _sid: bytes) -> None:
        raise DriveFailed("reverting as SID", "")

    def dies(_self: object, _at: int, _length: int = 4096) -> bytes:
        raise DriveFailed("reading", "")

    for broken in ({"read": dies}, {"revert": fails}):
        with monkeypatch.context() as patch, pytest.raises(DriveFailed):
            for name, function in broken.items():
                patch.setattr(EmulatedSed, name, function)
            erase.decommission(drive, SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=machine.folder / "erase")
        assert drive.sed.read(at) is None
    assert data(drive, FIRST) == DATA


def test_a_drive_that_holds_nothing_proves_nothing_and_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    drive = machine.boot()
    with pytest.raises(TargetRefused, match="found none; of 1024 looked at 0 are locked, the others empty") as caught:
        erase.decommission(drive, SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")
    assert caught.value.hint == "airgap drive revert OPAL0001, which certifies nothing"
    assert not machine.power.steps[1:]  # it was told that it is read, and no more
    assert not (machine.folder / "erase").exists()
    # Taken over and used later, it is taken out of service as any other.
    own.own(machine.power_cycle(), Mode.BOTH, WANTED, FIRST)
    use(machine, machine.power_cycle(), FIRST)
    secrets = machine.escrowed()[-1]
    seen = erase.decommission(
        machine.power_cycle(), SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=machine.folder / "erase"
    )
    assert seen.compared >= 2


def test_a_drive_that_is_locked_throughout_is_refused_before_it_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its label it would be reverted; that its data are gone nobody would have seen."""
    machine = Machine(tmp_path, (Fault.OWNED_BY_OTHERS,))
    drive = machine.boot()
    monkeypatch.setattr(EmulatedSed, "read", lambda _self, _at, _length=4096: None)
    before = str(machine.drive.state.admin.changes)
    with pytest.raises(TargetRefused, match="of 1024 looked at 1024 are locked") as caught:
        erase.decommission(drive, SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")
    assert "airgap drive revert OPAL0001, which certifies nothing" in caught.value.hint
    assert "--secrets" in caught.value.hint
    assert judged(drive) is Kind.OWNED
    assert str(machine.drive.state.admin.changes) == before
    assert not (machine.folder / "erase").exists()


@pytest.mark.parametrize("wrong", [{"psid": "0" * 32}, {"sid": "0" * 32}], ids=["psid", "sid"])
def test_a_decommission_that_was_refused_says_nothing_of_the_next(tmp_path: Path, wrong: dict[str, str]) -> None:
    """What it saw of the data, or did not see, is no measure of what a later one finds."""
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    use(machine, machine.power_cycle(), FIRST)
    folder = machine.folder / "erase"
    with pytest.raises(SecretRefused):
        erase.decommission(machine.power_cycle(), SIZE_BYTES, **wrong, folder=folder)
    assert not list(folder.glob("*"))
    secrets = machine.escrowed()[-1]
    seen = erase.decommission(machine.power_cycle(), SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=folder)
    assert (seen.compared, seen.unchanged) == (2, 0)  # the header and the file


def test_a_wrong_pin_of_sid_is_refused_before_the_data_are_unlocked(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive, secrets = machine.power_cycle(), machine.escrowed()[-1]
    before = str(machine.drive.state.locking.changes)
    with pytest.raises(SecretRefused, match="session as SID"):
        erase.decommission(drive, SIZE_BYTES, sid="0" * 32, admin=secrets.admin, folder=machine.folder / "erase")
    assert machine.power.steps == ["StartSession"]  # refused, and nothing after it
    assert str(machine.drive.state.locking.changes) == before


def test_what_was_kept_of_a_former_life_is_no_measure_of_this_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    use(machine, machine.power_cycle(), FIRST)
    kept = machine.folder / "erase" / "OPAL0001.erase"
    kept.parent.mkdir()
    # As a decommission by the label left it: nothing of the data was seen.
    kept.write_text(json.dumps({"0": "0" * 64, str(1 << 20): "locked"}))
    secrets = machine.escrowed()[-1]
    seen = erase.decommission(
        machine.power_cycle(), SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=kept.parent
    )
    assert (seen.places, seen.compared) == (1296, 2)


def test_a_drive_that_cannot_be_asked_for_sid_is_decommissioned_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SATA: the kernel reverts it, and SID's PIN can be tried in no other way."""
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive, secrets = machine.power_cycle(), machine.escrowed()[-1]
    monkeypatch.setattr(drive.sed, "device", Path("/dev/sda"))
    discover = EmulatedSed(machine.drive).discover
    monkeypatch.setattr(EmulatedSed, "discover", lambda _self: discover())
    folder = machine.folder / "erase"
    with pytest.raises(SecretRefused, match="reverting as SID"):
        erase.decommission(drive, SIZE_BYTES, sid="0" * 32, admin=secrets.admin, folder=folder)
    assert not list(folder.iterdir())
    assert erase.decommission(drive, SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=folder).compared


def test_rotation_whose_passphrases_somebody_took_out_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    take_over(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    secrets = machine.escrowed()[-1]
    places = [n for n, told in enumerate(_steps(tmp_path / "other")) if "adding key slot" in told]
    machine.power.cut_after_next(places[0] + 1)
    with pytest.raises(BaseException, match="adding key slot"):
        rotate.rotate(drive, secrets, FIRST, SECOND)
    drive = machine.power_cycle()
    drive.luks.remove(0)
    with pytest.raises(SecretRefused, match="opens it"):
        rotate.rotate(drive, secrets, FIRST, SECOND)


def _steps(folder: Path) -> list[str]:
    """What a rotation tells and does, in order."""
    folder.mkdir()
    machine = Machine(folder)
    take_over(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    rotate.rotate(drive, machine.escrowed()[-1], FIRST, SECOND)
    return machine.power.steps
