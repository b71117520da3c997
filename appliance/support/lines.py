"""Which lines of a log may leave, and in what form: an allow-list of shapes.

A log of engine, nginx or gateway can hold what a user wrote, and no pattern finds a prompt in a text. So a line goes
out only when it has a known shape, and then only the parts that the shape names; the others are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_PATHS = r"/v1/(?:models|chat/completions|completions|embeddings)"

#: What a unit's lines may look like; the named groups are what goes out.
ENGINE = (
    # llama-server's life and load: level, place in the code, and words of its own. A slot's lines are
    # counts and times; what a client sent is in none of these.
    re.compile(
        r"(?:\d+\.)+\d+ (?P<a>[IWE] (?:srv|cmn|llama|que|res) +\w+:) "
        r"(?P<b>initializing(?:, n_slots = \d+, n_ctx_slot = \d+)?|loading model|model loaded|listening on|"
        r"cleaning up before exit|failed to (?:load|create|allocate|initialize)\w*|couldn't bind HTTP server socket|"
        r"exiting due to [a-zA-Z ]+ error)"
    ),
    re.compile(
        r"(?:\d+\.)+\d+ (?P<a>[IWE] slot +\w+: id +\d+ \| task -?\d+ \|) (?P<b>stop processing: n_tokens = \d+)"
    ),
    # llama.cpp below it
    re.compile(
        r"(?:(?:\d+\.)+\d+ [IWE] )?(?P<a>(?:llama|ggml|gguf)\w*): .*?"
        r"(?P<b>failed to (?:load|open|allocate|create|initialize)|error loading model|out of memory|"
        r"unable to allocate)"
    ),
)
NGINX = (
    # nginx's access log, as the role gateway formats it: address, method, path, status, bytes, seconds, protocol
    re.compile(rf'(?P<a>\S+) "(?P<b>[A-Z]+ {_PATHS})" (?P<c>\d{{3}} \d+ [\d.]+ \S+)$'),
    re.compile(r'(?P<a>\S+) "[^"]*" (?P<c>\d{3} \d+ [\d.]+ \S+)$'),
    # nginx's error log: up to the first thing that a client could have sent
    re.compile(r"\d{4}/\d\d/\d\d [\d:]+ \[(?P<a>\w+)\] \d+#\d+: (?:\*\d+ )?(?P<b>[^\",]+)"),
)
SERVICE = (
    # the gateway's and the audit process's own: what failed and where; never the words of an error
    re.compile(r"gateway: (?P<a>req-[0-9a-f]+: \w+ at /[\w/.-]+:\d+)$"),
    re.compile(r"(?P<a>gateway: policies: (?:refused, the old ones stay|[0-9a-f]{64}$))"),
    re.compile(r"(?P<a>gateway: (?:\d+ ends of requests are not recorded|looking after open requests: \w+))$"),
    re.compile(r"(?:gateway: )?(?P<a>audit: (?:a request is not recorded|an end is not taken|/run/[\w/.-]+))"),
)

_INSTALL = (
    re.compile(r"(?P<a>(?:PLAY|TASK) \[[^\]]*\])"),
    re.compile(r"(?P<a>(?:ok|changed|skipping|fatal|failed|unreachable): \[localhost\])"),
    re.compile(r"(?P<a>localhost +: ok=\d+[ a-z=\d]*)"),
)
#: The reason that a failed module gives; our own modules never put a secret into it.
_REASON = re.compile(r'"msg": ("(?:[^"\\]|\\.)*")')


def of_journal(entries: Iterable[str], shapes: Sequence[re.Pattern[str]]) -> str:
    """What may leave of `journalctl --output=json` of one unit.

    Args:
        shapes: those of the unit's own lines.

    systemd's own words about the unit go out whole: `_PID` is set by journald and cannot be claimed.
    """
    kept, left_out = [], 0
    for entry in entries:
        fields: dict[str, Any] = json.loads(entry)
        message = fields.get("MESSAGE")
        text = message if isinstance(message, str) else ""  # bytes that are no text come as a list
        said = text if fields.get("_PID") == "1" else _allowed(text, shapes)
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
