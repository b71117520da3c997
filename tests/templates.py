"""A role's templates, rendered as Ansible does, without a host."""

from __future__ import annotations

import os
from pathlib import Path

import jinja2

ROLES = Path(__file__).parents[1] / "roles"


def render(role: str, name: str, **variables: object) -> str:
    """The text of a template; variables are given, none is the role's own."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLES / role / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["dirname"] = os.path.dirname
    return environment.get_template(name).render(variables)
