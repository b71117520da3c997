"""A receipt: what one verification found, signed by whoever ran it, for those who were not there.

It says nothing that the bundle does not show to anybody with the same root; it says that somebody looked, and when.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import custody
from bundler.bundle.read import MODELS
from custody.errors import AirgapError, BundleMalformed
from custody.trust import canonical
from custody.trust import statement as statements
from custody.trust.envelope import Envelope
from custody.trust.keys import Signer
from custody.trust.profile import algorithm_of, hexdigest
from custody.trust.verify import Source, VerifiedBundle

PAYLOAD_TYPE = "application/vnd.airgap.receipt+json"


@dataclass(frozen=True)
class Receipt:
    """What was found; null is what a refused bundle could not tell.

    Attributes:
        exit_code, reason: of a refusal; 0 and empty else.
        statement_digest: of the Statement as it was found, whoever signed it.
        root_fingerprint: of the newest believed root; when refused, the one that was asked for.
        builders, approvers: persons whose signatures counted.
        unread: number of files whose bytes were left to the installer (`--models`).
        time: UTC, of this machine's clock.
    """

    verdict: Literal["accepted", "refused"]
    exit_code: int
    reason: str
    bundle: str | None
    channel: str | None
    version: int | None
    statement_digest: str | None
    root_fingerprint: str | None
    root_version: int | None
    revocations: int | None
    builders: tuple[str, ...]
    approvers: tuple[str, ...]
    unread: int
    verifier: str
    host: str
    time: str

    def payload(self) -> bytes:
        """Canonical JSON."""
        content = {**vars(self), "builders": list(self.builders), "approvers": list(self.approvers)}
        return canonical.dump({"_type": "airgap-receipt", "schema_version": 1, **content})

    def signed_by(self, key: Signer) -> bytes:
        """A DSSE envelope with one signature."""
        return Envelope(PAYLOAD_TYPE, self.payload(), {}).signed_by(key).dump()


def accepted(bundle: VerifiedBundle, *, models_read: bool = True) -> Receipt:
    """The receipt of a bundle whose bytes were all compared, but for the models where they are somebody else's task."""
    identity, trust = bundle.statement.predicate.bundle, bundle.trust
    return Receipt(
        verdict="accepted",
        exit_code=0,
        reason="",
        bundle=identity.id,
        channel=identity.channel,
        version=identity.version,
        statement_digest=bundle.offer.statement_digest,
        root_fingerprint=trust.root.fingerprint,
        root_version=trust.root.version,
        revocations=trust.revocations.number,
        builders=bundle.builders,
        approvers=bundle.approvers,
        unread=0 if models_read else len(bundle.entries(MODELS)),
        verifier=f"airgap {custody.VERSION}",
        host=os.uname().nodename,
        time=_now(),
    )


def refused(source: Source, pinned: str | None, error: AirgapError) -> Receipt:
    """The receipt of a bundle that was refused."""
    try:
        algorithm = "sha256" if pinned is None else algorithm_of(pinned)
        found = hexdigest(algorithm, source.carrier("statement.json", statements.LIMIT_BYTES))
    except BundleMalformed:
        found = None
    return Receipt(
        verdict="refused",
        exit_code=error.exit_code,
        reason=error.message,
        bundle=None,
        channel=None,
        version=None,
        statement_digest=found,
        root_fingerprint=pinned,
        root_version=None,
        revocations=None,
        builders=(),
        approvers=(),
        unread=0,
        verifier=f"airgap {custody.VERSION}",
        host=os.uname().nodename,
        time=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
