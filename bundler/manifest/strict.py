"""Strict models of what people write, and errors that cite file, line and field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bundler.manifest import form, parse
from bundler.manifest.parse import Lines, Location
from custody.errors import InputInvalid

#: Larger than any hand-written file, small enough to parse at once.
MAX_BYTES = 1 << 20
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,60}")


class Strict(BaseModel):
    """Base of all input models: frozen, no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class _Fault:
    """One thing that is wrong, and where."""

    at: Location
    expected: str
    found: str
    hint: str = ""


def load(file: Path, model: type[Model], hint: str) -> Model:
    """Read a YAML file into a model.

    Args:
        hint: where to read on, for faults that have no better one.

    Raises:
        InputInvalid: unreadable, too large, not YAML, or not what the model asks for; every field at fault is
            listed as `file:line: field: expected this, found that`.
    """
    content, lines = parse.parse_yaml(parse.decode(parse.read_file(file, MAX_BYTES, hint), file, hint), file)
    return validate(content, model, file, hint, lines)


def load_json(data: bytes, model: type[Model], file: Path, hint: str) -> Model:
    """Read JSON into a model; errors as `load`."""
    text = parse.decode(data, file, hint)
    content = parse.parse_json(text, file, hint)
    try:
        return validate(content, model, file, hint)
    except InputInvalid:
        lines = parse.json_lines(text)  # slow: only for an error
    return validate(content, model, file, hint, lines)


def validate(content: Any, model: type[Model], file: Path, hint: str = "", lines: Lines | None = None) -> Model:
    """Check parsed content against a model; see `load` for the errors."""
    faults = list(_oddities(content, (), model))
    if not faults:
        try:
            # Through JSON rules, so that text may become a path or an address though the models are strict.
            return model.model_validate_json(json.dumps(content))
        except ValidationError as error:
            faults = _faults(error, model)
    complaints = [_place(file, fault.at, lines) + f"expected {fault.expected}, found {fault.found}" for fault in faults]
    hints = {fault.hint or hint for fault in faults}
    raise InputInvalid("\n".join(complaints), hints.pop() if len(hints) == 1 else hint)


def dotted(path: Location) -> str:
    """`("models", 0, "name")` as `models[0].name`; what is no plain word is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _WORD.fullmatch(part) else form.found(part)
            text += f".{name}" if text else name
    return text


def _oddities(content: Any, at: Location, annotation: Any) -> Iterator[_Fault]:
    """What no field may hold."""
    if isinstance(content, parse.Odd):
        own = form.words(annotation) if annotation is not None else "a known field"
        yield _Fault(at, content.expected or own, content.found, content.hint)
    elif len(at) > parse.MAX_DEPTH:
        yield _Fault(at[:2], f"at most {parse.MAX_DEPTH} levels", "more")
    elif isinstance(content, str) and (odd := parse.unseen(content)):
        yield _Fault(at, "one line of visible text", odd, "take the character out; fold long lines with >-")
    elif isinstance(content, list | dict):
        for part, value in content.items() if isinstance(content, dict) else enumerate(content):
            inner = None if annotation is None else form.member(annotation, part)
            yield from _oddities(value, (*at, part), inner)


def _faults(error: ValidationError, model: type[BaseModel]) -> list[_Fault]:
    """What pydantic found, in words; a misspelled field is one fault, not an unknown and a missing one."""
    faults: list[_Fault] = []
    guessed: set[Location] = set()
    for fault in error.errors(include_url=False):
        at, context = tuple(fault["loc"]), fault.get("ctx", {})
        if fault["type"] == "too_short" and context["actual_length"] < len(fault["input"]):
            continue  # long enough, but for the items that are faults of their own
        of_key = bool(at) and at[-1] == "[key]"
        if of_key:
            at = at[:-1]
        wanted: Any = model
        for part in at[:-1]:
            wanted = None if wanted is None else form.member(wanted, part)
        parent = wanted
        if at and wanted is not None:
            wanted = form.key_of(wanted) if of_key else form.member(wanted, at[-1])
        if fault["type"] == "misfit":
            faults.append(_Fault((*at, *context["at"]), context["expected"], context["found"]))
        elif fault["type"] == "extra_forbidden":
            owner = form.model_of(parent)
            names = list(owner.model_fields) if owner else []
            near = get_close_matches(str(at[-1]), names, 1)
            guessed.update((*at[:-1], name) for name in near)
            hint = f"did you mean {near[0]}?" if near else ""
            faults.append(_Fault(at, f"one of {', '.join(names)}", "an unknown field", hint))
        else:
            expected = form.words(wanted) if wanted is not None else fault["msg"]
            value = None if fault["type"] == "missing" else at[-1] if of_key else fault["input"]
            hide = wanted is None or form.is_secret(wanted) or form.is_compound(wanted)
            faults.append(_Fault(at, expected, form.kind_of(value) if hide else form.found(value)))
    return [fault for fault in faults if fault.found != "nothing" or fault.at not in guessed]


def _place(file: Path, at: Location, lines: Lines | None) -> str:
    nearest = next((at[:n] for n in range(len(at), -1, -1) if at[:n] in (lines or {})), None)
    line = f":{lines[nearest]}" if lines and nearest is not None else ""
    return f"{file}{line}: {dotted(at)}: " if at else f"{file}{line}: "
