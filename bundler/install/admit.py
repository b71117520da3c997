"""What this host lets in: a bundle judged with everything that the host remembers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.install import state
from custody.errors import InputInvalid
from custody.trust.chain import Trust
from custody.trust.policy import ORDER_LIMIT_BYTES, parse_order, require_not_older
from custody.trust.verify import Source, VerifiedBundle, read_trust, verify_statement


@dataclass(frozen=True)
class Terms:
    """What the operator has from elsewhere.

    Attributes:
        fingerprint: of a root, from the paper; None on a host that believes one.
        minimum_version: from the paper; wanted on a host that remembers no release.
        order: a file with a downgrade order.
    """

    fingerprint: str | None
    minimum_version: int | None = None
    order: Path | None = None


@dataclass(frozen=True)
class Admitted:
    """A bundle that this host may install; its leaves are checked as they are read.

    Attributes:
        used_order: digest of the downgrade order that it took, to be remembered once the release is healthy.
    """

    bundle: VerifiedBundle
    used_order: str | None


def admit(source: Source, terms: Terms, *, remember: bool) -> Admitted:
    """Judge a bundle: roots, revocations, signatures, list of files, then versions.

    Args:
        remember: keep roots and revocations as soon as they verify, whatever becomes of the rest.

    Raises:
        IntegrityFailure: one of its kinds.
        InputInvalid: the host remembers nothing, and the paper's values are not given.
    """
    before = state.load_state()
    trust = _trust(source, terms, before)
    if remember:

        def trusting(now: state.State) -> state.State:
            nonlocal trust
            if now.kept != before.kept:  # another run learned more in the meantime
                trust = _trust(source, terms, now)
            return now.with_trust(trust)

        before = state.change(trusting)
    bundle = verify_statement(source, trust)
    order = None if terms.order is None else parse_order(_read(terms.order), trust, str(terms.order))
    takes_order = require_not_older(
        bundle.offer, before.accepted, minimum=terms.minimum_version, order=order, used=before.used_orders
    )
    return Admitted(bundle, order.digest if order is not None and takes_order else None)


def _trust(source: Source, terms: Terms, known: state.State) -> Trust:
    pinned = terms.fingerprint or known.root_fingerprint
    if pinned is None:
        raise InputInvalid("this host believes no root yet", "give its fingerprint from the paper: --fingerprint HEX")
    return read_trust(source, pinned, known.kept)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(ORDER_LIMIT_BYTES + 1)
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "name the file that `airgap trust order` made") from error
