"""A drive's whole life, cut off at every place: the escrow always opens it, data stay, a second run goes on."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.drive import certificate, erase, own, pending, rotate, unattended
from appliance.drive.disks import Disk
from appliance.drive.drive import Drive
from appliance.drive.escrow import Secrets
from appliance.drive.kinds import Kind, judge
from appliance.drive.luks import Mode
from appliance.drive.unattended import Sealed
from custody import atomic
from custody.errors import DriveFailed, ProgramFailed, SecretRefused, TargetRefused
from custody.trust.keys import PrivateKey
from tests.opal_drive import uids
from tests.opal_drive.faults import Fault
from tests.opal_drive.power import PowerCut
from tests.unit.appliance.drive.emulated import (
    ADMIN1,
    DATA_OFFSET,
    SERIAL,
    SIZE_BYTES,
    EmulatedLuks,
    EmulatedSed,
    Machine,
    take_over,
)

FIRST, SECOND = "first passphrase", "second passphrase"
#: What a user wrote; nobody may find it on the medium.
DATA = b"what nobody but the site may read".ljust(4096, b".")
WANTED = own.Wanted(Mode.BOTH, psid="the label's")
HOST_KEY = PrivateKey.generate()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of guessing a passphrase is not what is tested here."""
    monkeypatch.setattr(pending, "_COST", {"n": 2, "r": 8, "p": 1})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A host with a new drive."""
    return Machine(tmp_path)


def set_up(drive: Drive) -> None:
    take_over(drive, Mode.BOTH, WANTED, FIRST)


def use(drive: Drive, passphrase: str = FIRST) -> None:
    """Open the volume, write, close it."""
    drive.luks.open(passphrase, "airgap-data")
    emulated = _emulated(drive)
    emulated.write(DATA_OFFSET // emulated.model.block_bytes, DATA)
    drive.luks.close("airgap-data")


def data(drive: Drive, passphrase: str) -> bytes | None:
    """What lies at the start of the volume."""
    drive.luks.open(passphrase, "airgap-data")
    found = drive.sed.read(DATA_OFFSET)
    drive.luks.close("airgap-data")
    return found


def _emulated(drive: Drive) -> EmulatedSed:
    assert isinstance(drive.sed, EmulatedSed)
    return drive.sed.drive  # type: ignore[return-value]


def opens(machine: Machine, known: list[Secrets]) -> None:
    """The escrow opens the drive: one of its sets, or the PIN of a new drive, is in force for each authority."""
    host = EmulatedSed(machine.drive).host
    new = [host.msid()] if machine.drive.state.identity.msid else []
    sid = [s.sid.encode() for s in known] + new
    # Each question counts as a try: a power cycle between the questions gives them back.
    assert any(_accepted(machine, uids.ADMIN_SP, uids.SID, pin) for pin in sid)
    if machine.drive.state.active:
        admin = [pin.encode() for s in known for pin in (s.admin, s.sid)]
        assert any(_accepted(machine, uids.LOCKING_SP, ADMIN1, pin) for pin in admin)


def _accepted(machine: Machine, sp: bytes, who: bytes, pin: bytes) -> bool:
    machine.drive.power_cycle()
    return EmulatedSed(machine.drive).host.accepts(sp, who, pin)


def steps(machine: Machine, action: Callable[[Drive], None]) -> int:
    """How many places there are to cut an action off."""
    drive = machine.power_cycle()
    action(drive)
    return len(machine.power.steps)


def test_a_new_drive_becomes_ours_and_locks(machine: Machine) -> None:
    drive = machine.boot()
    assert own.choose_mode(drive, own.Wanted(None)) is Mode.BOTH if _cryptsetup() else True
    set_up(drive)
    use(drive)
    assert drive.sed.read(DATA_OFFSET) is None
    (secrets,) = machine.escrowed()
    assert (secrets.psid, secrets.passphrase) == ("the label's", "")
    assert drive.luks.takes(secrets.recovery_key)
    assert not drive.pending.what
    assert judge(drive.sed.discover()).kind is Kind.OWNED
    opens(machine, [secrets])
    assert DATA[:16] not in machine.image.read_bytes()


def _cryptsetup() -> bool:
    from appliance.drive import luks

    try:
        luks.require(Mode.BOTH)
    except Exception:
        return False
    return True


def test_taking_over_is_cut_off_everywhere(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    places = steps(Machine(tmp_path / "whole"), set_up)
    assert places > 20
    for place in range(1, places + 1):
        (tmp_path / str(place)).mkdir()
        machine = Machine(tmp_path / str(place))
        drive = machine.boot()
        machine.power.cut_after_next(place)
        with pytest.raises(PowerCut):
            set_up(drive)
        machine.power_cycle()
        opens(machine, machine.escrowed())
        drive = machine.power_cycle()
        # What `prepare` does: a finished volume is opened, an unfinished one taken over again.
        if drive.pending.what or not drive.luks.exists:
            set_up(drive)
        use(drive)
        assert data(drive, FIRST) == DATA
        newest = machine.escrowed()[-1]
        assert drive.luks.takes(newest.recovery_key)
        opens(machine, [newest])
        assert not list((machine.folder / "escrow").glob("*-planned*"))


def test_rotation_is_cut_off_everywhere_and_keeps_the_data(tmp_path: Path) -> None:
    def life(folder: Path) -> tuple[Machine, Callable[[Drive], None]]:
        folder.mkdir()
        machine = Machine(folder)
        set_up(machine.boot())
        use(machine.power_cycle())
        old = machine.escrowed()[-1]
        return machine, lambda drive: rotate.rotate(drive, old, FIRST, SECOND)

    machine, action = life(tmp_path / "whole")
    places = steps(machine, action)
    assert places > 10
    for place in range(1, places + 1):
        machine, action = life(tmp_path / str(place))
        drive = machine.power_cycle()
        machine.power.cut_after_next(place)
        with pytest.raises(PowerCut):
            action(drive)
        drive = machine.power_cycle()
        assert any(data(drive, passphrase) == DATA for passphrase in (FIRST, SECOND) if drive.luks.takes(passphrase))
        opens(machine, machine.escrowed())
        drive = machine.power_cycle()
        if drive.pending.what or drive.luks.takes(FIRST):
            action(drive)
        assert data(drive, SECOND) == DATA
        assert not drive.luks.takes(FIRST)
        newest = machine.escrowed()[-1]
        assert drive.luks.takes(newest.recovery_key)
        assert len(drive.luks.header().slots) == 2
        opens(machine, [newest])


def test_decommissioning_is_cut_off_everywhere_and_leaves_noise_and_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def life(folder: Path) -> tuple[Machine, Callable[[Drive], dict[str, object]]]:
        folder.mkdir()
        machine = Machine(folder)
        set_up(machine.boot())
        use(machine.power_cycle())
        own_secrets = machine.escrowed()[-1]
        disk = Disk(Path("/dev/nvme9n1"), SERIAL, "Emulated", SIZE_BYTES, False, ())

        def write_whole(path: Path, content: bytes, **others: int) -> None:
            """As it is, with a place to cut before and after."""
            machine.power.step(f"file: {path.name} not there")
            atomic.write_whole(path, content, **others)
            machine.power.step(f"file: {path.name} there")

        for module in (erase, certificate):
            monkeypatch.setattr(module, "write_whole", write_whole)

        def action(drive: Drive) -> dict[str, object]:
            """What the command does; returns the statement but for its time."""
            seen = erase.decommission(
                drive, SIZE_BYTES, sid=own_secrets.sid, admin=own_secrets.admin, folder=folder / "erase"
            )
            told = certificate.certify(disk, seen, "host", HOST_KEY)
            certificate.write(told, HOST_KEY, folder)
            erase.end(drive, folder=folder / "erase")
            return statement(folder)

        return machine, action

    machine, action = life(tmp_path / "whole")
    drive = machine.power_cycle()
    whole = action(drive)
    places = len(machine.power.steps)
    seen = whole["erased"]
    assert isinstance(seen, dict)
    assert seen["unchanged"] == 0
    assert seen["compared"] == 2  # the header and the file
    assert places > 15
    assert machine.power.steps[-1] == "told: /dev/nvme9n1: forgetting what was kept of it here"
    for place in range(1, places + 1):
        machine, action = life(tmp_path / str(place))
        drive = machine.power_cycle()
        machine.power.cut_after_next(place)
        with pytest.raises(PowerCut):
            action(drive)
        drive = machine.power_cycle()
        assert action(drive) == whole
        assert judge(drive.sed.discover()).kind is Kind.FACTORY
        assert drive.sed.read(DATA_OFFSET) not in (None, DATA)
        assert not list((machine.folder / "erase").iterdir())


@pytest.mark.parametrize("place", [1, 2])
def test_a_host_that_stays_up_unlocks_a_drive_that_lost_power(machine: Machine, place: int) -> None:
    """After the session began, or after its one command: then the kernel has the session's numbers, and keeps them."""
    set_up(machine.boot())
    drive, admin = machine.power_cycle(), machine.escrowed()[-1].admin.encode()
    for switch in (drive.sed.unlock, drive.sed.lock):
        machine.power.cut_after_next(place)
        with pytest.raises(PowerCut):
            switch(admin, 1)
        machine.drive.power_cycle()
        switch(admin, 1)


