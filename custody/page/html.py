"""One web page that holds everything it needs."""

from __future__ import annotations

from importlib.resources import files

import jinja2

from custody.page import Page


def render(page: Page) -> bytes:
    """The page; whatever it says is text in it, never markup."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("custody.page").joinpath("page.html").read_text())
    return template.render(page=page).encode()
