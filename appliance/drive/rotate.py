"""New PINs, a new passphrase and a new recovery key for a drive that is ours; the data stay.

Nothing old goes before the new one is proven: PINs change one after the other, each by one command of the drive, and a
new key slot opens before the old one is destroyed. The key of the data itself stays: with a backup of the old header an
old passphrase opens the volume still, so old escrows are to be destroyed.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.drive import pins, unattended
from appliance.drive.drive import Drive, settle
from appliance.drive.escrow import Secrets
from appliance.drive.luks import PASSPHRASE_SLOTS, RECOVERY_SLOTS, Mode
from appliance.drive.own import begin, finish
from appliance.drive.pending import OWN, ROTATE, Change
from appliance.drive.unattended import Sealed
from custody.errors import AirgapError, IntegrityFailure, ProgramFailed, SecretRefused, TargetRefused


def rotate(
    drive: Drive,
    old: Secrets,
    passphrase: str,
    new_passphrase: str,
    *,
    sealed: Sealed = Sealed(),  # noqa: B008 - frozen
) -> None:
    """Change every secret of the drive and its volume; cut off, the same call goes on.

    Args:
        old: out of the newest escrow.
        passphrase: in force when the change was begun.

    Raises:
        SecretRefused: one of the old secrets is wrong: nothing was changed.
        TargetRefused: the drive is not ours yet.
        ProgramFailed: everything is changed, but the TPM sealed no key for the next boot.
    """
    if drive.pending.what == OWN:
        found = "that this was cut off: there is nothing to rotate yet"
        raise TargetRefused(f"{drive.device}: expected a drive that was taken over, found {found}", "airgap install")
    mode = drive.luks.header().mode
    if drive.pending.what:
        change = drive.pending.read(ROTATE, passphrase)
        if change.new.passphrase != new_passphrase:
            hint = "type the new passphrase that was typed when the change was begun"
            raise SecretRefused(f"{drive.device}: the change was begun with another new passphrase", hint)
    else:
        change = _begin(drive, mode, old, passphrase, new_passphrase)
    assert change.old is not None
    if mode is not Mode.LUKS:
        drive.say("changing Admin1's PIN")
        settle((change.old.admin,), drive.sed.set_admin, change.new.admin)
        drive.say("changing SID's PIN")
        settle((change.old.sid,), drive.sed.set_sid, change.new.sid)
    _change_slot(drive, PASSPHRASE_SLOTS, (passphrase, new_passphrase), new_passphrase)
    _change_slot(drive, RECOVERY_SLOTS, (new_passphrase,), change.new.recovery_key)
    unsealed = _seal(drive, new_passphrase, sealed)
    finish(drive, change)  # after the sealing: the header in the escrow is the one that the TPM's key opens
    drive.say("ending the change")
    drive.pending.end(ROTATE)
    if unsealed is not None:
        raise ProgramFailed(
            f"{drive.device}: every secret is changed; the TPM sealed no key for the next boot: {unsealed.message}",
            "airgap drive seal; until then the volume waits for its new passphrase",
        ) from unsealed


def _begin(drive: Drive, mode: Mode, old: Secrets, passphrase: str, new_passphrase: str) -> Change:
    drive.say("checking the secrets in force")
    if not drive.luks.takes(passphrase):
        raise SecretRefused(f"{drive.device}: the passphrase does not open it", "type the one in force")
    if mode is not Mode.LUKS:
        drive.sed.check_admin(old.admin.encode())
        drive.sed.check_sid(old.sid.encode())
    new = replace(
        old, sid=pins.new_pin(), admin=pins.new_pin(), passphrase=new_passphrase, recovery_key=pins.new_recovery_key()
    )
    number = drive.kept.next_number(drive.serial, old.number)
    return begin(drive, Change(ROTATE, number, replace(old, passphrase=passphrase), new), passphrase)


def _seal(drive: Drive, passphrase: str, sealed: Sealed) -> AirgapError | None:
    """Give the TPM a new key where it had one; returns why it did not take it."""
    if unattended.SLOT in drive.luks.header().slots:
        drive.say("sealing a new key to the TPM")
        try:
            unattended.seal(drive.luks, passphrase, sealed)
        except AirgapError as error:
            return error
    return None


def _change_slot(drive: Drive, pair: tuple[int, int], known: tuple[str, ...], new: str) -> None:
    """Put the new secret into the free slot of a pair, and destroy the other one when the new one opens."""
    taken = [slot for slot in pair if slot in drive.luks.header().slots]
    has_new = [slot for slot in taken if drive.luks.takes(new, slot)]
    if not has_new:
        free = [slot for slot in pair if slot not in taken]
        if not free:
            raise IntegrityFailure(
                f"{drive.device}: expected one of the key slots {pair} to be free, found both taken by others",
                f"cryptsetup luksDump {drive.device}",
            )
        opener = next((secret for secret in known if drive.luks.takes(secret)), None)
        if opener is None:
            raise SecretRefused(
                f"{drive.device}: expected one of the passphrases of this change, found that none opens it",
                f"the recovery key of the escrow opens it; cryptsetup luksDump {drive.device}",
            )
        drive.say(f"adding key slot {free[0]}")
        drive.luks.add(opener, new, free[0])
        if not drive.luks.takes(new, free[0]):
            raise SecretRefused(f"{drive.device}: expected key slot {free[0]} to open, found that it does not", "")
        has_new = free[:1]
    for slot in taken:
        if slot not in has_new:
            drive.say(f"destroying key slot {slot}")
            drive.luks.remove(slot)