def statement(folder: Path) -> dict[str, object]:
    """What a certificate says, but for its time."""
    signed = json.loads((folder / f"{SERIAL}-decommissioned.dsse.json").read_bytes())
    told: dict[str, object] = json.loads(base64.b64decode(signed["payload"]))
    assert (folder / f"{SERIAL}-decommissioned.pdf").exists()
    del told["time"]
    return told


def test_a_host_that_is_younger_than_its_drive_goes_on_counting(machine: Machine) -> None:
    """Its own disk was replaced: which copy of the escrow is the newest must not become a riddle."""
    set_up(machine.boot())
    rotate.rotate(machine.power_cycle(), machine.escrowed()[-1], FIRST, SECOND)
    newest = machine.escrowed()[-1]
    assert newest.number == 2
    for folder in ("escrow", "pending"):
        shutil.rmtree(machine.folder / folder)
    rotate.rotate(machine.power_cycle(), newest, SECOND, FIRST)
    assert machine.escrowed()[-1].number == 3
    assert (machine.folder / "escrow" / "OPAL0001-0003.cms").exists()


def test_what_is_not_taken_over_to_its_end_is_not_rotated(machine: Machine) -> None:
    drive = machine.boot()
    own.own(drive, Mode.BOTH, WANTED, FIRST)
    with pytest.raises(TargetRefused, match="there is nothing to rotate yet") as caught:
        rotate.rotate(drive, machine.escrowed()[-1], FIRST, SECOND)
    assert caught.value.hint == "airgap install"


