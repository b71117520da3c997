"""A page for people who do not read code: one content, as a web page or as PDF."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A titled table.

    Attributes:
        head: titles of the columns; empty for a list of facts, whose first column names them.
        rows: text cells, as many as the widest has.
        digits: the last column holds hexadecimal digits.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    digits: bool = False


@dataclass(frozen=True)
class Page:
    """All that stands on the page.

    Attributes:
        name: of the document, for a window's title.
        title: the first line.
        verdict: one word.
        summary: the verdict in one or two sentences.
        foot: what the page proves and does not.
        is_doubtful: something is left that people have to explain.
    """

    name: str
    title: str
    verdict: str
    summary: str
    sections: tuple[Section, ...]
    foot: str
    is_doubtful: bool = False


def size(size_bytes: int) -> str:
    """A size as people say it, in powers of a thousand."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def groups(digest: str) -> str:
    """Hexadecimal digits in groups of four, eight of them a line."""
    lines = (digest[i : i + 32] for i in range(0, len(digest), 32))
    return "\n".join(" ".join(line[i : i + 4] for i in range(0, len(line), 4)) for line in lines)
