"""Regular expressions whose work is bounded before they are ever run.

Python's `re` tries one way after the other, and some innocent patterns have exponentially many. So a site's own pattern
is measured: how long a match can be, and in how many ways it can be tried at one place. What repeats without end, looks
back at a group, or has too many ways is refused. The bound holds for every text.
"""

from __future__ import annotations

import re
from typing import Any

from custody.errors import PolicyRefused

#: Characters of a pattern, and of a match.
MAX_PATTERN = 256
MAX_WIDTH = 128
#: Ways to try at one place.
MAX_WAYS = 50
_ONE_WAY = {"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"}


def compile_bounded(pattern: str, name: str) -> re.Pattern[str]:
    """Compile a pattern; case does not matter to it.

    Args:
        name: of the rule, for errors.

    Raises:
        PolicyRefused: not a regular expression, or one that could take long, or that matches nothing at all.
    """
    hint = "write bounded repeats like {1,12}; no *, +, references or look-arounds"
    if not 1 <= len(pattern) <= MAX_PATTERN:
        raise PolicyRefused(f"{name}: pattern: expected 1 to {MAX_PATTERN} characters, found {len(pattern)}", hint)
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
        # What `re` itself parses with; it has no public name.
        tree = re._parser.parse(pattern, re.IGNORECASE)  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError) as error:
        raise PolicyRefused(f"{name}: pattern: not a regular expression: {error}", hint) from error
    shortest, longest = tree.getwidth()
    if shortest == 0 or longest > MAX_WIDTH:
        raise PolicyRefused(
            f"{name}: pattern: expected matches of 1 to {MAX_WIDTH} characters, found {shortest} to"
            f" {'any number' if longest > 1 << 16 else longest}",
            hint,
        )
    ways = _ways(tree, name, hint)
    if ways > MAX_WAYS:
        raise PolicyRefused(f"{name}: pattern: can be tried in more than {MAX_WAYS} ways at one place", hint)
    return compiled


def _ways(tree: Any, name: str, hint: str) -> int:
    """In how many ways a part can be tried; `MAX_WAYS + 1` stands for more."""
    ways = 1
    for operation, value in tree:
        kind = str(operation)
        if kind in _ONE_WAY:
            continue
        if kind == "SUBPATTERN":
            inner = _ways(value[-1], name, hint)
        elif kind == "BRANCH":
            inner = sum(_ways(branch, name, hint) for branch in value[1])
        elif kind in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, part = value
            inner = _powers(_ways(part, name, hint), int(low), int(high))
        else:
            raise PolicyRefused(f"{name}: pattern: {kind.lower().replace('_', ' ')} is refused", hint)
        ways = min(ways * inner, MAX_WAYS + 1)
    return ways


def _powers(ways: int, low: int, high: int) -> int:
    """Sum of ways^n for n from low to high."""
    if high - low > MAX_WAYS:
        return MAX_WAYS + 1
    total = 0
    for count in range(low, high + 1):
        total += ways**count if ways == 1 or count <= 8 else MAX_WAYS + 1
        if total > MAX_WAYS:
            return MAX_WAYS + 1
    return total
