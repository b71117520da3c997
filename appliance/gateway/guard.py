"""What may not stand in a text for a model of some label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["block", "mask", "flag"]


@dataclass(frozen=True)
class Rule:
    """A pattern, for which labels (`*`: all), and what to do when it is found."""

    name: str
    labels: frozenset[str]
    action: Action
    kind: str
    pattern: str = ""


@dataclass(frozen=True)
class Finding:
    """How often a rule found something, in all texts together."""

    rule: str
    action: Action
    count: int
