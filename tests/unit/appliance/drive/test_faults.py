"""The life of drives with faults: whole where that is possible, and else an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.drive import erase, own, pending, rotate
from appliance.drive.drive import Drive
from appliance.drive.kinds import Kind, judge
from appliance.drive.luks import Mode
from custody.errors import DriveFailed, IntegrityFailure, SecretRefused, TargetRefused
from tests.opal_drive.faults import Fault
from tests.unit.appliance.drive.emulated import SIZE_BYTES, EmulatedSed, Machine

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
    own.own(drive, mode, WANTED, FIRST)
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
            own.own(drive, Mode.BOTH, WANTED, FIRST)
        assert caught.value.hint
        drive = machine.power_cycle()
    assert machine.drive.state.admin.changes == before
    assert not drive.luks.exists
    assert drive.pending.what == "own"
    erase.revert(drive, psid=machine.psid)
    # The same call goes on with what it had written down.
    (planned,) = machine.escrowed()
    own.own(machine.power_cycle(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    assert machine.escrowed()[-1].sid == planned.sid
    use(machine, drive, FIRST)
    assert data(drive, FIRST) == DATA


def test_a_drive_that_is_locked_out_while_ours_is_rotated_after_a_power_cycle(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
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
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
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
    own.own(drive, Mode.BOTH, WANTED, FIRST)
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
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    use(machine, drive, FIRST)
    secrets = machine.escrowed()[-1]
    kept = {at: drive.sed.read(at) for at in range(0, SIZE_BYTES, 4096)}
    monkeypatch.setattr(EmulatedSed, "read", lambda _self, at, _length=4096: kept[at])
    with pytest.raises(DriveFailed, match=r"expected noise where data were, found \d+ of \d+ blocks as they were"):
        erase.decommission(drive, SIZE_BYTES, sid=secrets.sid, admin=secrets.admin, folder=machine.folder / "erase")


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


def test_a_drive_that_holds_nothing_proves_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with pytest.raises(DriveFailed, match="no block that held anything"):
        erase.decommission(machine.boot(), SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")


def test_rotation_whose_passphrases_somebody_took_out_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
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
    own.own(machine.boot(), Mode.BOTH, WANTED, FIRST)
    drive = machine.power_cycle()
    rotate.rotate(drive, machine.escrowed()[-1], FIRST, SECOND)
    return machine.power.steps
