"""Make a downgrade order: leave for a host to go back, signed by persons of role recovery."""

from __future__ import annotations

from pathlib import Path

from bundler.bundle.read import unsigned_statement
from bundler.bundle.trustfolder import TrustFolder, statement_digest
from custody.atomic import write_whole
from custody.errors import InputInvalid, TargetRefused, TrustRejected
from custody.trust.envelope import Envelope
from custody.trust.keys import Signer
from custody.trust.policy import ORDER_LIMIT_BYTES, ORDER_TYPE, Order


def sign_order(
    trust: Path, bundle: Path, accepted: tuple[int, int], reason: str, out: Path, key: Signer
) -> tuple[str, str]:
    """Write an order, or add a signature to one with the same content.

    Args:
        accepted: version and security epoch that the host has accepted.

    Returns:
        The person's name, and the order's digest.

    Raises:
        TrustRejected: the key belongs to nobody of role recovery.
        TargetRefused: `out` holds something else.
        InputInvalid: the bundle is newer than what was accepted, in version or epoch and no older in the other.
    """
    root, keyid = TrustFolder(trust).trust().root, key.public.keyid
    if keyid not in root.keys_by_id() or "recovery" not in root.person_of(keyid).roles:
        raise TrustRejected(f"key {keyid[:16]}: belongs to nobody of role recovery", f"see airgap trust show {trust}")
    statement, _ = unsigned_statement(bundle)
    identity = statement.predicate.bundle
    # Of the same version it may be another bundle, which a host takes by an order alone.
    if identity.version > accepted[0] and identity.security_epoch >= accepted[1]:
        raise InputInvalid(f"{identity.id}: is newer than version {accepted[0]}", "it needs no order")
    if not reason.isascii() or not reason.isprintable() or not 1 <= len(reason) <= 256:
        raise InputInvalid("--reason: expected 1 to 256 printable ASCII characters", "airgap trust order --help")
    order = Order(identity.channel, *accepted, identity.version, statement_digest(bundle), reason)
    envelope = Envelope(ORDER_TYPE, order.payload(), {})
    if out.exists():
        with out.open("rb") as stream:
            envelope = Envelope.parse(stream.read(ORDER_LIMIT_BYTES), str(out))
        if (envelope.payload_type, envelope.payload) != (ORDER_TYPE, order.payload()):
            raise TargetRefused(f"{out}: holds another order", "name a new file, or repeat the same order")
    write_whole(out, envelope.signed_by(key).dump())
    return root.person_of(keyid).name, order.digest
