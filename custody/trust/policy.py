"""What a machine accepts, given what it has accepted before. Pure decisions; the caller keeps the state.

Nothing here bricks a site: age is preflight's to warn of, and going back needs an order that names both ends, signed
by the recovery role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import custody
from custody.errors import BundleRevoked, InputInvalid, RolledBack, TrustRejected, VerifierTooOld
from custody.trust import canonical
from custody.trust.chain import Trust
from custody.trust.envelope import Envelope
from custody.trust.profile import hexdigest
from custody.trust.revocations import Revocations
from custody.trust.statement import Identity

ORDER_TYPE = "application/vnd.airgap.downgrade+json"
ORDER_LIMIT_BYTES = 64 << 10


@dataclass(frozen=True)
class Accepted:
    """The newest release that was healthy on this host; zeros before the first.

    Attributes:
        statement_digest: as `Offer` has it; empty where an earlier airgap remembered the release.
    """

    channel: str = ""
    version: int = 0
    security_epoch: int = 0
    statement_digest: str = ""


@dataclass(frozen=True)
class Offer:
    """A bundle that enough persons signed.

    Attributes:
        statement_digest: of the Statement's bytes, with the bundle's algorithm.
    """

    identity: Identity
    statement_digest: str


@dataclass(frozen=True)
class Order:
    """Leave to go back, once, from one accepted version to one Statement. Only `parse_order` reads one.

    Attributes:
        digest: SHA-384 of the payload, which a host remembers.
    """

    channel: str
    from_version: int
    from_security_epoch: int
    to_version: int
    statement_digest: str
    reason: str

    def payload(self) -> bytes:
        """Canonical JSON."""
        return canonical.dump({"_type": "airgap-downgrade", "schema_version": 1, **vars(self)})

    @property
    def digest(self) -> str:
        """SHA-384 of the payload."""
        return hexdigest("sha384", self.payload())


def parse_order(data: bytes, trust: Trust, name: str) -> Order:
    """Read an order that enough persons of role recovery signed.

    Raises:
        BundleMalformed: not an envelope.
        TrustRejected: not an order, or the root knows no recovery.
        SignatureRejected: too few persons.
    """
    envelope = Envelope.parse(data, name)
    content: Any = canonical.parse(envelope.payload, name, ORDER_LIMIT_BYTES)
    try:
        order = Order(**{key: content[key] for key in Order.__dataclass_fields__})
        same = envelope.payload_type == ORDER_TYPE and order.payload() == envelope.payload
    except (KeyError, TypeError, ValueError) as error:
        raise TrustRejected(f"{name}: not a downgrade order: {error!r}") from error
    if not same or type(order.from_version) is not int or type(order.from_security_epoch) is not int:
        raise TrustRejected(f"{name}: not a downgrade order, or one with unknown fields")
    if "recovery" not in trust.root.thresholds:
        raise TrustRejected(
            f"{name}: root {trust.root.version} has no threshold for recovery, so nobody may order this"
        )
    signers = envelope.signers(trust.root.keys_by_id(), name) - frozenset(trust.revocations.keys)
    trust.root.require("recovery", signers, name)
    return order


def require_not_revoked(offer: Offer, revocations: Revocations) -> None:
    """Refuse a revoked bundle, and a list of revocations that is older than the bundle demands.

    Raises:
        BundleRevoked: names the reason.
        TrustRejected: the list was left out or is an old one.
    """
    reason = revocations.statements.get(offer.statement_digest)
    if reason is not None:
        raise BundleRevoked(
            f"{offer.identity.id}: revoked in list {revocations.number}: {reason}", "ask for a newer release"
        )
    if revocations.number < offer.identity.lowest_revocation:
        raise TrustRejected(
            f"{offer.identity.id}: expected revocations with number {offer.identity.lowest_revocation} or higher,"
            f" found {revocations.number}",
            "the list was taken away from this copy: fetch the medium again from where it was made",
        )


def require_readable(identity: Identity) -> None:
    """Refuse what a newer verifier must judge.

    Raises:
        VerifierTooOld: with both versions.
    """
    wanted = identity.lowest_verifier
    if _numbers(wanted) > _numbers(custody.VERSION):
        raise VerifierTooOld(
            f"{identity.id}: expected airgap {wanted} or newer, found {custody.VERSION}",
            "install the releases between them one after the other",
        )


def require_not_older(
    offer: Offer, accepted: Accepted, *, minimum: int | None, order: Order | None = None, used: tuple[str, ...] = ()
) -> bool:
    """Refuse a bundle that goes back in version or security epoch, is another with one version, or changes the channel.

    Args:
        minimum: the lowest version, from the paper; wanted when nothing was accepted before.
        order: leave to go back.
        used: digests of orders that were used before.

    Returns:
        Whether it took the order.

    Raises:
        RolledBack: with both numbers.
        InputInvalid: nothing was accepted before, and no minimum is given.
    """
    identity = offer.identity
    if not accepted.version:
        if minimum is None:
            raise InputInvalid(
                f"{identity.id}: this host remembers no release; expected the lowest version that may be installed",
                "give it from the paper: --minimum-version N",
            )
        if identity.version < minimum:
            raise RolledBack(
                f"{identity.id}: expected version {minimum} or newer, from the paper", "use a newer medium"
            )
        return False
    if identity.channel != accepted.channel:
        raise RolledBack(
            f"{identity.id}: expected channel {accepted.channel}, found {identity.channel}",
            "build it for this channel",
        )
    behind = [
        f"expected {name} {lowest} or newer, found {found}"
        for name, found, lowest in (
            ("version", identity.version, accepted.version),
            ("security epoch", identity.security_epoch, accepted.security_epoch),
        )
        if found < lowest
    ]
    if identity.version == accepted.version and accepted.statement_digest not in ("", offer.statement_digest):
        behind.append(f"version {identity.version} was accepted here with another Statement")
    if behind and (order is None or not _allows(order, offer, accepted, used)):
        raise RolledBack(
            f"{identity.id}: {behind[0]}",
            "a newer bundle has a higher version; a downgrade needs an order of its own, signed by the recovery role",
        )
    return bool(behind)


def _allows(order: Order, offer: Offer, accepted: Accepted, used: tuple[str, ...]) -> bool:
    if order.digest in used:
        raise RolledBack(f"{offer.identity.id}: the downgrade order was used before", "ask for a new order")
    wanted = (accepted.channel, accepted.version, accepted.security_epoch, offer.statement_digest)
    found = (order.channel, order.from_version, order.from_security_epoch, order.statement_digest)
    if wanted != found:
        raise RolledBack(
            f"{offer.identity.id}: the downgrade order is for {order.statement_digest[:16]} on a host at"
            f" {order.channel} {order.from_version} (epoch {order.from_security_epoch}), expected"
            f" {offer.statement_digest[:16]} at {accepted.channel} {accepted.version} (epoch"
            f" {accepted.security_epoch})",
            "ask for an order that names this host's release and this bundle",
        )
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """A release's number to compare by; what is no number compares above all."""
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        return (2**53,)
