"""The audit process's settings: one strict JSON file that the installer writes."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance import settings
from appliance.audit.keeping import Rules
from custody.errors import OperatorMistake
from custody.trust.keys import PublicKey

FILE = Path("/etc/airgap/audit.json")
#: The log's folder on an appliance: on the encrypted volume, since entries name persons.
FOLDER = Path("/srv/airgap/audit")


class Config(BaseModel):
    """Settings.

    Attributes:
        origin: the log's name.
        folder: of the log.
        socket: where the gateway finds the process.
        clients: users that may connect, by name.
        auditor_key: SPKI, base64, of a P-384 key: who can open epochs.
        epoch_hours: how long one key hides texts.
        warm_days: after how many days a complete segment is compressed.
        retention_days: how long requests are kept: `default` at least, longer where the label of their model says so.
        collector_key: SPKI, base64, of a P-384 key: whose word on an export counts. Empty: nothing expires.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    origin: str
    folder: Path = FOLDER
    socket: Path = Path("/run/airgap-audit/audit.sock")
    clients: tuple[str, ...]
    auditor_key: str
    epoch_hours: Annotated[int, Field(ge=1, le=24 * 366)] = 24
    warm_days: Annotated[int, Field(ge=1, le=36525)] = 90
    retention_days: dict[str, Annotated[int, Field(ge=1, le=36525)]] = {"default": 2190}
    collector_key: str = ""

    @property
    def keep(self) -> Path:
        """Where the process takes orders of root."""
        return self.socket.with_name("keep.sock")

    @property
    def rules(self) -> Rules:
        """How long what is kept.

        Raises:
            InputInvalid: no class `default`, or no such key.
        """
        return Rules.of(self.retention_days, self.collector_key)

    @property
    def auditor(self) -> PublicKey:
        """Who can open epochs.

        Raises:
            InputInvalid: not such a key.
        """
        return settings.public_key("auditor_key", self.auditor_key)

    @property
    def uids(self) -> frozenset[int]:
        """Users that may connect.

        Raises:
            OperatorMistake: one of them does not exist.
        """
        try:
            return frozenset(pwd.getpwnam(name).pw_uid for name in self.clients)
        except KeyError as error:
            raise OperatorMistake(f"clients: {error}: expected users of this host", "getent passwd") from error


def load(file: Path = FILE) -> Config:
    """Read the settings.

    Raises:
        InputInvalid: unreadable, or not such a file.
    """
    return settings.load(Config, file)
