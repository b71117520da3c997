"""`/v1/responses`, as llama-server has it: OpenAI's Responses API without anything that is kept for later.

What a request would have remembered (`previous_response_id`, `conversation`, `prompt`), have done beside the model
(tools other than functions) or have had in another form (`text.format`) is refused and not dropped: llama-server
passes over most of it, and the answer would be another one than was asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from appliance.gateway import refusal
from appliance.gateway.body import MANY, Part
from appliance.gateway.proxy import DATA, JSON, Answer, object_of

_EVENT, _CALL = b"event: ", "function_call"
#: Events that pass, by their ending: what is new in the text, what is told of it, what ends the stream.
_DELTAS = frozenset(f"response.{part}.delta" for part in ("output_text", "reasoning_text", "function_call_arguments"))
_TOLD = frozenset(
    f"response.{part}"
    for part in (
        "created", "in_progress", "output_item.added", "output_item.done", "content_part.added", "content_part.done",
        "output_text.done",
    )
)  # fmt: skip
_LAST = frozenset(f"response.{part}" for part in ("completed", "incomplete"))
_EVENT_FIELDS = ("type", "item_id", "item", "part", "delta", "text", "response")


def _require_false(value: bool) -> bool:
    if value:
        raise ValueError
    return value


#: Not `Literal[False]`, which takes 0.
_Never = Annotated[bool, AfterValidator(_require_false), WithJsonSchema({"const": False})]


class TextItem(Part):
    """A piece of a message."""

    type: Literal["input_text", "output_text"]
    text: str


class RefusalItem(Part):
    """What a model refused to say."""

    type: Literal["refusal"]
    refusal: str


class MessageItem(Part):
    """One turn of a conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextItem | RefusalItem], MANY]


class CallItem(Part):
    """What a model wanted to have called."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class OutputItem(Part):
    """What that gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Annotated[list[TextItem], MANY]


class Thought(Part):
    """A piece of what a model thought."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Part):
    """What a model thought."""

    type: Literal["reasoning"]
    summary: Annotated[list[Thought], MANY]
    content: Annotated[list[Thought], MANY] | None = None


class FunctionTool(Part):
    """What a model may call."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class PlainFormat(Part):
    """The one form that llama-server gives answers here."""

    type: Literal["text"]


class TextOptions(Part):
    """How the answer is written."""

    format: PlainFormat | None = None


class Responses(Part):
    """POST /v1/responses."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: (
        str
        | Annotated[
            list[MessageItem | CallItem | OutputItem | ReasoningItem],
            Field(min_length=1, max_length=2048, fail_fast=True),
        ]
    )
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | None = None
    parallel_tool_calls: bool | None = None
    # Looked at, and not passed on.
    text: Annotated[TextOptions | None, Field(exclude=True)] = None
    background: Annotated[_Never | None, Field(exclude=True)] = None
    previous_response_id: Annotated[None, Field(exclude=True)] = None
    conversation: Annotated[None, Field(exclude=True)] = None
    prompt: Annotated[None, Field(exclude=True)] = None


class Response(Answer):
    """What a client was given; the event `response.completed` ends a stream, and no `[DONE]` follows."""

    fields = frozenset({"id", "object", "created_at", "completed_at", "model", "status", "output", "usage"})
    usage_names = ("input_tokens", "output_tokens", "total_tokens")

    def _texts(self, content: dict[str, Any]) -> list[Any]:
        output = content.get("output") or []
        if not isinstance(output, list):
            raise refusal.engine_failed()
        return [text for item in output for text in _written(item)]

    def _event(self, event: bytes, *, with_usage: bool) -> bytes:
        name, _, data = event.partition(b"\n")
        if not name.startswith(_EVENT) or not data.startswith(DATA) or b"\n" in data:
            raise refusal.engine_failed()  # an error of the engine's is of another shape, too
        content = object_of(data[len(DATA) :])
        kind = content.get("type")
        if kind in _DELTAS:
            self.tokens_out += self._hash([content.get("delta")])
        elif kind == "response.output_item.added":
            self._hash(_written(content.get("item"))[:1])  # a call's name; arguments follow
        elif kind in _LAST:
            self.has_ended = True
        elif kind not in _TOLD:
            return b""
        if isinstance(content.get("response"), dict):
            self._count(content["response"].get("usage"))
            content["response"] = self._cleaned(content["response"])
        made = {field: content[field] for field in _EVENT_FIELDS if field in content}
        return b"%b\n%b%b\n\n" % (name, DATA, JSON.encode(made).encode())


def _written(item: Any) -> list[Any]:
    """The text of one item of an answer: what a person or a program will read."""
    if not isinstance(item, dict) or not isinstance(item.get("content") or [], list):
        raise refusal.engine_failed()
    if item.get("type") == _CALL:
        return [item.get("name"), item.get("arguments")]
    return [part.get("text") or part.get("refusal") for part in item.get("content") or [] if isinstance(part, dict)]
