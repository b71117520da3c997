"""Take a drive over: PINs, locking range, LUKS2 header, recovery key, escrow, proof.

Order, and why: the secrets go into the escrow and into the pending file before the drive hears of them, so that a cut
at any place leaves a drive that the escrow opens, and a second run goes on. While the pending file is there the volume
holds no data, so that formatting it again loses nothing: whoever makes the file system ends the change.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.drive import kinds, luks, pins
from appliance.drive.drive import Drive, prove, settle
from appliance.drive.escrow import Secrets
from appliance.drive.kinds import Kind
from appliance.drive.luks import PASSPHRASE_SLOTS, RECOVERY_SLOTS, Mode
from appliance.drive.pending import OWN, Change
from custody.errors import SecretRefused, TargetRefused


@dataclass(frozen=True)
class Wanted:
    """What the site wants of the volume.

    Attributes:
        mode: who encrypts; None: the drive and dm-crypt where the drive can, else dm-crypt.
        psid: from the drive's label, for the escrow.
        owned_pin: SID's and Admin1's PIN of a drive that somebody at the site owned before.
    """

    mode: Mode | None
    psid: str = ""
    owned_pin: str = ""


def choose_mode(drive: Drive, wanted: Wanted) -> Mode:
    """Say who will encrypt a disk that holds nothing yet.

    Raises:
        TargetRefused: the drive is not what the site asks for, or nobody here may take it over. A drive that could
            encrypt and is blocked or owned is never quietly used without that.
    """
    discovered = drive.sed.discover()
    found = kinds.judge(discovered)
    if wanted.mode is Mode.LUKS:
        if discovered and discovered.locked:
            raise TargetRefused(
                f"{drive.device} (serial {drive.serial}): expected a drive that can be written, found {found.why}",
                found.remedy,
            )
        return Mode.LUKS
    if wanted.mode is None and found.kind in (Kind.UNSUPPORTED, Kind.PYRITE):
        drive.reporter.note(f"{drive.device}: {found.why}; dm-crypt alone encrypts")
        return Mode.LUKS
    takes = found.kind is Kind.FACTORY or (found.kind is Kind.OWNED and (wanted.owned_pin or drive.pending.what == OWN))
    if not takes:
        raise TargetRefused(
            f"{drive.device} (serial {drive.serial}): expected an Opal 2 drive as it leaves the factory, "
            f"found {found.why}",
            found.remedy,
        )
    mode = wanted.mode or Mode.BOTH
    luks.require(mode)
    return mode


def own(drive: Drive, mode: Mode, wanted: Wanted, passphrase: str) -> None:
    """Make the drive the appliance's, with an empty volume that the passphrase opens; the change stays begun.

    Raises:
        SecretRefused: a PIN that the drive does not take; nothing was changed.
        DriveFailed: the drive failed, or does not lock.
    """
    change = drive.pending.read(OWN, passphrase) if drive.pending.what == OWN else _begin(drive, wanted, passphrase)
    if mode is not Mode.LUKS:
        _give_pins(drive, change)
    drive.say("formatting")
    drive.luks.format(mode, passphrase, change.new.admin)
    drive.say("adding the recovery key")
    drive.luks.add(passphrase, change.new.recovery_key, RECOVERY_SLOTS[0])
    if mode is not Mode.LUKS:
        prove(drive, passphrase)
    finish(drive, change)


def finish(drive: Drive, change: Change) -> None:
    """Prove that the drive takes the new PINs and that both passphrases open the volume, and complete the escrow."""
    header = drive.luks.header()
    if header.mode is not Mode.LUKS:
        drive.say("proving the PINs")
        drive.sed.check_admin(change.new.admin.encode())
        drive.sed.check_sid(change.new.sid.encode())
    for secret, slots in ((change.new.passphrase, PASSPHRASE_SLOTS), (change.new.recovery_key, RECOVERY_SLOTS)):
        if not any(drive.luks.takes(secret, slot) for slot in slots if slot in header.slots):
            raise SecretRefused(f"{drive.device}: expected the new keys to open the volume, found that they do not", "")
    drive.say("completing the escrow")
    file = drive.kept.complete(change.new, change.number, drive.luks.backup())
    drive.reporter.note(f"escrow: {file}; carry it off, with {file.with_suffix('.header.cms').name}")


def begin(drive: Drive, change: Change, passphrase: str) -> Change:
    """Write down twice what the drive will hear: for the site, and for a second run."""
    drive.say("writing the escrow")
    drive.kept.plan(change.new, change.number)
    drive.say("noting the change")
    drive.pending.write(change, passphrase)
    return change


def _begin(drive: Drive, wanted: Wanted, passphrase: str) -> Change:
    if wanted.owned_pin:
        drive.say("checking the PIN of its owner")
        pin = wanted.owned_pin.encode()
        drive.sed.check_admin(pin)
        drive.sed.check_sid(pin)
    old = Secrets(drive.serial, drive.model, wanted.owned_pin, wanted.owned_pin) if wanted.owned_pin else None
    new = Secrets(
        drive.serial, drive.model, pins.new_pin(), pins.new_pin(), wanted.psid, passphrase, pins.new_recovery_key()
    )
    return begin(drive, Change(OWN, drive.kept.next_number(drive.serial), old, new), passphrase)


def _give_pins(drive: Drive, change: Change) -> None:
    """From any state that a cut can leave to: activated, both PINs ours."""
    sid, admin = change.new.sid, change.new.admin
    found = drive.sed.discover()
    if found is None or not found.activated:
        drive.say("taking ownership")
        try:
            drive.sed.take_ownership(sid.encode())
        except SecretRefused:
            drive.sed.check_sid(sid.encode())  # it was ours already, or it is somebody else's
        drive.say("activating")
        drive.sed.activate(sid.encode())
        known: tuple[str, ...] = (sid,)
    else:
        known = (change.old.admin,) if change.old else (sid,)
        drive.say("changing SID's PIN")
        settle((change.old.sid,) if change.old else (), drive.sed.set_sid, sid)
    drive.say("changing Admin1's PIN")
    settle(known, drive.sed.set_admin, admin)
