"""What fuzzing begins with, and what it ever broke, is tried in every run; `make fuzz` looks for more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, try_one

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
#: Refused late on purpose: nobody signed them.
REFUSED = ("next_root", "list")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_accepted_and_their_ruins_refused(name: str) -> None:
    seeds = TARGETS[name][1]
    accepted = [try_one(name, seed) for seed in seeds]
    assert any(accepted) or name in REFUSED
    chance = random.Random(name)
    for _ in range(200):
        data = bytearray(chance.choice(seeds) or b"x")
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
            data = data or bytearray(b"x")
        try_one(name, bytes(data))


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*/*")), ids=lambda file: f"{file.parent.name}-{file.name}")
def test_what_once_broke_a_parser_breaks_it_no_more(file: Path) -> None:
    try_one(file.parent.name, file.read_bytes())


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a":1,"a":1}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"-0",
        b"",
    ],
)
@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("key", "leaves", "segment")])
def test_json_that_breaks_parsers_is_refused(name: str, data: bytes) -> None:
    assert not try_one(name, data)
