"""Find the distribution mirrors that the builder itself uses.

No mirror is named in this project: a builder already trusts the ones in its own apt configuration, and many are
behind a site's proxy or copy. Both forms of `sources.list(5)` are read, the one-line style and deb822. Only the
addresses are taken: suites, components and keys belong to the target's release and come from the manifest.

This module reads files and reaches no network. It refuses to guess: a builder without a matching entry is an
environment to put right, not one to be given a default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from custody.errors import EnvironmentProblem

MIRRORS = ("debian", "debian-security")

_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)")


def builder_mirrors(etc: Path = Path("/etc")) -> dict[str, str]:
    """Return the base address of each mirror that the builder's apt is set up with.

    Args:
        etc: The folder holding `os-release` and `apt/`.

    Returns:
        An address without a trailing slash for each of "debian" and "debian-security".

    Raises:
        EnvironmentProblem: When the builder's release is unknown or has no entry for one of them.
    """
    codename = _codename(etc / "os-release")
    found: dict[str, str] = {}
    for uri, suite in _entries(etc / "apt"):
        if suite.split("-")[0].split("/")[0] not in (codename, "stable"):
            continue
        for address in _resolve(uri):
            name = urlsplit(address).path.rstrip("/").rpartition("/")[2]
            if name in MIRRORS:
                found.setdefault(name, address.rstrip("/"))
    missing = [name for name in MIRRORS if name not in found]
    if missing:
        raise EnvironmentProblem(
            f"{etc}/apt: no source for {codename} whose address ends in {' or '.join('/' + m for m in missing)}",
            "add one to the builder's apt configuration; `apt-get update` must work with it",
        )
    return found


def _codename(path: Path) -> str:
    """Return VERSION_CODENAME of os-release(5), such as `bookworm`."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match = re.search(r"^VERSION_CODENAME=[\"']?([a-z]+)", text, re.MULTILINE)
    if match is None:
        raise EnvironmentProblem(f"{path}: no VERSION_CODENAME", "build on Debian 12 or newer")
    return match[1]


def _entries(apt: Path) -> Iterator[tuple[str, str]]:
    """Yield (URI, suite) of every enabled binary source, files in apt's own order."""
    parts = sorted((apt / "sources.list.d").glob("*"))
    for path in (apt / "sources.list", *parts):
        if not path.is_file():
            continue
        if path.suffix == ".sources":
            yield from _deb822(path.read_text(encoding="utf-8"))
        elif path.suffix == ".list":
            for line in path.read_text(encoding="utf-8").splitlines():
                if match := _ONE_LINE.match(line.strip()):
                    yield match["uri"], match["suite"]


def _deb822(text: str) -> Iterator[tuple[str, str]]:
    """Yield (URI, suite) of the stanzas in a deb822 file."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if not line[:1].isspace():
                name, _, line = line.partition(":")
            fields.setdefault(name.strip().lower(), []).extend(line.split())
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[:1] == ["no"]:
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield uri, suite


def _resolve(uri: str) -> list[str]:
    """Return the addresses behind a URI: itself, or the lines of a `mirror+file:` list (cloud images have one)."""
    if not uri.startswith("mirror+file:"):
        return [uri]
    path = Path(urlsplit(uri).path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
