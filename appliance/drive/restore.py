"""A damaged header comes back from its backup in the escrow; the data stay where they are.

`cryptsetup luksHeaderRestore` refuses the header of an Opal volume (2.7.5: "Forbidden LUKS2 requirements"), so the
bytes are written here, once it is certain that they are this drive's.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from appliance.drive.drive import Drive
from appliance.drive.escrow import Secrets
from appliance.drive.luks import Header, Luks
from custody.errors import DriveFailed, InputInvalid, TargetRefused


def restore(drive: Drive, backup: bytes, known: Secrets, *, dry_run: bool = False) -> Header:
    """Write the backup of a header back, and see that the recovery key opens it.

    Args:
        backup: as the escrow held it, decrypted.
        known: the secrets of the same number.

    Returns:
        The header.

    Raises:
        InputInvalid: it is not the backup that belongs to these secrets.
        IntegrityFailure: it is no header that we write.
        TargetRefused: the header on the drive opens; nothing was changed.
        DriveFailed: what was written does not open.
    """
    digest = hashlib.sha256(backup).hexdigest()
    if digest != known.header_sha256:
        raise InputInvalid(
            f"header of {drive.serial}: expected the SHA-256 {known.header_sha256 or 'of a completed escrow'} "
            f"of escrow {known.number}, found {digest}",
            "decrypt the .header.cms with the same number as the secrets",
        )
    header = _judge(backup)
    if drive.luks.exists and drive.luks.takes(known.recovery_key):
        found = "one that the recovery key opens: there is nothing to restore"
        raise TargetRefused(f"{drive.device} (serial {drive.serial}): expected a damaged header, found {found}",
                            "airgap unlock")  # fmt: skip
    if not dry_run:
        drive.say("writing the header")
        drive.luks.restore(backup)
        if not drive.luks.takes(known.recovery_key):
            raise DriveFailed(
                f"{drive.device}: expected the restored header to open with its recovery key, found that it does not",
                "dmesg | tail; then run the same command again",
            )
    return header


def _judge(backup: bytes) -> Header:
    with tempfile.TemporaryDirectory(prefix="airgap-", dir="/run") as folder:
        file = Path(folder) / "header"
        file.write_bytes(backup)
        return Luks(file).header()
