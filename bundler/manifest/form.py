"""What a field may hold, in words: one source for errors and for the reference pages."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from custody.trust.canonical import LARGEST

#: More of a wrong value says no more.
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Form:
    """One form of text, a path or an address.

    Attributes:
        words: what is expected, as a noun phrase.
        check: returns the value, perhaps normalised; a `ValueError` refuses it.
        secret: never show what was found.
    """

    words: str
    check: Callable[[Any], Any]
    secret: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._apply, handler(source))

    def _apply(self, value: Any) -> Any:
        try:
            return self.check(value)
        except ValueError as error:
            raise PydanticCustomError("form", "expected {words}", {"words": self.words}) from error


def text(pattern: str, words: str) -> Form:
    """The form of text that a regular expression matches from its first to its last character."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return Form(words, check)


def misfit(expected: str, found: str, *at: str | int) -> PydanticCustomError:
    """The error of a validator over several fields.

    Args:
        at: the field at fault, below the model that is validated.
    """
    return PydanticCustomError("misfit", "{expected}", {"expected": expected, "found": found, "at": at})


def words(annotation: Any) -> str:
    """What a type accepts, as a noun phrase: `a whole number from 1 to 10^15-1`."""
    kind, marks = _unwrap(annotation)
    if forms := [mark for mark in marks if isinstance(mark, Form)]:
        return forms[-1].words  # each asks for more than the one before
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        values = ", ".join(map(str, inner))
        return values if len(inner) == 1 else f"one of {values}"
    if origin in (Union, types.UnionType):
        return ", or ".join(words(choice) for choice in inner)
    if origin is tuple:
        few = " of at least one" if any(isinstance(mark, MinLen) for mark in marks) else ""
        return f"a list{few}, each {words(inner[0])}"
    if origin is dict:
        return f"a mapping from {words(inner[0])} to {words(inner[1])}"
    if kind is int:
        return _number(marks)
    return _PLAIN.get(kind, "a mapping")


def is_secret(annotation: Any) -> bool:
    """Whether a wrong value must not be shown."""
    return any(isinstance(mark, Form) and mark.secret for mark in _unwrap(annotation)[1])


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a type asks for, `None` being allowed beside it."""
    kind = plain(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def member(annotation: Any, part: str | int) -> Any:
    """The type of one field, entry or item of a type; `None` when it has none of that name."""
    kind = plain(annotation)
    if model := model_of(kind):
        field = model.model_fields.get(str(part))
        return field_type(field) if field else None
    inner = get_args(kind)
    if get_origin(kind) is tuple and isinstance(part, int):
        return inner[0]
    return inner[1] if get_origin(kind) is dict else None


def key_of(annotation: Any) -> Any:
    """The type of a mapping's keys."""
    return get_args(plain(annotation))[0]


def is_compound(annotation: Any) -> bool:
    """Whether a type asks for a mapping or a list."""
    kind = plain(annotation)
    return model_of(kind) is not None or get_origin(kind) in (tuple, dict)


def field_type(field: FieldInfo) -> Any:
    """A field's type with its constraints."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def found(value: Any) -> str:
    """A value as an error shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        shown = str(value)
        return repr(shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…")
    if isinstance(value, int):
        return str(value)
    return kind_of(value)


def kind_of(value: Any) -> str:
    """The kind of a value, without its content."""
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, bool) or value is None:
        return found(value)
    return "a number" if isinstance(value, int | float) else "text"


_PLAIN: dict[Any, str] = {
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "null",
    None: "null",
}


def _number(marks: list[Any]) -> str:
    low = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    high = next((mark.le for mark in marks if isinstance(mark, Le)), None)
    limits = [f"from {low}"] if low is not None else []
    limits += [f"to {'10^15-1' if high == LARGEST else high}"] if high is not None else []
    return " ".join(["a whole number", *limits])


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """A type and its constraints, those of pydantic's `Field` included."""
    marks: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for mark in extra:
            marks += mark.metadata if isinstance(mark, FieldInfo) else [mark]
    return annotation, marks


def plain(annotation: Any) -> Any:
    """A type without its constraints, and without `None` where that is allowed beside it."""
    kind = _unwrap(annotation)[0]
    if get_origin(kind) in (Union, types.UnionType):
        rest = [choice for choice in get_args(kind) if choice is not type(None)]
        return plain(rest[0])
    return kind
