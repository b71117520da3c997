"""YAML that means one thing: strict loading, and errors that cite file, line and field.

Refuses duplicate keys, anchors and aliases (an alias bomb is small on disk and huge in memory), files over
1 MiB, and anything that the model does not name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from custody.errors import InputInvalid

#: Larger than any hand-written file, small enough to parse at once.
MAX_BYTES = 1 << 20


class Strict(BaseModel):
    """Base of all input models: frozen, no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and aliases and keeps the line of every field."""

    lines: dict[Location, int]


def _construct(loader: _Loader, node: yaml.Node, path: Location, file: Path) -> Any:
    loader.lines[path] = _line(node)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise InputInvalid(f"{file}:{line}: a key must be plain text", "quote the key")
            key = key_node.value
            if key in result:
                raise InputInvalid(
                    f"{file}:{line}: {dotted((*path, key))}: the key appears twice", "keep one of the two"
                )
            result[key] = _construct(loader, value_node, (*path, key), file)
            loader.lines[(*path, key)] = line
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, child, (*path, i), file) for i, child in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _line(at: yaml.Node | yaml.Event) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1


def dotted(path: Location) -> str:
    """`("models", 0, "name")` as `models[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def load(file: Path, model: type[Model]) -> Model:
    """Read a YAML file into a model.

    Raises:
        InputInvalid: unreadable, too large, not YAML, or not what the model asks for; every field at fault is
            listed as `file:line: field: what is wrong`.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "check the path") from error
    if len(data) > MAX_BYTES:
        raise InputInvalid(f"{file}: {len(data)} bytes, at most {MAX_BYTES} expected", "is this the right file?")
    try:
        loader = _Loader(data.decode())
        loader.lines = {}
        for event in yaml.parse(data.decode(), Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = _line(event)
                raise InputInvalid(f"{file}:{line}: aliases (*name) are not allowed", "write the value out")
        node = loader.get_single_node()
        if node is None:
            raise InputInvalid(f"{file}: empty", "start from an example under manifests/")
        content = _construct(loader, node, (), file)
    except UnicodeDecodeError as error:
        raise InputInvalid(f"{file}: not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f":{where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputInvalid(f"{file}{place}: not YAML: {problem}", "check indentation and quotes") from error
    return validate(content, model, file, loader.lines)


def validate(content: Any, model: type[Model], file: Path, lines: dict[Location, int] | None = None) -> Model:
    """Check parsed content against a model; see `load` for the errors."""
    try:
        # Through JSON rules, so that text may become a path or an address though the models are strict.
        return model.model_validate_json(_as_json(content, file))
    except ValidationError as error:
        complaints = []
        for fault in error.errors(include_url=False, include_input=False):
            location = tuple(fault["loc"])
            place = next((location[:n] for n in range(len(location), -1, -1) if location[:n] in (lines or {})), ())
            line = f":{lines[place]}" if lines and place in lines else ""
            complaints.append(f"{file}{line}: {dotted(location) or 'file'}: {fault['msg']}")
        raise InputInvalid("\n".join(complaints), "docs/reference names every field") from error


def _as_json(content: Any, file: Path) -> str:
    try:
        return json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputInvalid(f"{file}: {error}", "quote dates and special numbers") from error
