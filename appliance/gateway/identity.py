"""Who asks: what a key or a client certificate stands for, and how much it may ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Of users, roles, groups, purposes and sensitivity labels.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Limits:
    """What one user may ask for; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    prompt_max_tokens: int | None = None
    output_max_tokens: int | None = None


@dataclass(frozen=True)
class Identity:
    """A user, as one key or certificate shows it.

    Attributes:
        key_id: which credential; never a secret. Of a certificate: `cert-` and 16 digits of its fingerprint.
        expires_at: of the credential or of the user, whichever is first; Unix seconds, None: never.
    """

    user_id: str
    key_id: str
    role: str
    groups: frozenset[str]
    limits: Limits
    expires_at: float | None
