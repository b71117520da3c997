"""Every way in which the gateway says no to a client, in the shape of OpenAI's errors.

Nothing here quotes a prompt, names a person or tells what is inside.
"""

from __future__ import annotations

import json
from typing import Any


class Refused(Exception):
    """A request that is not served.

    Args:
        status: of HTTP.
        kind: OpenAI's `type`.
        code: OpenAI's `code`; what metrics count.
        param: the field that is wrong.
        retry_after_s: whole seconds.
    """

    def __init__(
        self, status: int, kind: str, code: str, message: str, *, param: str | None = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(code)
        self.status, self.kind, self.code, self.message = status, kind, code, message
        self.param, self.retry_after_s = param, retry_after_s

    def content(self) -> dict[str, Any]:
        """The body of the answer, and of an error event in a stream."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The same as bytes."""
        return json.dumps(self.content()).encode()


def invalid(message: str, *, param: str | None = None, code: str = "invalid_request", status: int = 400) -> Refused:
    """The client's mistake."""
    return Refused(status, "invalid_request_error", code, message, param=param)


def unauthenticated() -> Refused:
    """No key, an unknown, expired or revoked one: one answer to all of them."""
    return Refused(401, "authentication_error", "invalid_api_key", "no valid API key")


def no_model() -> Refused:
    """One that does not exist, or that this user shall not know of."""
    return Refused(404, "invalid_request_error", "model_not_found", "no such model", param="model")


def limited(code: str, message: str, retry_after_s: float) -> Refused:
    """Too much at once; worth trying again."""
    return Refused(429, "rate_limit_error", code, message, retry_after_s=max(1, int(retry_after_s + 0.999)))


def unavailable(code: str, message: str) -> Refused:
    """Nothing that the client did."""
    return Refused(503, "server_error", code, message, retry_after_s=1)


def engine_failed(message: str = "the engine failed") -> Refused:
    """The engine died, or said what an engine does not say."""
    return Refused(502, "server_error", "engine_failed", message)