def test_new_pins_are_proven_before_the_old_escrow_goes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that says yes and keeps its old PIN."""
    set_up(machine.boot())
    drive, old = machine.power_cycle(), machine.escrowed()[-1]
    monkeypatch.setattr(EmulatedSed, "set_sid", lambda _self, _old, _new: None)
    with pytest.raises(SecretRefused):
        rotate.rotate(drive, old, FIRST, SECOND)
    assert drive.pending.what == "rotate"
    opens(machine, machine.escrowed())


class Tpm(Sealed):
    """A sealed key in a dictionary, or a TPM that is gone."""

    def __init__(self, keys: dict[str, str], works: bool = True) -> None:
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "works", works)

    @property
    def exists(self) -> bool:
        return "key" in self.keys  # type: ignore[attr-defined]

    def key(self) -> str | None:
        return self.keys.get("key")  # type: ignore[attr-defined, no-any-return]

    def write(self, key: str) -> None:
        if not self.works:  # type: ignore[attr-defined]
            raise ProgramFailed("systemd-creds: no TPM", "")
        self.keys["key"] = key  # type: ignore[attr-defined]

    def forget(self) -> None:
        self.keys.clear()  # type: ignore[attr-defined]


def test_a_rotation_seals_a_new_key_and_the_escrowed_header_takes_it(machine: Machine) -> None:
    set_up(machine.boot())
    drive, keys = machine.power_cycle(), dict[str, str]()
    unattended.seal(drive.luks, FIRST, Tpm(keys))
    before = keys["key"]
    rotate.rotate(drive, machine.escrowed()[-1], FIRST, SECOND, sealed=Tpm(keys))
    assert keys["key"] != before and not drive.luks.takes(before)
    assert drive.luks.takes(keys["key"], unattended.SLOT)
    (backup,) = (machine.folder / "escrow").glob("*-0002.header.cms")
    assert machine.decrypt(backup) == drive.luks.backup()

    # A TPM that fails keeps nothing from being changed, and it is said.
    with pytest.raises(ProgramFailed, match="every secret is changed; the TPM sealed no key") as caught:
        rotate.rotate(drive, machine.escrowed()[-1], SECOND, FIRST, sealed=Tpm(keys, works=False))
    assert "airgap drive seal" in caught.value.hint
    assert drive.luks.takes(FIRST) and not drive.luks.takes(SECOND) and not drive.pending.what
    assert unattended.SLOT not in drive.luks.header().slots


def test_a_wrong_pin_changes_nothing(machine: Machine) -> None:
    set_up(machine.boot())
    drive = machine.power_cycle()
    use(drive)
    good = machine.escrowed()[-1]
    wrong = Secrets(good.serial, good.model, sid=good.sid, admin="A" * 32)
    before, header = machine.drive.state.owned, drive.luks.backup()
    files = sorted(path.name for path in (machine.folder / "escrow").iterdir())
    for action in (
        lambda: rotate.rotate(drive, wrong, FIRST, SECOND),
        lambda: rotate.rotate(drive, Secrets(good.serial, "", sid="B" * 32, admin=good.admin), FIRST, SECOND),
        lambda: rotate.rotate(drive, good, "not this one", SECOND),
        lambda: erase.revert(drive, sid="C" * 32),
        lambda: erase.revert(drive, psid="D" * 32),
    ):
        with pytest.raises(SecretRefused):
            action()
    assert (machine.drive.state.owned, drive.luks.backup()) == (before, header)
    assert sorted(path.name for path in (machine.folder / "escrow").iterdir()) == files
    assert not drive.pending.what
    assert data(drive, FIRST) == DATA


@pytest.mark.parametrize("fault", [Fault.BLOCK_SID, Fault.OWNED_BY_OTHERS, Fault.PYRITE, Fault.PYRITE_1])
@pytest.mark.parametrize("mode", [Mode.BOTH, Mode.OPAL])
def test_a_drive_that_is_not_new_is_refused_and_left_alone(tmp_path: Path, fault: Fault, mode: Mode) -> None:
    machine = Machine(tmp_path, (fault,))
    drive = machine.boot()
    steps_before = list(machine.power.steps)
    with pytest.raises(TargetRefused, match="expected an Opal 2 drive") as caught:
        own.choose_mode(drive, own.Wanted(mode))
    assert caught.value.hint
    assert machine.power.steps == steps_before


@pytest.mark.parametrize("fault", [Fault.BLOCK_SID, Fault.OWNED_BY_OTHERS])
def test_automatic_never_means_without_the_drive(tmp_path: Path, fault: Fault) -> None:
    with pytest.raises(TargetRefused):
        own.choose_mode(Machine(tmp_path, (fault,)).boot(), own.Wanted(None))


def test_dm_crypt_alone_does_not_take_a_locked_drive(machine: Machine) -> None:
    set_up(machine.boot())
    drive = machine.power_cycle()
    for pin in ("", "theirs"):
        with pytest.raises(TargetRefused, match="expected a drive that can be written, found owned, locked"):
            own.choose_mode(drive, own.Wanted(Mode.LUKS, owned_pin=pin))


@pytest.mark.parametrize("fault", [Fault.PYRITE, Fault.PYRITE_1])
def test_automatic_takes_dm_crypt_where_the_drive_cannot(tmp_path: Path, fault: Fault) -> None:
    drive = Machine(tmp_path, (fault,)).boot()
    assert own.choose_mode(drive, own.Wanted(None)) is Mode.LUKS
    assert "dm-crypt alone" in drive.reporter.notes[0]  # type: ignore[attr-defined]


def test_another_owners_drive_is_taken_with_their_pin_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    host = EmulatedSed(machine.drive).host
    host.set_sid_pin(host.msid(), b"theirs")
    host.activate(b"theirs")
    drive = machine.power_cycle()
    with pytest.raises(SecretRefused):
        own.own(drive, Mode.BOTH, own.Wanted(Mode.BOTH, owned_pin="guessed"), FIRST)
    assert not (machine.folder / "escrow").exists()
    take_over(machine.power_cycle(), Mode.BOTH, own.Wanted(Mode.BOTH, owned_pin="theirs"), FIRST)
    opens(machine, machine.escrowed())


def test_a_revert_by_the_label_brings_any_drive_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, (Fault.OWNED_BY_OTHERS,))
    drive = machine.boot()
    with pytest.raises(SecretRefused):
        erase.revert(drive, psid="0" * 32)
    spelled = " ".join(machine.psid[at : at + 8].lower() for at in range(0, 32, 8))
    erase.revert(drive, psid=spelled)
    assert judge(drive.sed.discover()).kind is Kind.FACTORY


def test_a_wrong_label_leaves_a_new_drive_new(machine: Machine) -> None:
    """It is activated for the erasure, so that keys are made anew: not before the label has been proven."""
    drive = machine.boot()
    _emulated(drive).write(0, DATA)
    with pytest.raises(SecretRefused):
        erase.decommission(drive, SIZE_BYTES, psid="0" * 32, folder=machine.folder / "erase")
    assert judge(drive.sed.discover()).kind is Kind.FACTORY
    assert drive.sed.read(0) == DATA


def test_a_drive_that_was_never_ours_is_decommissioned_by_its_label(machine: Machine) -> None:
    drive = machine.boot()
    _emulated(drive).write(0, DATA)
    seen = erase.decommission(drive, SIZE_BYTES, psid=machine.psid, folder=machine.folder / "erase")
    assert (seen.compared, seen.unchanged) == (1, 0)
    assert drive.sed.read(0) != DATA


def test_a_drive_that_does_not_lock_is_never_called_ours(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = machine.boot()
    monkeypatch.setattr(EmulatedSed, "read", lambda _self, _at, _length=4096: b"x" * 4096)
    with pytest.raises(DriveFailed, match="refuse reads"):
        set_up(drive)
    assert drive.pending.what == "own"


def test_secrets_do_not_print(machine: Machine) -> None:
    drive = machine.boot()
    set_up(drive)
    (secrets,) = machine.escrowed()
    assert secrets.sid not in repr(secrets)
    assert isinstance(drive.luks, EmulatedLuks)
    for file in [*(machine.folder / "escrow").iterdir()]:
        assert file.stat().st_mode & 0o077 == 0
        assert secrets.sid.encode() not in file.read_bytes()
