"""Persons who agree to a change of policies, where the site wants more than one hand.

An approval is canonical JSON in a DSSE envelope. It names the version of the folder and the version that it replaces,
so that one from last year does not bring last year's policies back. Persons are counted, never keys, by the root of
trust that this host remembers; revoked keys do not count.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.gateway import yamltext
from appliance.gateway.folder import VERSION
from custody.atomic import write_whole
from custody.errors import EnvironmentProblem, InputInvalid, PolicyRefused, SignatureRejected, TargetRefused
from custody.trust import canonical
from custody.trust.chain import Carried, Kept, Trust, believe
from custody.trust.envelope import Envelope
from custody.trust.keys import Signer

PAYLOAD_TYPE = "application/vnd.airgap.policy-approval+json"
LIMIT_BYTES = 256 << 10
#: Beside the versions: how many persons must agree. Without it nobody needs to.
DEMAND = "approval.yml"
#: What the host remembers of its root; the installer writes it.
STATE = Path("/var/lib/airgap/state.json")
_REASON = re.compile(r"[ -~]{1,256}")


class Demand(yamltext.Strict):
    """What the site wants before policies change.

    Attributes:
        persons: how many.
        roles: of the root of trust; a person of any of them counts, once.
    """

    schema_version: Literal[1]
    persons: Annotated[int, Field(ge=1, le=16)]
    roles: Annotated[tuple[Literal["root", "builder", "approver", "recovery"], ...], Field(min_length=1)] = (
        "approver",
    )


@dataclass(frozen=True)
class Approval:
    """Leave to replace one version of the policies by another; `replaces` is empty where there are none yet."""

    version: str
    replaces: str
    reason: str

    def __post_init__(self) -> None:
        if not VERSION.fullmatch(self.version) or not (self.replaces == "" or VERSION.fullmatch(self.replaces)):
            raise InputInvalid("approval: expected versions of 64 hex digits", "airgap policy show")
        if not _REASON.fullmatch(self.reason):
            raise InputInvalid("--reason: expected 1 to 256 printable ASCII characters", "airgap policy approve --help")

    def payload(self) -> bytes:
        """Canonical JSON."""
        return canonical.dump({"_type": "airgap-policy-approval", "schema_version": 1, **vars(self)})


def read_demand(live: Path) -> Demand | None:
    """What the site wants; None: nothing.

    Raises:
        PolicyRefused: the file is there and cannot be read; then nothing may be applied.
    """
    file = live / DEMAND
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyRefused(f"{file}: {error}", f"ls -l {file}") from error
    return yamltext.load(text, Demand, str(file))


def approve(approval: Approval, out: Path, key: Signer) -> int:
    """Write an approval, or add a signature to one of the same content.

    Returns:
        How many signatures it has now.

    Raises:
        TargetRefused: `out` holds something else.
    """
    envelope = Envelope(PAYLOAD_TYPE, approval.payload(), {})
    if out.exists():
        envelope = Envelope.parse(_read(out), str(out))
        if (envelope.payload_type, envelope.payload) != (PAYLOAD_TYPE, approval.payload()):
            raise TargetRefused(f"{out}: holds another approval", "name a new file, or repeat the same approval")
    signed = envelope.signed_by(key)
    write_whole(out, signed.dump())
    return len(signed.signatures)


def require_approval(demand: Demand, trust: Trust, file: Path | None, version: str, replaces: str) -> tuple[str, ...]:
    """The persons who agreed to this step, if they are enough.

    Raises:
        SignatureRejected: too few persons, a false signature, or an approval of another step.
        BundleMalformed: not an envelope.
    """
    again = f"airgap policy approve FOLDER --replaces {replaces or 'none'} --reason TEXT --out FILE --key KEY"
    if file is None:
        raise SignatureRejected(
            f"policy {version[:16]}: this site wants the approval of {demand.persons} person(s), found none",
            f"{again}; then name it with --approval",
        )
    name = str(file)
    envelope = Envelope.parse(_read(file), name)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureRejected(f"{name}: expected an approval, found {envelope.payload_type!r:.80}", again)
    content: Any = canonical.parse(envelope.payload, name, LIMIT_BYTES)
    try:
        found = Approval(**{key: content[key] for key in Approval.__dataclass_fields__})
        same = found.payload() == envelope.payload
    except (KeyError, TypeError, InputInvalid) as error:
        raise SignatureRejected(f"{name}: not an approval: {error!r}", again) from error
    if not same or (found.version, found.replaces) != (version, replaces):
        raise SignatureRejected(
            f"{name}: expected an approval of {version[:16]} in place of {replaces[:16] or 'none'}, found one of"
            f" {found.version[:16]} in place of {found.replaces[:16] or 'none'}",
            again,
        )
    keyids = envelope.signers(trust.root.keys_by_id(), name) - frozenset(trust.revocations.keys)
    persons = tuple(sorted({name for role in demand.roles for name in trust.root.persons_with(role, keyids)}))
    if len(persons) < demand.persons:
        raise SignatureRejected(
            f"{name}: expected {demand.persons} person(s) of {', '.join(demand.roles)}, found {len(persons)}"
            f" ({', '.join(persons) or 'nobody'})",
            again,
        )
    return persons


def host_trust(file: Path = STATE) -> Trust:
    """The root and revocations that this host remembers.

    Raises:
        EnvironmentProblem: it remembers none.
    """
    try:
        state = json.loads(file.read_bytes())
        prints = tuple(state["root_fingerprints"]) or (state["root_fingerprint"],)
        root, revocations = (state[name] and base64.b64decode(state[name], validate=True) for name in _ENVELOPES)
        if not root:
            raise ValueError("no root")
        return believe(Carried({}), prints[-1], Kept(root, revocations, prints))
    except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise EnvironmentProblem(
            f"{file}: expected the root of trust that this host remembers: {error}", "airgap install"
        ) from error


_ENVELOPES = ("root", "revocations")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "name the file that airgap policy approve wrote") from error
