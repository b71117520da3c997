"""One request while it is open: who asks what, how far it has come, and how it will be recorded."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

from appliance.gateway import refusal
from appliance.gateway.config import ModelSettings
from appliance.gateway.identity import NAME, Identity
from appliance.gateway.limits import Share
from appliance.gateway.proxy import Answer
from appliance.gateway.refusal import Refused
from appliance.gateway.reply import Reply

#: What only nginx sets, and the key; twice is not believed.
_ONCE = frozenset({
    b"authorization", b"x-airgap-client-address", b"x-airgap-client-certificate", b"x-airgap-purpose", b"content-type",
    b"content-encoding", b"content-length", b"host",
})  # fmt: skip
_BEARER = b"bearer "


@dataclass(slots=True, eq=False)
class Call:
    """One request.

    Attributes:
        started_s: monotonic.
        seq: the number of its `admitted`; None: there is none yet.
        ended: why it was ended from outside.
        is_whole: its body has come.
        moved_s: monotonic; when the engine or the client last took part. None: neither has to, now.
    """

    reply: Reply
    request_id: str
    task: asyncio.Task[Any] | None
    started_s: float = field(default_factory=time.monotonic)
    identity: Identity | None = None
    client_ip: str = ""
    purpose: str = ""
    model: ModelSettings | None = None
    share: Share | None = None
    answer: Answer | None = None
    seq: int | None = None
    is_whole: bool = False
    moved_s: float | None = None
    ended: Refused | None = None
    has_finished: bool = False

    def end(self, why: Refused) -> None:
        """From outside: whatever it waits for, it waits no longer."""
        is_over = self.has_finished or self.reply.has_ended
        if self.ended is None and not is_over and self.task is not None:
            self.ended = why
            self.task.cancel()

    def moved(self) -> None:
        """The engine or the client took part."""
        self.moved_s = time.monotonic()


def new_id() -> str:
    """A request's id."""
    return f"req-{secrets.token_hex(12)}"


def headers_of(scope: Mapping[str, Any]) -> dict[bytes, bytes]:
    """A request's headers by name.

    Raises:
        Refused: one that decides something is there twice.
    """
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in found and name in _ONCE:
            raise refusal.invalid("a header is there twice")
        found[name] = value
    return found


def bearer(headers: Mapping[bytes, bytes]) -> str | None:
    """The key of `Authorization: Bearer`.

    Raises:
        Refused: something else is there.
    """
    value = headers.get(b"authorization")
    if value is None:
        return None
    if value[: len(_BEARER)].lower() != _BEARER or not value.isascii():
        raise refusal.unauthenticated()
    return value[len(_BEARER) :].strip().decode()


def certificate(headers: Mapping[bytes, bytes]) -> str:
    """SHA-256 of the certificate that the client has shown to nginx (PEM, escaped), lower-case hex; empty: none.

    Raises:
        Refused: it is none.
    """
    value = headers.get(b"x-airgap-client-certificate")
    if not value:
        return ""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(unquote(value.decode("ascii")))).hexdigest()
    except ValueError:
        raise refusal.unauthenticated() from None


def address(headers: Mapping[bytes, bytes]) -> str:
    """Where the client is, as nginx saw it; what clients say of it themselves is not read.

    Raises:
        Refused: nginx did not say.
    """
    try:
        return _address(headers[b"x-airgap-client-address"])
    except (KeyError, ValueError):
        raise refusal.unavailable("no_address", "the client's address is not known") from None


@lru_cache(maxsize=4096)
def _address(value: bytes) -> str:
    return str(ip_address(value.decode()))


def purpose(headers: Mapping[bytes, bytes]) -> str:
    """What the client says that it is for; a name, or empty.

    Raises:
        Refused: not a name.
    """
    value = headers.get(b"x-airgap-purpose", b"").decode("latin-1")
    if value and not NAME.fullmatch(value):
        raise refusal.invalid("X-Airgap-Purpose: expected lower-case letters, digits, '.', '_' and '-'")
    return value
