"""What the gateway tells of a request, and the entries that the log keeps of it.

The gateway sends digests of texts. The log keeps HMACs of the digests: whoever reads the log cannot guess a short
prompt, and the gateway never holds the key. The text itself never reaches the audit process. openssl makes the same
HMAC from a text:

    printf 'prompt:%s' "$(sha256sum <text | cut -d' ' -f1)" | openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from custody.ledger.moment import Moment

SCHEMA = "airgap.audit/1"
#: Bounds of what an entry says; who writes one cuts to them.
NAME_CHARACTERS, REASON_CHARACTERS = 256, 4096
_Name = Annotated[str, Field(max_length=NAME_CHARACTERS)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: Canonical JSON has no larger numbers.
_Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Explanation(_Strict):
    """What the policies were asked, beside what `Admitted` says anyway.

    Attributes:
        action: what was asked for.
        at: the time that they were told, in their zone, RFC 3339.
        bits: of a weight of the model; 0: there is no such model.
        groups: of the user, sorted.
        label: of the model.
        purpose: that the client named; may be empty.
    """

    action: _Name
    at: _Name
    bits: _Count
    groups: tuple[_Name, ...]
    label: _Name
    purpose: _Name


class Admitted(_Strict):
    """A request that was decided on, before an engine sees it.

    Attributes:
        decision: whether it goes on.
        reason: why, in the gateway's words.
        prompt_sha256: of the request's text.
        policy_sha256: version of the policies in force, which stands for every byte of them; of older gateways: none.
    """

    user_id: _Name
    key_id: _Name
    client_ip: _Name
    role: _Name
    model: _Name
    model_digest: _Name
    policy_id: _Name
    decision: Literal["allow", "deny"]
    reason: Annotated[str, Field(max_length=REASON_CHARACTERS)]
    prompt_sha256: _Sha256
    request_id: _Name
    policy_sha256: _Sha256 | None = None
    explanation: Explanation | None = None


class Completed(_Strict):
    """How an admitted request ended.

    Attributes:
        seq: of its `Admitted`.
        output_sha256: of what the client was given.
    """

    seq: _Count
    output_sha256: _Sha256
    tokens_in: _Count
    tokens_out: _Count
    latency_ms: _Count
    status: _Name


class Request(_Strict):
    """One message of the gateway: a number of its own, and one of the two."""

    id: _Count
    admitted: Admitted | None = None
    completed: Completed | None = None


def blind(key: bytes, kind: Literal["prompt", "output"], sha256: str) -> str:
    """HMAC-SHA256 of a text's digest, lower-case hex."""
    return hmac.digest(key, f"{kind}:{sha256}".encode(), "sha256").hex()


def entry(kind: str, seq: int, moment: Moment, content: Mapping[str, Any]) -> bytes:
    """A log entry: canonical JSON (RFC 8785) of ASCII keys, texts and whole numbers."""
    fields = {
        "schema": SCHEMA, "kind": kind, "seq": seq, "time": moment.time, "boot_id": moment.boot_id,
        "monotonic_ms": moment.monotonic_ms, **content,
    }  # fmt: skip
    return _CANONICAL.encode(fields).encode()


def admitted_entry(seq: int, moment: Moment, record: Admitted, epoch: int, key: bytes) -> bytes:
    """The entry before the engine sees the prompt."""
    content = {name: value for name, value in vars(record).items() if value is not None}
    if record.explanation is not None:
        content["explanation"] = vars(record.explanation)
    content["prompt_hmac"] = blind(key, "prompt", content.pop("prompt_sha256"))
    return entry("admitted", seq, moment, {**content, "epoch": epoch})


def completed_entry(seq: int, moment: Moment, record: Completed, epoch: int, key: bytes) -> bytes:
    """The entry after; `of` is the admitted one's number."""
    content = dict(vars(record))
    content["output_hmac"] = blind(key, "output", content.pop("output_sha256"))
    content["of"] = content.pop("seq")
    return entry("completed", seq, moment, {**content, "epoch": epoch})
