"""What may not stand in a text for a model of some label: personal data by kind, and patterns of the site's own.

A help against mistakes, and no wall: a number in words, in another script, with letters between, or spread over two
messages goes through, and some numbers that are no card numbers pass Luhn. What the model answers is not looked at.
Work is bounded: texts that are longer than `MAX_CHARS` in all are blocked unread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.gateway.bounded import compile_bounded
from appliance.gateway.kinds import KINDS, Kind
from custody.errors import PolicyRefused

Action = Literal["block", "mask", "flag"]
#: Of all texts of one request together.
MAX_CHARS = 1 << 19
#: The rule of a finding that speaks of the length.
TOO_LONG = "too-long"
_PATTERN = "pattern"


@dataclass(frozen=True)
class Rule:
    """What to look for, for which labels, and what to do when it is found.

    Attributes:
        labels: of models; `*` is all.
        action: block the request, mask what was found, or only say so.
        kind: one of `kinds.KINDS`, or `pattern`.
        pattern: a regular expression of the site, for kind `pattern`.
    """

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


class Guard:
    """Rules, compiled."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        """Compile.

        Raises:
            PolicyRefused: two rules of one name, an unknown kind, a pattern that could take long.
        """
        self.rules = rules
        self._compiled = [(rule, _kind(rule)) for rule in rules]
        names = [rule.name for rule in rules]
        if twice := {name for name in names if names.count(name) > 1 or name == TOO_LONG}:
            raise PolicyRefused(f"guard: {min(twice)}: two rules have this name", "give each a name of its own")

    def check(self, label: str, texts: list[str]) -> tuple[list[str], list[Finding]]:
        """Look into texts.

        Args:
            label: of the model that they are for.

        Returns:
            The texts, masked where a rule says so as `[NAME]`, and what was found, in the order of the rules. Where a
            finding blocks, the request must go no further.
        """
        mine = [(rule, kind) for rule, kind in self._compiled if rule.labels & {label, "*"}]
        if not mine:
            return texts, []
        if sum(map(len, texts)) > MAX_CHARS:
            return texts, [Finding(TOO_LONG, "block", 1)]
        counts = dict.fromkeys((rule.name for rule, _kind in mine), 0)
        masked = []
        for text in texts:
            spans: list[tuple[int, int, str]] = []
            for rule, kind in mine:
                found = _spans(kind, text)
                counts[rule.name] += len(found)
                if rule.action == "mask":
                    spans += [(start, end, rule.name) for start, end in found]
            masked.append(_mask(text, spans))
        return masked, [Finding(rule.name, rule.action, counts[rule.name]) for rule, _ in mine if counts[rule.name]]


def _kind(rule: Rule) -> Kind:
    if not rule.labels:
        raise PolicyRefused(f"guard: {rule.name}: has no label", 'name labels, or "*"')
    if (rule.kind == _PATTERN) != bool(rule.pattern):
        raise PolicyRefused(f"guard: {rule.name}: a pattern and kind: pattern go together", "give both or none")
    if rule.kind == _PATTERN:
        return Kind(compile_bounded(rule.pattern, f"guard: {rule.name}"))
    if rule.kind not in KINDS:
        raise PolicyRefused(
            f"guard: {rule.name}: kind: expected one of {', '.join(KINDS)}, pattern; found {rule.kind!r:.40}",
            "see docs/reference/people-and-policy.md",
        )
    return KINDS[rule.kind]


def _spans(kind: Kind, text: str) -> list[tuple[int, int]]:
    if kind.needs not in text:
        return []
    found, at = [], 0
    while match := kind.looks.search(text, at):
        size = kind.check(match[0]) if kind.check else len(match[0])
        if size:
            found.append((match.start(), match.start() + size))
        # What only looks like one may hide one that begins inside it.
        at = match.start() + (size or 1)
    return found


def _mask(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The text with every span replaced; where two overlap, both go, under the name of the first."""
    parts, at = [], 0
    for start, end, name in sorted(spans):
        if start >= at:
            parts += [text[at:start], f"[{name}]"]
        at = max(at, end)
    return "".join([*parts, text[at:]])
