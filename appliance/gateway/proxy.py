"""What an engine answers becomes what a client is given: checked, counted, and without what is none of its business.

Of an object a list of known fields passes. How much of a prompt was cached does not: it would tell one user what
another one asked. A stream that does not end with `[DONE]` ends with an error event.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from appliance.gateway import refusal
from appliance.gateway.reply import Reply
from appliance.gateway.upstream import Connection

DATA, _DONE = b"data: ", b"[DONE]"
#: Seconds that an engine has after `[DONE]` to end its answer; its connection is used again then.
_LINGER_S = 0.1
JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
#: Of an engine's own words about what is wrong with a request.
_WORDS = 500


class Answer:
    """What a client was given of one request.

    Attributes:
        digest: of the text, in the order in which it was given.
        tokens_in: as the engine counts; 0 until it has told.
        tokens_out: the same; until then, pieces of a stream.
        has_usage: whether the engine has told.
        has_ended: whether a stream's last event has come.
        on_text: called when there is the first text.
        fields: of an object, that pass.
        usage_names: of token counts: of the prompt, of the answer, of both.
    """

    fields = frozenset({"id", "object", "created", "model", "choices", "usage", "data", "system_fingerprint"})
    usage_names = ("prompt_tokens", "completion_tokens", "total_tokens")

    def __init__(self, model: str, on_text: Callable[[], None]) -> None:
        self._model, self._on_text = model, on_text
        self.digest = hashlib.sha256()
        self.tokens_in = self.tokens_out = 0
        self.has_usage = self.has_ended = self._has_text = False
        self._first_s = self._last_s = 0.0  # monotonic, of texts

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens after the first, by the seconds from first to last text; None: all came at once, or there is one."""
        took_s = self._last_s - self._first_s
        return (self.tokens_out - 1) / took_s if took_s > 0 and self.tokens_out > 1 else None

    async def whole(self, connection: Connection, reply: Reply) -> None:
        """An answer that is no stream.

        Raises:
            Refused: the engine says so, or what it says is no answer.
        """
        content = object_of(await connection.whole())
        _require_answer(connection.status, content)
        self._count(content.get("usage"))
        self._hash(self._texts(content))
        content = self._cleaned(content)
        body = JSON.encode(content).encode()
        if "data" in content:
            self.digest.update(body)
        if not self._has_text:
            self._on_text()
        await reply.whole(200, body)

    async def stream(
        self,
        connection: Connection,
        reply: Reply,
        *,
        with_usage: bool,
        longest: tuple[int, int],
        on_piece: Callable[[], None],
    ) -> None:
        """Events, each as soon as it is there.

        Args:
            with_usage: the client asked for token counts.
            longest: bytes of one event, and of all.
            on_piece: called when the client has taken some.

        Raises:
            Refused: the engine ended in the middle, or says what an engine does not say.
        """
        if connection.status != 200:
            _require_answer(connection.status, object_of(await connection.whole()))
        await reply.begin()
        rest, size_bytes = b"", 0
        while data := await connection.read():
            size_bytes += len(data)
            *events, rest = (rest + data).split(b"\n\n")
            if max(map(len, (rest, *events))) > longest[0] or size_bytes > longest[1]:
                raise refusal.engine_failed("the answer is too large")
            made = []
            for event in events:
                if self.has_ended:
                    break
                if event.startswith(b":"):
                    made.append(b":\n\n")  # a sign of life
                elif event:
                    made.append(self._event(event, with_usage=with_usage))
            if text := b"".join(made):
                await reply.piece(text)
            on_piece()
            if self.has_ended:
                await reply.end()
                await connection.rest(_LINGER_S)
                return
        raise refusal.engine_failed("the engine ended in the middle of an answer")

    def _event(self, event: bytes, *, with_usage: bool) -> bytes:
        if event == DATA + _DONE:
            self.has_ended = True
            return event + b"\n\n"
        if not event.startswith(DATA) or b"\n" in event:
            raise refusal.engine_failed()
        content = object_of(event[len(DATA) :])
        if "error" in content:
            raise refusal.engine_failed()
        if self._hash(self._texts(content)) and not self.has_usage:
            self.tokens_out += 1
        if usage := content.get("usage"):
            self._count(usage)
            if not with_usage:
                if not content.get("choices"):
                    return b""
                del content["usage"]
        elif content.keys() <= self.fields and content.get("model") == self._model:
            return event + b"\n\n"
        content = self._cleaned(content)
        return DATA + JSON.encode(content).encode() + b"\n\n"

    def _texts(self, content: dict[str, Any]) -> list[Any]:
        """What a person or a program will read of an object; what is no text among it does not count."""
        choices = content.get("choices") or []
        if not isinstance(choices, list):
            raise refusal.engine_failed()
        return [text for choice in choices for text in _given(choice)]

    def _hash(self, texts: list[Any]) -> bool:
        """Hash texts; says whether there is one."""
        has_text = False
        for text in texts:
            if isinstance(text, str) and text:
                self.digest.update(text.encode("utf-8", "surrogatepass"))
                has_text = True
        if has_text:
            self._last_s = time.monotonic()
            if not self._has_text:
                self._has_text, self._first_s = True, self._last_s
                self._on_text()
        return has_text

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self.tokens_in, self.tokens_out = (_whole(usage.get(name)) for name in self.usage_names[:2])
            self.has_usage = True

    def _cleaned(self, content: dict[str, Any]) -> dict[str, Any]:
        made = {name: value for name, value in content.items() if name in self.fields}
        made["model"] = self._model
        if isinstance(usage := made.get("usage"), dict):
            made["usage"] = {name: usage[name] for name in self.usage_names if name in usage}
        return made


def _given(choice: Any) -> list[Any]:
    """The texts of a choice."""
    if not isinstance(choice, dict):
        raise refusal.engine_failed()
    part = choice.get("delta") or choice.get("message") or choice
    found = [part.get("reasoning_content"), part.get("content"), part.get("text")]
    for call in part.get("tool_calls") or ():
        function = call.get("function") or {}
        found += [function.get("name"), function.get("arguments")]
    return found


def object_of(data: bytes) -> dict[str, Any]:
    """What an engine says, which is an object.

    Raises:
        Refused: it is none.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise refusal.engine_failed() from None
    if not isinstance(content, dict):
        raise refusal.engine_failed()
    return content


def _require_answer(status: int, content: dict[str, Any]) -> None:
    if status == 200 and "error" not in content:
        return
    if status in (400, 404, 413, 422, 501):
        error = content.get("error")
        words = str(error.get("message", "")) if isinstance(error, dict) else ""
        raise refusal.invalid(words[:_WORDS] or "the engine refused the request", code="engine_refused")
    if status == 503:
        raise refusal.unavailable("engine_not_ready", "the model is being loaded")
    raise refusal.engine_failed()


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else 0
