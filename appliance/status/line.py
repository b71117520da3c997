"""One line of the status, and the guard that makes one of what could not be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from custody.errors import AirgapError


class Verdict(StrEnum):
    """What a line says of the appliance; the text says it too, so colour carries nothing alone."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Line:
    """What was looked at and what was found."""

    topic: str
    what: str
    verdict: Verdict
    found: str


def line(topic: str, what: str, found: str, *, bad: bool = False, warning: bool = False) -> Line:
    """A line; `bad` outweighs `warning`."""
    return Line(topic, what, Verdict.BAD if bad else Verdict.WARNING if warning else Verdict.OK, found)


def guarded(topic: str, check: Callable[[], Iterable[Line]]) -> list[Line]:
    """The lines of a check; one bad line when it cannot look, so that no check hides the others."""
    lines: list[Line] = []
    try:
        lines.extend(check())
    except AirgapError as error:
        lines.append(line(topic, "not looked at", " ".join(error.message.split())[:160], bad=True))
    except OSError as error:
        lines.append(line(topic, "not looked at", f"{error.filename}: {error.strerror or error}", bad=True))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        lines.append(line(topic, "not looked at", f"{type(error).__name__}: {error}", bad=True))
    return lines
