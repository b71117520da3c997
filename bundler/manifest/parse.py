"""Text that means one thing: YAML and JSON parsed so that nothing is read as something else than it looks like.

Refused are files that are not regular, too large, not UTF-8, or hold characters that nobody sees; in YAML also tags,
anchors and aliases (an alias bomb is small on disk and huge in memory). What has a place but no plain meaning, such as
`010`, `1:30`, `yes`, a date, a merge key or a key given twice, is left in the content as `Odd`, for an error that
names the field.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from custody.errors import InputInvalid

#: No file here is nested half as deep.
MAX_DEPTH = 24
#: Above, finding the line of a fault costs more than it helps.
_MAX_LINED_CHARACTERS = 4 << 20
_NUMBER = re.compile("-?(?:0|[1-9][0-9]{0,15})")
_QUOTE = "text that looks like a number, a date or a truth value stands in quotes"
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}

Location = tuple[str | int, ...]
Lines = dict[Location, int]


@dataclass(frozen=True)
class Odd:
    """Stands in parsed content for what has no plain meaning; `expected` is the field's own when empty."""

    found: str
    hint: str = ""
    expected: str = ""


_TWICE = Odd("it twice", "keep one of the two", "a key once")


def read_file(file: Path, limit_bytes: int, hint: str) -> bytes:
    """The bytes of a regular file; links are followed, pipes and devices are refused and not waited for."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise InputInvalid(f"{file}: expected a file, found a {_KINDS.get(stat.S_IFMT(mode), 'socket')}", hint)
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise InputInvalid(f"{file}: expected a readable file, found: {error.strerror}", "check the path") from error
    if len(data) > limit_bytes:
        raise InputInvalid(f"{file}: expected at most {limit_bytes} bytes, found more", "is this the right file?")
    return data


def decode(data: bytes, file: Path, hint: str) -> str:
    """Bytes as text that shows everything that it holds."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputInvalid(
            f"{file}:{line}: expected UTF-8 text, found byte 0x{data[error.start]:02x}", "save it as UTF-8"
        ) from error
    for number, line_text in enumerate(text.split("\n"), 1):
        if odd := unseen(line_text.replace("\t", "").removesuffix("\r")):
            raise InputInvalid(f"{file}:{number}: expected visible text, found {odd}", "take the character out")
    if not text.strip():
        raise InputInvalid(f"{file}: expected content, found an empty file", hint)
    return text


def parse_json(text: str, file: Path, hint: str) -> Any:
    """The content of a JSON text; errors as `load`."""
    try:
        return json.loads(
            text, object_pairs_hook=_pairs, parse_int=_whole, parse_float=_fraction, parse_constant=_fraction
        )
    except json.JSONDecodeError as error:
        raise InputInvalid(f"{file}:{error.lineno}: expected JSON, found: {error.msg}", hint) from error
    except RecursionError as error:
        raise InputInvalid(f"{file}: expected at most {MAX_DEPTH} levels, found far more", hint) from error


class _Loader(yaml.SafeLoader):
    """SafeLoader without what makes a text mean more than it shows."""

    def __init__(self, text: str, file: Path) -> None:
        super().__init__(text)
        self._file, self._depth = file, 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._refusal("no anchor (&) and no alias (*)", "one", event)
        if getattr(event, "tag", None) is not None:
            raise self._refusal("no tag (!)", "one", event)
        if self._depth == MAX_DEPTH:
            raise self._refusal(f"at most {MAX_DEPTH} levels", "one more", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refusal(self, expected: str, found: str, event: yaml.Event) -> InputInvalid:
        line = _line(event)
        return InputInvalid(f"{self._file}:{line}: expected {expected}, found {found}", "write the value out plainly")


def parse_yaml(text: str, file: Path) -> tuple[Any, Lines]:
    """The content of a YAML text, and the line of every field."""
    lines: Lines = {}
    try:
        node = _Loader(text, file).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = ": ".join(part for part in (error.context, error.problem) if part)
        raise InputInvalid(f"{file}:{line}: expected YAML, found: {problem}", "check indentation and quotes") from error
    if node is None:
        raise InputInvalid(f"{file}: expected content, found comments alone", "is this the right file?")
    return _construct(node, (), lines), lines


def _line(at: yaml.Node | yaml.Event) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1


def _construct(node: yaml.Node, path: Location, lines: Lines) -> Any:
    lines.setdefault(path, _line(node))
    if isinstance(node, yaml.MappingNode):
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            here, twice = (*path, key), key in content
            lines[here] = _line(key_node)
            content[key] = _construct(value_node, here, lines)
            if key_node.tag == "tag:yaml.org,2002:merge":
                content[key] = Odd("a merge key", "write the fields out", "a plain key")
            elif key_node.tag != "tag:yaml.org,2002:str":
                content[key] = Odd("something else", _QUOTE, "a word as key")
            elif twice:
                content[key] = _TWICE
        return content
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*path, i), lines) for i, child in enumerate(node.value)]
    return _scalar(node.tag.rpartition(":")[2], node.value)


def _scalar(kind: str, value: str) -> Any:
    """A plain value; YAML 1.1 knows more spellings of numbers and truth than people do."""
    if kind == "str":
        return value
    if kind == "null":
        return None
    if kind == "int":
        return _whole(value)
    if kind == "bool":
        plain = {"true": True, "false": False}
        return plain.get(value, Odd(f"{value}, which YAML takes for true or false", _QUOTE))
    return _fraction(value) if kind == "float" else Odd("a date" if kind == "timestamp" else f"a bare {value}", _QUOTE)


def _whole(value: str) -> Any:
    return int(value) if _NUMBER.fullmatch(value) else Odd("a number that is not 1 to 16 plain digits", _QUOTE)


def _fraction(value: str) -> Odd:
    return Odd("a number that is not whole", _QUOTE)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        content[key] = _TWICE if key in content else value
    return content


def json_lines(text: str) -> Lines:
    """The line of every field of a JSON text, or none where it is too large or YAML reads it otherwise."""
    lines: Lines = {}
    if len(text) <= _MAX_LINED_CHARACTERS:
        try:
            node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            if node is not None:
                _construct(node, (), lines)
        except (yaml.YAMLError, RecursionError):
            lines.clear()
    return lines


def unseen(text: str) -> str:
    """The first character that does not show, as U+0000; "" when there is none."""
    return next((f"U+{ord(c):04X}" for c in text if not c.isprintable()), "") if not text.isprintable() else ""
