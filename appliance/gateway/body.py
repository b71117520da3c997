"""A request's body: strict JSON (RFC 8259), of which a list of known fields goes on to the engine, and no other.

What a client says of slots, caches or salts (`cache_salt`, `id_slot`, `cache_prompt`, ...) is not on the list, so
it never arrives. Text alone is taken: no token numbers, which no guard could read, and no images or addresses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from appliance.gateway import refusal

#: Characters of a number; more than any needs, and long ones cost quadratic time.
_DIGITS = 64

_Text = str
_Unit = Annotated[float, Field(ge=-2, le=2)]
_Tokens = Annotated[int, Field(ge=1, le=1 << 31)]
_Number = Annotated[int, Field(ge=-(1 << 53), le=1 << 53)]
_BIASES = 1024
#: Of a list that may be long, within a body's bytes. It ends at its first wrong element: an error for each of a hundred
#: thousand costs seconds and 1 GB.
MANY = Field(fail_fast=True)


def _require_few(value: Any) -> Any:
    """Before its values are looked at: of an object, pydantic counts them only then."""
    if isinstance(value, dict) and len(value) > _BIASES:
        raise ValueError
    return value


_Bias = Annotated[float, Field(ge=-100, le=100)]
_Biases = Annotated[dict[str, _Bias], Field(max_length=_BIASES), BeforeValidator(_require_few)]


class Part(BaseModel):
    """A request or a piece of one; fields that are not here are not passed on."""

    model_config = ConfigDict(strict=True, extra="ignore")


class TextPart(Part):
    """A piece of a message."""

    type: Literal["text"]
    text: _Text


class CalledFunction(Part):
    """What a model wanted to have called."""

    name: _Text
    arguments: _Text


class ToolCall(Part):
    """The same, with its number."""

    id: _Text
    type: Literal["function"]
    function: CalledFunction


class Message(Part):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: _Text | Annotated[list[TextPart], MANY] | None = None
    name: _Text | None = None
    tool_calls: Annotated[list[ToolCall], MANY] | None = None
    tool_call_id: _Text | None = None


class Function(Part):
    """What a model may call."""

    name: _Text
    description: _Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part):
    """The same, with its kind."""

    type: Literal["function"]
    function: Function


class Named(Part):
    """A function by name."""

    name: _Text


class ToolChoice(Part):
    """The one function that shall be called."""

    type: Literal["function"]
    function: Named


class JsonSchema(Part):
    """The form that an answer shall have."""

    name: _Text
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Part):
    """The form that an answer shall have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Part):
    """`include_usage`: a last event with token counts."""

    include_usage: bool | None = None


class _Generation(Part):
    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: _Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: _Unit | None = None
    presence_penalty: _Unit | None = None
    seed: _Number | None = None
    stop: _Text | Annotated[list[_Text], Field(max_length=16)] | None = None
    logit_bias: _Biases | None = None


class Chat(_Generation):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_completion_tokens: _Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None


class Completion(_Generation):
    """POST /v1/completions."""

    prompt: _Text
    suffix: _Text | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None


class Embedding(Part):
    """POST /v1/embeddings."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: _Text | Annotated[list[_Text], Field(min_length=1, max_length=2048, fail_fast=True)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: _Tokens | None = None


#: Fields whose text reaches the model.
_SPOKEN = ("instructions", "messages", "tools", "tool_choice", "response_format", "prompt", "suffix", "input")
#: Values of a message that are words of the protocol or numbers of calls; each is checked against a list, or opaque.
_WORDS = frozenset({"role", "type"})


def parse(data: bytes, depth: int) -> dict[str, Any]:
    """An object from JSON.

    Args:
        depth: of arrays and objects.

    Raises:
        Refused: not UTF-8, not JSON, a key twice, NaN or Infinity, a number too long, too deep, half a surrogate pair.
    """
    try:
        found = _STRICT.decode(data.decode())
        if data.count(b"[") + data.count(b"{") > depth:
            _require_shallow(found, depth)
        if b"\\u" in data:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise refusal.invalid(f"the body is nested more than {depth} deep") from None
    except ValueError:
        raise refusal.invalid("the body is not JSON as expected") from None
    if not isinstance(found, dict):
        raise refusal.invalid("the body is not a JSON object")
    return found


def check(kind: type[BaseModel], content: dict[str, Any]) -> dict[str, Any]:
    """The known fields of a request, checked.

    Raises:
        Refused: a field is missing or not as expected; its value is not repeated.
    """
    try:
        return kind.model_validate(content).model_dump(exclude_none=True, by_alias=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"][:3])
        raise refusal.invalid(f"{field}: not as expected ({first['type']})", param=field or None) from None


def spoken(content: dict[str, Any]) -> list[str]:
    """Every text of a request that reaches the model, in order; of a tool's schema the keys, too."""
    return [text for name in _SPOKEN if name in content for text in _texts(content[name], is_free=False)]


def respoken(content: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """The same request with other texts, as many and in the order of `spoken`."""
    rest = iter(texts)
    changed = {name: _changed(content[name], rest, is_free=False) for name in _SPOKEN if name in content}
    return {**content, **changed}


def _texts(node: Any, *, is_free: bool) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for part in node:
            yield from _texts(part, is_free=is_free)
    elif isinstance(node, dict):
        for name, value in node.items():
            if is_free:
                yield name
            elif name in _WORDS:
                continue
            yield from _texts(value, is_free=is_free or name in ("parameters", "schema"))


def _changed(node: Any, rest: Iterator[str], *, is_free: bool) -> Any:
    if isinstance(node, str):
        return next(rest)
    if isinstance(node, list):
        return [_changed(part, rest, is_free=is_free) for part in node]
    if isinstance(node, dict):
        made = {}
        for name, value in node.items():
            if not is_free and name in _WORDS:
                made[name] = value
                continue
            key = next(rest) if is_free else name
            made[key] = _changed(value, rest, is_free=is_free or name in ("parameters", "schema"))
        return made
    return node


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key twice")
    return made


def _constant(_name: str) -> Any:
    raise ValueError("NaN or Infinity")


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _float(text: str) -> float:
    found = float(text) if len(text) <= _DIGITS else math.inf
    if not math.isfinite(found):
        raise ValueError("a number is too long or too large")
    # 4.0 is a whole number to JSON Schema, though not to Python.
    return int(found) if found.is_integer() and abs(found) < 1 << 53 else found


_STRICT = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_constant, parse_int=_int, parse_float=_float)


def _require_shallow(node: Any, depth: int) -> None:
    level = [node]
    for _ in range(depth):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for parts in inner for part in parts]
        if not level:
            return
    if any(isinstance(part, dict | list) for part in level):
        raise RecursionError
