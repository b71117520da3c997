"""How the core tells what it is doing, without knowing who watches.

The core takes a `Reporter` and never prints. Summary and progress go to standard error; results are the
command line's business.
"""

from __future__ import annotations

import json
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)  # fmt: skip

from custody.errors import printable


def show_json(schema: str, content: dict[str, Any]) -> None:
    """A result for machines: one JSON object on standard output; `schema` is `airgap.<noun>/<version>`."""
    click.echo(json.dumps({"schema": schema, **content}, indent=1, sort_keys=True))


def show_folded(text: str, indent: int) -> None:
    """A line for people; what is beyond 80 columns goes on below, `indent` columns in.

    Words stay whole, to copy. A word too long for a line is broken, since the terminal would go on at column 0; that of
    `name=value` after the `=`, if the value has room.
    """
    below, room = " " * indent, 80 - indent
    words = [_parted(word, room) if len(word) > room else word for word in printable(text).split(" ")]
    click.echo("\n".join(textwrap.wrap(" ".join(words), 80, subsequent_indent=below, break_on_hyphens=False)))


def _parted(word: str, room: int) -> str:
    name, equals, value = word.partition("=")
    return f"{name}= {value}" if equals and len(value) <= room else word


class Meter(Protocol):
    """Counts the bytes of one long piece of work; safe to call from several threads."""

    def advance(self, size_bytes: int) -> None:
        """Add bytes done."""


class Reporter(Protocol):
    """What the core may say."""

    def step(self, text: str) -> None:
        """A piece of work begins."""

    def note(self, text: str) -> None:
        """Something worth knowing that is no error."""

    def meter(self, label: str, total_bytes: int) -> AbstractContextManager[Meter]:
        """Open a progress bar over `total_bytes`."""


class _NoMeter:
    def advance(self, size_bytes: int) -> None:
        return None


class SilentReporter:
    """Says nothing; for tests and `--json`."""

    def step(self, text: str) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    @contextmanager
    def meter(self, label: str, total_bytes: int) -> Iterator[Meter]:
        yield _NoMeter()


class _LineMeter:
    """Progress for a log file or a serial console: one line every ten seconds."""

    def __init__(self, console: Console, label: str, total_bytes: int) -> None:
        self._console, self._label, self._total = console, label, total_bytes
        self._done, self._lock = 0, threading.Lock()
        self._begun_s = self._said_s = time.monotonic()

    def advance(self, size_bytes: int) -> None:
        with self._lock:
            self._done += size_bytes
            now_s = time.monotonic()
            if now_s - self._said_s < 10:
                return
            self._said_s = now_s
            rate = self._done / (now_s - self._begun_s)
            left_s = (self._total - self._done) / rate if rate else 0
            done = f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB"
            self._console.print(f"  {self._label}: {done}, {rate / 1e6:.1f} MB/s, {left_s:.0f} s left")


class ConsoleReporter:
    """Writes to standard error: bars on a terminal, plain lines elsewhere. Honours NO_COLOR."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)

    def step(self, text: str) -> None:
        self._console.print(f"==> {text}", style="bold")

    def note(self, text: str) -> None:
        self._console.print(f"    {text}")

    @contextmanager
    def meter(self, label: str, total_bytes: int) -> Iterator[Meter]:
        if not self._console.is_terminal:
            yield _LineMeter(self._console, label, total_bytes)
            return
        columns = (
            TextColumn("    {task.description}"), BarColumn(bar_width=24), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(label, total=total_bytes)

            class _Bar:
                def advance(self, size_bytes: int) -> None:
                    progress.advance(task, size_bytes)

            yield _Bar()
