"""May this user ask this of this model, from there, now, for that?"""

from __future__ import annotations

from dataclasses import dataclass


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
