"""The sender's settings: one strict JSON file that the installer writes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from appliance import settings

FILE = Path("/etc/airgap/diode.json")
#: IPv6 and UDP headers (RFC 8200, RFC 768); IPv4's are smaller.
_HEADERS_BYTES = 40 + 8


class Config(BaseModel):
    """Settings.

    Attributes:
        log: folder of the log that is sent.
        interface: the card that leads there; empty: whatever the routes say.
        position: file that remembers how far it was sent.
        address: IP address of the receiver.
        port: its UDP port.
        repeat: how often each record is said.
        rate: records a second at most, and a quarter more to make up for a pause of up to a quarter of a second;
            datagrams are `repeat` times as many.
        apart_s: seconds at least between two copies of a record, so that one burst of loss does not take both.
        idle_s: seconds after which the newest checkpoint is said again when nothing is new.
        mtu_bytes: of the link; a record that needs more is announced, and comes by file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    log: Path
    interface: str = ""
    position: Path
    address: str
    port: Annotated[int, Field(ge=1, le=65535)]
    repeat: Annotated[int, Field(ge=1, le=8)] = 2
    rate: Annotated[int, Field(ge=1, le=100_000)] = 1000
    apart_s: Annotated[float, Field(ge=0, le=60)] = 0.25
    idle_s: Annotated[float, Field(gt=0, le=3600)] = 30
    mtu_bytes: Annotated[int, Field(ge=1280, le=65535)] = 1500

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        ipaddress.ip_address(text)
        return text

    @property
    def is_v6(self) -> bool:
        """Whether the receiver's address is of IPv6."""
        return ipaddress.ip_address(self.address).version == 6

    @property
    def datagram_bytes(self) -> int:
        """What fits into one packet."""
        return self.mtu_bytes - _HEADERS_BYTES


def load(file: Path = FILE) -> Config:
    """Read the settings.

    Raises:
        InputInvalid: unreadable, or not such a file.
    """
    return settings.load(Config, file)
