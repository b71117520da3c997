"""What a host says of itself, signed with its own key; a later lock is made for it.

A DSSE envelope (`custody.trust.envelope`) over RFC 8785 bytes. The payload carries the host's public key, so that a key
id is all that a factory has to pin: it is compared, and the signature checked, before anything else in it is believed.
A host vouches for itself alone: nothing here makes a bundle trusted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from custody.errors import BundleMalformed, SignatureRejected, TrustRejected
from custody.trust import canonical
from custody.trust.envelope import LIMIT_BYTES, Envelope
from custody.trust.keys import PublicKey, Signer

PAYLOAD_TYPE = "application/vnd.airgap.host+json"

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
PciId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
KernelRelease = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+[ -~]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Gpu(_Strict):
    """A display or 3D controller: its place on the bus, vendor and device as the PCI ids have them."""

    slot: str
    pci_id: PciId


class Disk(_Strict):
    """A whole disk; serial and model are empty where the disk tells none."""

    path: str
    serial: str
    model: str
    size_bytes: Count


class Firmware(_Strict):
    """How the machine starts; `secure_boot` is null where there is no UEFI."""

    mode: Literal["uefi", "bios"]
    vendor: str
    version: str
    secure_boot: bool | None


class Accepted(_Strict):
    """What the host has accepted; empty and zero before the first installation."""

    root_fingerprint: str
    channel: str
    version: Count
    security_epoch: Count
    release: str


class HostDescription(_Strict):
    """A whole description; `described_at` is the host's clock in seconds since 1970, `host_key` base64 of its key."""

    schema_version: Literal[1]
    host_key: str
    described_at: Count
    distribution: str
    release: str
    architecture: str
    python: str
    kernel: KernelRelease
    driver: str | None
    processors: Count
    memory_bytes: Count
    firmware: Firmware
    gpus: tuple[Gpu, ...]
    disks: tuple[Disk, ...]
    releases: tuple[str, ...]
    accepted: Accepted
    dpkg_status: str

    @property
    def kernel_series(self) -> str:
        """`6.12` of `6.12.57+deb13-amd64`."""
        return ".".join(self.kernel.split("-")[0].split(".")[:2])


def sign(description: HostDescription, key: Signer) -> bytes:
    """The description as it leaves the host."""
    payload = canonical.dump(description.model_dump(mode="json"))
    return Envelope(PAYLOAD_TYPE, payload, {}).signed_by(key).dump()


def open_signed(data: bytes, keyid: str, name: str) -> HostDescription:
    """Read a description that the host with this key id signed.

    Args:
        name: what to call it in an error.

    Raises:
        BundleMalformed: not an envelope, or not a description.
        SignatureRejected: another key, or a false signature.
    """
    envelope = Envelope.parse(data, name)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise BundleMalformed(f"{name}: expected {PAYLOAD_TYPE}, found {envelope.payload_type}")
    key = _own_key(canonical.parse(envelope.payload, name, LIMIT_BYTES), name)
    if key.keyid != keyid:
        raise SignatureRejected(
            f"{name}: expected host key {keyid}, found {key.keyid}", "compare with `airgap status` on that host"
        )
    if not envelope.signers({keyid: key}, name):
        raise SignatureRejected(f"{name}: not signed by its host key", "make it anew: airgap inventory")
    try:
        return HostDescription.model_validate_json(envelope.payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleMalformed(f"{name}: {where}: {first['msg']}", "made by another version of airgap?") from error


def _own_key(content: Any, name: str) -> PublicKey:
    try:
        return PublicKey.from_text(content["host_key"])
    except (KeyError, TypeError, AttributeError, TrustRejected) as error:
        raise BundleMalformed(f"{name}: host_key: expected a P-384 public key: {error}") from error
