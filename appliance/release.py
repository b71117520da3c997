"""The release in use and what the host has accepted, read from where `airgap install` put them. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CURRENT = Path("/opt/airgap/current")
RELEASES = Path("/opt/airgap/releases")
STATE = Path("/var/lib/airgap/state.json")


@dataclass(frozen=True)
class Model:
    """A model of the release; `file` is its name below the release's models."""

    name: str
    file: str
    size_bytes: int


@dataclass(frozen=True)
class Release:
    """An installed bundle.

    Attributes:
        facts: of the bundle, `sealed/facts.txt`.
        since_s: when it became the one in use, seconds since 1970.
    """

    name: str
    facts: dict[str, str]
    since_s: float
    models: tuple[Model, ...]


def current() -> Release | None:
    """The release in use; None on a host without one.

    Raises:
        OSError, ValueError, KeyError: it is there and broken.
    """
    if not CURRENT.is_symlink():
        return None
    folder = CURRENT.resolve()
    facts = dict(line.split("=", 1) for line in (folder / "sealed/facts.txt").read_text().splitlines())
    lock = json.loads((folder / "sealed/lock.json").read_bytes())
    models = tuple(Model(m["name"], m["filename"], m["size_bytes"]) for m in lock["models"])
    return Release(folder.name, facts, CURRENT.lstat().st_mtime, models)


def installed() -> tuple[str, ...]:
    """Names of all releases on the host, sorted."""
    return tuple(sorted(path.name for path in RELEASES.iterdir() if path.is_dir())) if RELEASES.is_dir() else ()


def accepted() -> dict[str, Any]:
    """The anti-rollback state; empty before the first installation."""
    try:
        content: dict[str, Any] = json.loads(STATE.read_bytes())
    except FileNotFoundError:
        return {}
    return content
