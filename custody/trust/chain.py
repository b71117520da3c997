"""From the root that a machine believes to the newest one, and the revocations that this one signed.

TUF's rules (specification 1.0, 5.3): root N+1 follows root N when enough root persons of both signed it. What a
machine remembers from before is stronger than what a medium carries. Pure: bytes in, a `Trust` out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from custody.errors import BundleMalformed, TrustRejected
from custody.trust import revocations as lists
from custody.trust import root as roots
from custody.trust.envelope import Envelope
from custody.trust.profile import algorithm_of, hexdigest
from custody.trust.revocations import Revocations
from custody.trust.root import Root

_PAPER = "compare with the paper that travelled apart from the medium; do not go on"
_AGAIN = "fetch the medium again from where it was made"
_UNSIGNED = "nobody has signed it: airgap sign BUNDLE --key KEY --trust FOLDER"


@dataclass(frozen=True)
class Carried:
    """What lies in a trust folder, unverified: envelopes."""

    roots: Mapping[int, bytes]
    revocations: bytes | None = None


@dataclass(frozen=True)
class Kept:
    """What a machine remembers, all of it verified when it was kept.

    Attributes:
        root: the newest root's envelope.
        revocations: the newest list's envelope.
        fingerprints: of every root that was believed.
    """

    root: bytes | None = None
    revocations: bytes | None = None
    fingerprints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trust:
    """What is believed now. Only `believe` makes one.

    Attributes:
        root: the newest root, with which everything else is judged.
        revocations: the newest list.
        kept: what to remember.
    """

    root: Root
    revocations: Revocations
    kept: Kept
    _token: object = field(repr=False)

    def __post_init__(self) -> None:
        if self._token is not _MADE_HERE:
            raise TypeError("only custody.trust.chain makes a Trust")


_MADE_HERE = object()


def believe(carried: Carried, pinned: str, kept: Kept = Kept()) -> Trust:
    """Follow the roots to the newest, then take the newest revocations.

    Args:
        pinned: fingerprint that a person typed or a machine holds; it must be that of a root on the way.

    Raises:
        TrustRejected: no root with that fingerprint, a gap, a fork, a list that takes something back.
        SignatureRejected: too few persons signed a root or the list.
        BundleMalformed: an envelope is broken.
    """
    old = _revocations(kept.revocations, "kept revocations") if kept.revocations else Revocations()
    # A pin that was remembered before any medium came is where this machine begins, whatever is typed now.
    begin = kept.fingerprints[-1] if kept.fingerprints else pinned
    data = kept.root if kept.root is not None else _with_fingerprint(carried, begin)
    root = _alone(data)
    seen = [root.fingerprint]
    newest = max(carried.roots, default=0)
    if newest >= root.version and _payload(carried, root.version) != root.payload():
        raise TrustRejected(
            f"{root.version}.root.json: two roots have this version, and the other one is believed", _PAPER
        )
    for version in range(root.version + 1, newest + 1):
        _payload(carried, version)
        root, data = _next(root, carried.roots[version], frozenset(old.keys)), carried.roots[version]
        seen.append(root.fingerprint)
    fingerprints = (*(x for x in kept.fingerprints if x not in seen), *seen)
    if pinned not in fingerprints:
        raise TrustRejected(f"root: expected the fingerprint {pinned}, found {seen[-1]}", _PAPER)
    new, list_data = old, kept.revocations
    if carried.revocations is not None:
        new, list_data = _newer(root, old, carried.revocations, kept.revocations)
    return Trust(root, new, Kept(data, list_data, fingerprints), _MADE_HERE)


def _with_fingerprint(carried: Carried, pinned: str) -> bytes:
    found, algorithm = [], algorithm_of(pinned)
    for version, data in sorted(carried.roots.items()):
        payload = _envelope(data, roots.PAYLOAD_TYPE, f"{version}.root.json").payload
        found.append(hexdigest(algorithm, payload))
        if found[-1] == pinned:
            return data
    raise TrustRejected(
        f"root: expected the fingerprint {pinned}, found {', '.join(found) or 'no root'}",
        _PAPER if found else _UNSIGNED,
    )


def _payload(carried: Carried, version: int) -> bytes:
    if version not in carried.roots:
        raise TrustRejected(f"{version}.root.json: missing; roots follow each other one by one", _AGAIN)
    return _envelope(carried.roots[version], roots.PAYLOAD_TYPE, f"{version}.root.json").payload


def _alone(data: bytes) -> Root:
    """The root to begin with: believed for its fingerprint, and signed by its own persons."""
    envelope = _envelope(data, roots.PAYLOAD_TYPE, "root")
    root = Root.parse(envelope.payload, "root")
    name = f"{root.version}.root.json"
    root.require("root", envelope.signers(root.keys_by_id(), name), name)
    return root


def _next(root: Root, data: bytes, revoked: frozenset[str]) -> Root:
    name = f"{root.version + 1}.root.json"
    envelope = _envelope(data, roots.PAYLOAD_TYPE, name)
    new = Root.parse(envelope.payload, name)
    if new.version != root.version + 1:
        raise TrustRejected(f"{name}: expected version {root.version + 1}, found {new.version}", _AGAIN)
    for judge in (root, new):
        signers = envelope.signers(judge.keys_by_id(), name) - revoked
        judge.require("root", signers, f"{name}, judged by root {judge.version}")
    return new


def _newer(root: Root, old: Revocations, data: bytes, old_data: bytes | None) -> tuple[Revocations, bytes | None]:
    name = "revocations.json"
    new = _revocations(data, name)
    if new.number < old.number:
        return old, old_data  # an older medium; what was revoked since stays revoked
    new.require_growth(old, name)
    signers = _envelope(data, lists.PAYLOAD_TYPE, name).signers(root.keys_by_id(), name)
    root.require("root", signers - frozenset(new.keys), name)
    return new, data


def _revocations(data: bytes, name: str) -> Revocations:
    return Revocations.parse(_envelope(data, lists.PAYLOAD_TYPE, name).payload, name)


def _envelope(data: bytes, payload_type: str, name: str) -> Envelope:
    envelope = Envelope.parse(data, name)
    if envelope.payload_type != payload_type:
        raise BundleMalformed(
            f"{name}: expected the payload type {payload_type}, found {envelope.payload_type!r}", _AGAIN
        )
    return envelope
