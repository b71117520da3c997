"""The report as one web page that holds everything it needs."""

from __future__ import annotations

from importlib.resources import files

import jinja2

from bundler.bundle.report import Report


def render(report: Report) -> bytes:
    """The page; whatever a bundle says is text in it, never markup."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("bundler.bundle.report").joinpath("page.html").read_text())
    return template.render(report=report).encode()
