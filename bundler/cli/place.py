"""Where things lie by default: the cache, the project's source."""

from __future__ import annotations

import os
from pathlib import Path

import click

import bundler
from custody.errors import EnvironmentProblem


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "airgap"


cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=_default_cache,
    show_default="~/.cache/airgap",
    envvar="AIRGAP_CACHE",
    help="Fetched and built files by digest; may be emptied at any time.",
)


def project_root() -> Path:
    """The folder with this project's source, whose playbooks, roles and wheel go into a bundle.

    Raises:
        EnvironmentProblem: this airgap was installed without its source.
    """
    root = Path(bundler.__file__).resolve().parents[1]
    if not (root / "pyproject.toml").is_file() or not (root / "roles").is_dir():
        raise EnvironmentProblem(
            f"{root}: expected the project's source with roles/ and playbooks/", "run airgap from a source checkout"
        )
    return root
