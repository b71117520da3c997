"""Which lines of a log may leave, and in what form: an allow-list of shapes.

A log of the engine or the gateway can hold what a user wrote, and no pattern finds a prompt in a text. So a line goes
out only when it has a known shape, and then only the parts that the shape names; the others are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_PATHS = r"/v1/(?:models|chat/completions|completions)"

#: What each identifier's lines may look like; the named groups are what goes out.
_ENGINE = (
    # uvicorn's access log
    re.compile(rf'(?P<a>[A-Z]+): +\S+ - "(?P<b>[A-Z]+ {_PATHS}) HTTP/1\.\d" (?P<c>\d{{3}})'),
    # uvicorn's life
    re.compile(
        r"(?P<a>[A-Z]+: +(?:Started server process|Waiting for application|Application|Shutting down|Finished "
        r"server process|Uvicorn running)[ a-z]*)"
    ),
    # Python's tracebacks: where, and the kind of error without its words
    re.compile(r'(?P<a> *File "/(?:opt/airgap|usr/lib/python3)[\w./@+-]*", line \d+)'),
    re.compile(r"(?P<a>(?:\w+\.)*[A-Z]\w*(?:Error|Exception))(?::|$)"),
    # llama.cpp
    re.compile(
        r"(?P<a>(?:llama|ggml|gguf)\w*): .*?(?P<b>failed to (?:load|open|allocate|create|initialize)|"
        r"error loading model|out of memory|unable to allocate)"
    ),
)
_GATEWAY = (
    # nginx's access log, as the role gateway formats it: address, method, path, status, bytes, seconds, protocol
    re.compile(rf'(?P<a>\S+) "(?P<b>[A-Z]+ {_PATHS})" (?P<c>\d{{3}} \d+ [\d.]+ \S+)$'),
    re.compile(r'(?P<a>\S+) "[^"]*" (?P<c>\d{3} \d+ [\d.]+ \S+)$'),
    # nginx's error log: up to the first thing that a client could have sent
    re.compile(r"\d{4}/\d\d/\d\d [\d:]+ \[(?P<a>\w+)\] \d+#\d+: (?:\*\d+ )?(?P<b>[^\",]+)"),
)
_SHAPES = {"airgap-engine.service": _ENGINE, "nginx.service": _GATEWAY}

_INSTALL = (
    re.compile(r"(?P<a>(?:PLAY|TASK) \[[^\]]*\])"),
    re.compile(r"(?P<a>(?:ok|changed|skipping|fatal|failed|unreachable): \[localhost\])"),
    re.compile(r"(?P<a>localhost +: ok=\d+[ a-z=\d]*)"),
)
#: The reason that a failed module gives; our own modules never put a secret into it.
_REASON = re.compile(r'"msg": ("(?:[^"\\]|\\.)*")')


def of_journal(entries: Iterable[str], unit: str) -> str:
    """What may leave of `journalctl --output=json` of one unit.

    systemd's own words about the unit go out whole: `_PID` is set by journald and cannot be claimed.
    """
    kept, left_out = [], 0
    for entry in entries:
        fields: dict[str, Any] = json.loads(entry)
        message = fields.get("MESSAGE")
        text = message if isinstance(message, str) else ""  # bytes that are no text come as a list
        said = text if fields.get("_PID") == "1" else _allowed(text, _SHAPES.get(unit, ()))
        if said is None:
            left_out += 1
        else:
            kept.append(f"{int(fields['__REALTIME_TIMESTAMP']) // 1_000_000} {said}")
    return _with_count(kept, left_out)


def of_install_log(lines: Iterable[str]) -> str:
    """What may leave of Ansible's output: plays, tasks, results, and the reason of a failure."""
    kept, left_out = [], 0
    for row in lines:
        said = _allowed(row, _INSTALL)
        if said is None:
            left_out += 1
            continue
        reason = _REASON.search(row) if said.startswith(("fatal", "failed")) else None
        kept.append(f"{said} {json.loads(reason[1])}" if reason else said)
    return _with_count(kept, left_out)


def _allowed(text: str, shapes: Iterable[re.Pattern[str]]) -> str | None:
    for shape in shapes:
        if found := shape.match(text):
            return " ".join(part for part in found.groupdict().values() if part)
    return None


def _with_count(kept: list[str], left_out: int) -> str:
    return "\n".join([*kept, f"({left_out} lines of other shapes left out)"])
