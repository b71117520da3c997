"""The page of attacks says what the tests do."""

from __future__ import annotations

from tests.attack.page import PAGE, render, sections


def test_the_page_lists_every_case() -> None:
    assert PAGE.read_text() == render()
    assert sum(map(len, sections().values())) >= 60
