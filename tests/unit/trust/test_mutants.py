"""What counts as words of an error, when mutants that no test killed are told apart."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import plain

CODE = """
def judge(data, name):
    found = Envelope.parse(data, name)
    what = f"{name}: it"
    if found.size > 3:
        raise BundleMalformed(f"{what}: {found.size}", "go back")
    return root.require("root", found, what)
"""


def told(code: str) -> str:
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    return plain(function)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"go back"', "None", True),
        ('raise BundleMalformed(f"{what}: {found.size}", "go back")', "raise BundleMalformed(None)", True),
        ('f"{name}: it"', "None", True),
        ("parse(data, name)", "parse(data, None)", True),
        ("found, what)", "found, None)", True),
        ("BundleMalformed", "SignatureRejected", False),
        ("size > 3", "size >= 3", False),
        ("parse(data, name)", "parse(None, name)", False),
        ('require("root"', "require(None", False),
        ("return root", "root", False),
    ],
)
def test_only_what_people_read_is_words(old: str, new: str, words: bool) -> None:
    assert CODE.count(old) == 1
    assert (told(CODE.replace(old, new)) == told(CODE)) is words
