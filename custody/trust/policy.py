"""What a host accepts, given what it has accepted before. Pure decisions; the caller keeps the state."""

from __future__ import annotations

from dataclasses import dataclass

from custody.errors import RolledBack
from custody.trust.statement import Identity


@dataclass(frozen=True)
class Accepted:
    """The newest release that was healthy on this host; zeros before the first."""

    channel: str = ""
    version: int = 0
    security_epoch: int = 0


def require_not_older(offered: Identity, accepted: Accepted) -> None:
    """Refuse a bundle that goes back in version or security epoch, or changes the channel.

    Raises:
        RolledBack: with both numbers.
    """
    if not accepted.version:
        return
    if offered.channel != accepted.channel:
        raise RolledBack(
            f"{offered.id}: expected channel {accepted.channel}, found {offered.channel}",
            "build it for this channel",
        )
    for name, found, lowest in (
        ("version", offered.version, accepted.version),
        ("security epoch", offered.security_epoch, accepted.security_epoch),
    ):
        if found < lowest:
            raise RolledBack(
                f"{offered.id}: expected {name} {lowest} or newer, found {found}",
                "a downgrade needs an order of its own, signed by the recovery role",
            )
