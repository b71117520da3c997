"""What is shown to people keeps every letter, within 80 columns."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custody.report import show_folded

PART = st.text(st.sampled_from("ab-=:/"), max_size=9)
WORD = st.builds(lambda head, length, tail: head + "d" * length + tail, PART, st.integers(1, 170), PART)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORD, min_size=1, max_size=6), indent=st.integers(1, 21))
def test_folding_adds_and_loses_nothing(words: list[str], indent: int, capfd: pytest.CaptureFixture[str]) -> None:
    show_folded(" ".join(words), indent)
    first, *below = capfd.readouterr().out.removesuffix("\n").split("\n")
    assert "".join([first, *below]).replace(" ", "") == "".join(words)
    assert all(len(line) <= 80 for line in (first, *below))
    assert all(line[:indent].isspace() and line[indent] != " " for line in below)


@pytest.mark.parametrize(("word", "below"), [
    ("sha256:" + "d" * 64, ["sha256:" + "d" * 64]),
    ("sha256=" + "d" * 76, ["d" * 76]),
])  # fmt: skip
def test_what_fits_a_line_stays_whole_to_copy(word: str, below: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    show_folded(f"the model's digest: {word}", 4)
    assert [line.strip() for line in capfd.readouterr().out.splitlines()[1:]] == below
