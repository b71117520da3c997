"""May this user ask this of this model, from there, now, for that?

Policies are Cedar's: nothing is allowed that no policy permits, and one that forbids wins. A folder that is not whole
and valid never becomes a `Policies`; whoever holds an old one keeps it.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from appliance.gateway.cedar import Engine
from appliance.gateway.folder import Content, read_folder
from appliance.gateway.guard import Guard
from appliance.gateway.identity import NAME, Identity
from appliance.gateway.settings import read_guard, read_settings

#: What can be asked for.
ACTIONS = ("chat", "complete", "embed", "list")
#: Policies that are shipped, to begin with.
SHIPPED = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class Model:
    """A model as policies see it; `digest` is for the audit log alone."""

    name: str
    digest: str
    label: str
    quantization_bits: int


@dataclass(frozen=True)
class Decision:
    """A policy's answer; `policy_id` has the names of the policies that decided, joined by commas."""

    allowed: bool
    policy_id: str
    reason: str


class Policies:
    """What a policy folder says; only `load` and `parse` make one.

    Attributes:
        version: stands for every byte that was read; see `folder`.
        guard: the folder's rules for texts.
        engine: the Cedar policies.
        zone: in which hours are told.
    """

    def __init__(self, content: Content) -> None:
        texts = {name: content.text(name) for name in content.files if name.endswith(".cedar")}
        self.version = content.version
        self.engine = Engine(texts, content.name)
        self.guard: Guard = read_guard(content)
        self.zone = read_settings(content).zone

    @classmethod
    def load(cls, folder: Path) -> Policies:
        """Read a folder.

        Raises:
            PolicyRefused: anything in it is not as it must be.
            EnvironmentProblem: no cedarpy on this machine.
        """
        return cls(read_folder(folder))

    def decide(
        self, identity: Identity, model: Model, *, action: str, client_ip: str, purpose: str, now: float
    ) -> Decision:
        """Decide; never raises, and whatever cannot be judged is denied.

        Args:
            action: one of `ACTIONS`.
            client_ip: the connection's, not what a header says.
            purpose: what the client names; may be empty.
            now: Unix seconds.
        """
        if action not in ACTIONS:
            return Decision(False, "", f"there is no action {action!r:.40}")
        if purpose and not NAME.fullmatch(purpose):
            return Decision(False, "", "purpose: expected lower-case letters, digits, . _ -")
        try:
            context = self._context(client_ip, purpose, now)
        except (ValueError, OverflowError, OSError) as error:
            return Decision(False, "", f"cannot be judged: {error}"[:200])
        user = (identity.user_id, identity.role, identity.groups)
        found = self.engine.ask(user, (model.name, model.label, model.quantization_bits), action, context)
        names = ",".join(found.policies)
        if found.errors:
            return Decision(False, names, f"cannot be judged: {'; '.join(found.errors)}"[:1000])
        if not found.policies:
            return Decision(False, "", "no policy permits this")
        said = "permitted" if found.allowed else "forbidden"
        return Decision(found.allowed, names, f"{said} by {', '.join(found.policies)}")

    def local_time(self, now: float) -> str:
        """The time that policies are told, in their zone: RFC 3339, to the second."""
        return _local(int(now), self.zone)

    def _context(self, client_ip: str, purpose: str, now: float) -> dict[str, Any]:
        return {"client_ip": _address(client_ip), "purpose": purpose, **_clock(int(now), self.zone)}


@lru_cache(maxsize=4096)
def _address(client_ip: str) -> dict[str, Any]:
    address = ipaddress.ip_address(client_ip)
    if isinstance(address, ipaddress.IPv6Address):
        # A socket that takes both families writes IPv4 like this; Cedar refuses it, and a zone.
        address = address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return {"__extn": {"fn": "ip", "arg": str(address)}}


@lru_cache(maxsize=16)
def _local(now: int, zone: ZoneInfo) -> str:
    return datetime.datetime.fromtimestamp(now, zone).isoformat()


@lru_cache(maxsize=16)
def _clock(now: int, zone: ZoneInfo) -> dict[str, Any]:
    """The time as the schema's Circumstances have it; one second's requests share it."""
    at = datetime.datetime.fromtimestamp(now, zone)
    utc = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return {
        "hour": at.hour,
        "minute": at.minute,
        "weekday": at.isoweekday(),
        "time": {"__extn": {"fn": "datetime", "arg": f"{utc:%Y-%m-%dT%H:%M:%SZ}"}},
    }
