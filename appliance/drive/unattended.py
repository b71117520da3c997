"""The data volume opens by itself at boot: a key slot of its own, whose key only this host's TPM gives back.

systemd-creds(1) seals the key to the TPM and to PCR 7: the state of Secure Boot and the keys that it trusts (TCG PC
Client Platform Firmware Profile, section 3.3.4.8). An update of kernel or boot loader that those keys signed changes
nothing; with Secure Boot off, with other keys, in another machine the volume waits for its passphrase. A cut leaves
either no credential, or one that opens: the credential goes first and comes last.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path

from appliance.drive.luks import Luks
from custody._run import run
from custody.atomic import remove as remove_file
from custody.atomic import write_whole
from custody.errors import AirgapError

#: A third kind of key slot, beside the pairs of `luks`.
SLOT = 4
PCRS = "7"
#: What the unit airgap-unattended.service loads; the name is bound into the sealed key.
NAME = "airgap-data"
CREDENTIAL = Path("/var/lib/airgap/unattended.cred")


@dataclass(frozen=True)
class Sealed:
    """Where the sealed key lies, and what seals."""

    file: Path = CREDENTIAL
    device: str = "auto"

    @property
    def exists(self) -> bool:
        """Whether a key was sealed, whether or not the TPM still gives it back."""
        return self.file.exists()

    @property
    def opens(self) -> bool:
        """Whether the TPM gives the key back as things stand."""
        return self.key() is not None

    def key(self) -> str | None:
        """The key, if the TPM gives it back as things stand."""
        words = ["systemd-creds", "decrypt", f"--name={NAME}", f"--tpm2-device={self.device}", str(self.file), "-"]
        if not self.exists:
            return None
        done = run(words, ok=(0, 1), timeout_s=60)
        return done.stdout.decode() if done.returncode == 0 else None

    def write(self, key: str) -> None:
        """Seal a key and put it there, whole."""
        words = ["systemd-creds", "encrypt", f"--name={NAME}", "--with-key=tpm2",
                 f"--tpm2-device={self.device}", f"--tpm2-pcrs={PCRS}", "-", "-"]  # fmt: skip
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.file, run(words, stdin=key.encode(), timeout_s=60).stdout, mode=0o600)

    def forget(self) -> None:
        """Remove it; the key slot is the caller's to destroy."""
        remove_file(self.file)


def settle(luks: Luks, passphrase: str, *, wanted: bool, sealed: Sealed = Sealed(), dry_run: bool = False) -> list[str]:
    """Have the volume open by itself, or not.

    Args:
        passphrase: one that opens the volume.

    Returns:
        What was, or would be, done, one line each; empty when nothing.

    Raises:
        SecretRefused: the passphrase is wrong; nothing was changed.
    """
    there = SLOT in luks.header().slots
    if not wanted:
        if not (there or sealed.exists):
            return []
        if not dry_run:
            luks.check(passphrase)
            remove(luks, sealed)
        return [f"{luks.device}: no longer opened by the TPM"]
    # A header that was restored has an older key in the slot than the one that was sealed.
    if there and (key := sealed.key()) is not None and luks.takes(key, SLOT):
        return []
    if not dry_run:
        seal(luks, passphrase, sealed)
    return [f"{luks.device}: opened at boot by the TPM, PCR {PCRS}"]


def seal(luks: Luks, passphrase: str, sealed: Sealed = Sealed()) -> None:
    """Put a new key into the slot and seal it to the state in which the host is now.

    Raises:
        SecretRefused: the passphrase is wrong; nothing was changed.
        ProgramFailed: the TPM does not seal; the volume then waits for its passphrase at every boot.
    """
    luks.check(passphrase)  # or somebody who does not know it would take the other way of opening away
    remove(luks, sealed)
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    luks.add(passphrase, key, SLOT)
    try:
        sealed.write(key)
    except AirgapError:
        luks.remove(SLOT)
        raise


def remove(luks: Luks, sealed: Sealed = Sealed()) -> None:
    """Take away the sealed key and destroy its slot."""
    sealed.forget()
    if SLOT in luks.header().slots:
        luks.remove(SLOT)
