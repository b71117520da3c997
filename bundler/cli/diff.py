"""`airgap diff`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from custody.atomic import write_whole
from custody.report import show_json

if TYPE_CHECKING:
    from bundler.bundle.diff import Change, Difference

_WIDTH = 80
#: Columns: change, kind, then name and what changed; the size stands at the end.
_KIND_AT, _NAME_AT, _SIZE_WIDTH = 9, 20, 10
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
#: Of a digest, in a table.
_DIGITS = 12
#: Facts that are lists of words.
_WORDS = ("use", "environments", "flag ", "tools")
_PAGE = Path(__file__).with_name("diff.html.j2")


@click.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write one self-contained page.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(old: Path, new: Path, html: Path | None, as_json: bool) -> None:
    """Show what is new, changed and gone from OLD to NEW; each is a bundle or a lock.

    Licences of packages and wheels are known of bundles alone. Neither bundle is verified: that is `airgap verify`.

    \b
    Example: airgap diff /srv/bundles/demo-1 /srv/bundles/demo-2
    Example: airgap diff demo-1.lock.json demo-2.lock.json --html diff.html
    """
    from bundler.bundle.diff import difference, read_contents

    found = difference(read_contents(old), read_contents(new))
    if html is not None:
        write_whole(html, page(found).encode())
    if as_json:
        show_json("airgap.diff/1", found.content())
        return
    for row in rows(found):
        click.echo(row)


def rows(found: Difference) -> Iterator[str]:
    """A difference as rows of 80 columns: every change, then sizes by kind."""
    yield f"{found.old} -> {found.new}: {summary(found)}"
    for change in found.changes:
        head = f"{change.word:{_KIND_AT}}{change.kind:{_NAME_AT - _KIND_AT}}"
        text = ": ".join(filter(None, (change.name, "; ".join(phrases(change)))))
        lines = textwrap.wrap(text, _WIDTH - _NAME_AT - _SIZE_WIDTH - 1, break_on_hyphens=False)
        yield f"{head}{lines[0]:{_WIDTH - _NAME_AT - _SIZE_WIDTH}}{signed(change.bytes_more):>{_SIZE_WIDTH}}".rstrip()
        yield from (" " * (_NAME_AT + 2) + line for line in lines[1:])
    for kind, (old, new) in sizes(found).items():
        yield f"{'size':{_KIND_AT}}{kind:{_NAME_AT - _KIND_AT}}{size(old)} -> {size(new)}"


def sizes(found: Difference) -> dict[str, tuple[int, int]]:
    """Old and new bytes by kind, then in all."""
    pairs = found.sizes.values()
    return {**found.sizes, "all": (sum(old for old, _ in pairs), sum(new for _, new in pairs))}


def summary(found: Difference) -> str:
    """How many of each word."""
    counts = {word: sum(change.word == word for change in found.changes) for word in ("new", "changed", "gone")}
    return ", ".join(f"{count} {word}" for word, count in counts.items()) if found.changes else "no difference"


def phrases(change: Change, *, whole_digests: bool = False) -> list[str]:
    """What differs, fact by fact; a digest that follows from another version is left out."""
    said = []
    for name, old, new in change.facts:
        if name.endswith("sha256") and change.facts[0][0] == "version":
            continue
        if not whole_digests:
            old, new = (_DIGEST.sub(lambda match: match[0][:_DIGITS], value) for value in (old, new))
        text = _told(name, old, new) if change.word == "changed" else old or new
        said.append(text if name in ("value", "version") else f"{name} {text}")
    return said


def _told(name: str, old: str, new: str) -> str:
    """An old and a new value; of a list of words only those that came and went."""
    if not name.startswith(_WORDS):
        return f"{old or 'none'} -> {new or 'none'}"
    had, has = old.split(), new.split()
    came, went = [word for word in has if word not in had], [word for word in had if word not in has]
    told = [f"{text} {' '.join(words)}" for text, words in (("with", came), ("without", went)) if words]
    return ", ".join(told) or "in another order"


def size(size_bytes: int) -> str:
    """A size for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size_bytes) >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


def signed(size_bytes: int | None) -> str:
    """A size that was added or taken away; "" for none."""
    return "" if not size_bytes else f"{'+' if size_bytes > 0 else ''}{size(size_bytes)}"


def page(found: Difference) -> str:
    """A difference as one HTML page that needs nothing else, on a screen and in print."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE.read_text()).render(
        found=found, summary=summary(found), sizes=sizes(found), phrases=phrases, size=size, signed=signed
    )
