"""What this host remembers: roots and revocations that verified, the newest healthy release, used orders.

One file, written so that a crash leaves the old one or the new one.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from bundler.install import paths
from bundler.manifest.strict import Strict, validate
from custody.atomic import sync_folder, write_whole
from custody.errors import EnvironmentProblem, InputInvalid, TrustRejected
from custody.lock import alone
from custody.trust.chain import Kept, Trust
from custody.trust.policy import Accepted, Offer

Fingerprint = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64}|[0-9a-f]{96})$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{96}$")]


class State(Strict):
    """The anti-rollback state.

    Attributes:
        root_fingerprint: of the newest believed root; `root_fingerprints`: of all of them.
        root, revocations: the newest envelopes, Base64.
        statement: digest of the Statement of the newest healthy release; an earlier airgap kept none.
        time_floor_s: the newest time that a healthy release spoke of; a clock before it is wrong.
        used_orders: SHA-384 of downgrade orders.
    """

    schema_version: int = 1
    root_fingerprint: Fingerprint | None = None
    root_fingerprints: tuple[Fingerprint, ...] = ()
    root: str | None = None
    revocations: str | None = None
    channel: str = ""
    version: Annotated[int, Field(ge=0)] = 0
    security_epoch: Annotated[int, Field(ge=0)] = 0
    release: str | None = None
    statement: Fingerprint | None = None
    time_floor_s: Annotated[int, Field(ge=0)] = 0
    used_orders: tuple[Digest, ...] = ()

    @property
    def kept(self) -> Kept:
        """As trust wants it.

        Raises:
            EnvironmentProblem: not what was written here.
        """
        try:
            root, revocations = (x and base64.b64decode(x, validate=True) for x in (self.root, self.revocations))
        except binascii.Error as error:
            raise EnvironmentProblem(f"{file()}: broken: {error}", "restore it from the site's records") from error
        fingerprints = self.root_fingerprints or ((self.root_fingerprint,) if self.root_fingerprint else ())
        return Kept(root or None, revocations or None, fingerprints)

    def with_trust(self, trust: Trust) -> State:
        """The same, remembering roots and revocations."""
        kept = trust.kept
        return self.model_copy(
            update={
                "root_fingerprint": kept.fingerprints[-1],
                "root_fingerprints": kept.fingerprints,
                "root": _text(kept.root),
                "revocations": _text(kept.revocations),
            }
        )

    def with_release(self, offer: Offer, release: str, used_order: str | None) -> State:
        """The same, after a release has become healthy."""
        identity = offer.identity
        return self.model_copy(
            update={
                "channel": identity.channel,
                "version": identity.version,
                "security_epoch": identity.security_epoch,
                "release": release,
                "statement": offer.statement_digest,
                "time_floor_s": max(self.time_floor_s, identity.source_date_epoch),
                "used_orders": (*self.used_orders, *((used_order,) if used_order else ())),
            }
        )

    @property
    def accepted(self) -> Accepted:
        """As policy wants it."""
        return Accepted(self.channel, self.version, self.security_epoch, self.statement or "")


def file() -> Path:
    """Where it is kept."""
    return paths.STATE / "state.json"


def load_state() -> State:
    """The host's state; a host without one has accepted nothing.

    Raises:
        EnvironmentProblem: the file is there and broken.
    """
    try:
        data = file().read_bytes()
    except FileNotFoundError:
        return State()
    try:
        return validate(json.loads(data), State, file())
    except (ValueError, InputInvalid) as error:
        raise EnvironmentProblem(f"{file()}: broken: {error}", "restore it from the site's records") from error


def change(to: Callable[[State], State]) -> State:
    """Change the state durably, from what it is now; waits for whoever else changes it.

    Returns:
        What is remembered now.
    """
    paths.STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(paths.STATE, "another airgap", waiting=lambda _text: None):
        before = load_state()
        after = to(before)
        if after != before:
            text = json.dumps(after.model_dump(mode="json"), indent=1, sort_keys=True)
            write_whole(file(), text.encode(), mode=0o600)
    return after


def require_pin(state: State, fingerprint: str) -> None:
    """Refuse another root than the one that this host believes.

    Raises:
        TrustRejected: with both fingerprints.
    """
    if state.root_fingerprint is not None and fingerprint not in state.kept.fingerprints:
        raise TrustRejected(
            f"root: this host pinned {state.root_fingerprint}, found {fingerprint}",
            "compare with the paper; a change of root needs a rotation that the old root signed",
        )


def pin(fingerprint: str) -> bool:
    """Remember a root before the first medium arrives.

    Returns:
        False when it was believed already.

    Raises:
        TrustRejected: another root is believed.
    """
    is_new = False

    def pinned(state: State) -> State:
        nonlocal is_new
        require_pin(state, fingerprint)
        is_new = state.root_fingerprint is None
        known = {"root_fingerprint": fingerprint, "root_fingerprints": (fingerprint,)}
        return state.model_copy(update=known) if is_new else state

    change(pinned)
    return is_new


def switch_release(release: Path) -> Path | None:
    """Make a release the current one with one rename; returns the one before."""
    before = paths.CURRENT.resolve() if paths.CURRENT.is_symlink() else None
    _link(paths.CURRENT, release)
    _link(paths.PROGRAM, paths.CURRENT / "venv" / "bin" / "airgap")
    return before


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _link(path: Path, target: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(path)
    sync_folder(path.parent)
