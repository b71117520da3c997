"""What the appliance's commands know about its volume: /etc/airgap/storage.json, written by the role storage."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.drive.volume import Volume
from custody.errors import InputInvalid

CONFIG = Path("/etc/airgap/storage.json")


class StorageConfig(BaseModel):
    """The file, field by field.

    Attributes:
        unattended: whether the TPM shall open the volume at boot.
        escrow_key: public key of whoever keeps the second copy of the drive's secrets, SPKI in base64; or empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int
    serial: str
    mapper: str
    mount: str
    escrow_key: str = ""
    unattended: bool = False

    @property
    def volume(self) -> Volume:
        """The volume that is meant."""
        return Volume(self.serial, self.mapper, Path(self.mount))


def load(path: Path = CONFIG) -> StorageConfig:
    """Read the file.

    Raises:
        InputInvalid: missing or not what it should be.
    """
    try:
        content = json.loads(path.read_bytes())
        return StorageConfig.model_validate(content)
    except OSError as error:
        raise InputInvalid(f"{path}: {error.strerror}", "airgap install writes it") from error
    except (ValueError, ValidationError) as error:
        raise InputInvalid(f"{path}: {error}", "airgap install writes it again") from error
