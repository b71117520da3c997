"""What the guard finds, what it lets through, and that nobody can make it slow."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.gateway.bounded import MAX_WAYS, compile_bounded
from appliance.gateway.guard import MAX_CHARS, TOO_LONG, Finding, Guard, Rule
from appliance.gateway.kinds import KINDS
from custody.errors import PolicyRefused

ALL = frozenset("*")


def guard(kind: str, action: str = "mask") -> Guard:
    return Guard((Rule(kind, ALL, action, kind),))  # type: ignore[arg-type]


#: Kind → what it must find whole; numbers are published examples.
FOUND = {
    "email": ["a@example.org", "first.last+tag@mail.example.co.uk", "A_B@EXAMPLE.DE"],
    "iban": ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "gb82 west 1234 5698 7654 32", "NO9386011117947"],
    "card": ["4111 1111 1111 1111", "5500005555555559", "378282246310005", "6011-0009-9013-9424"],
    "phone": ["+49 (0)89 123456-78", "0044 20 7946 0958", "(555) 123-4567", "555-123-4567", "030/1234567"],
    "us-ssn": ["078-05-1120", "219 09 9999"],
    "de-steuer-id": ["86095742719", "47036892816", "65 929 970 489"],
    "uk-nhs": ["943 476 5919", "9434765919", "943-476-5919"],
    "birth-date": ["born on 12.03.1974", "DOB: 1974-03-12", "geb. 1. März 1980", "Date of birth 3/12/1974"],
}
#: Kind → what it must leave alone.
LEFT = {
    "email": ["a@b", "@example.org", "a@@example.org", "user at example dot org"],
    "iban": ["DE89370400440532013001", "ZZ89370400440532013000", "DE8937040044053201300", "XDE89370400440532013000"],
    "card": ["4111 1111 1111 1112", "0000000000000000", "1234567890123456789012", "2222 2222 2222 2222"],
    "phone": ["2026-11-21", "1.2.3.4", "12345678", "v1.10.2"],
    "us-ssn": ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123-45 6789"],
    "de-steuer-id": ["86095742718", "12345678901", "11111111111", "06095742719"],
    "uk-nhs": ["943 476 5918", "0000000000", "94347659191"],
    "birth-date": ["released on 12.03.1974", "born to run in 1975", "1974-03-12"],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_guard_finds(kind: str, text: str) -> None:
    masked, findings = guard(kind).check("general", [f"so {text}, and (more)"])
    assert masked == [f"so [{kind}], and (more)"]
    assert findings == [Finding(kind, "mask", 1)]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in LEFT.items() for text in texts])
def test_guard_leaves(kind: str, text: str) -> None:
    assert guard(kind).check("general", [f"so {text} and more"]) == ([f"so {text} and more"], [])


def test_every_kind_is_tried() -> None:
    assert set(FOUND) == set(LEFT) == set(KINDS)


def test_an_iban_ends_where_its_country_says() -> None:
    text = "ES9121000418450200051332 MORE and BE68 5390 0754 7034 USED"
    assert guard("iban").check("a", [text])[0] == ["[iban] MORE and [iban] USED"]


def test_an_iban_that_only_looks_like_one_hides_none() -> None:
    assert guard("iban").check("a", ["AB12 DE89 3704 0044 0532 0130 00"])[0] == ["AB12 [iban]"]


def test_rules_go_by_label_and_action() -> None:
    rules = (
        Rule("mail", frozenset({"general"}), "flag", "email"),
        Rule("money", ALL, "mask", "iban"),
        Rule("nhs", frozenset({"general", "public"}), "block", "uk-nhs"),
    )
    texts = ["to a@example.org", "DE89370400440532013000 twice DE89370400440532013000", "9434765919"]
    masked, findings = Guard(rules).check("general", texts)
    assert masked == [texts[0], "[money] twice [money]", texts[2]]
    assert findings == [Finding("mail", "flag", 1), Finding("money", "mask", 2), Finding("nhs", "block", 1)]
    assert Guard(rules).check("clinical", texts)[1] == [Finding("money", "mask", 2)]


def test_overlapping_masks_leave_nothing_between() -> None:
    rules = (
        Rule("long", ALL, "mask", "pattern", "abc[0-9]{3}"),
        Rule("part", ALL, "mask", "pattern", "[0-9]{3}def"),
    )
    assert Guard(rules).check("a", ["xabc123defy"])[0] == ["x[long]y"]


def test_texts_that_are_too_long_are_blocked_unread() -> None:
    texts = ["a" * MAX_CHARS, "a"]
    assert guard("email").check("a", texts) == (texts, [Finding(TOO_LONG, "block", 1)])
    assert Guard(()).check("a", texts) == (texts, [])
    assert guard("email").check("a", texts[:1])[1] == []


@pytest.mark.parametrize("text", ["a", "1", "1 ", "a@", "a.", "@a.", "DE89 ", "0 1", "4 1-", "born ", "+1", "a1"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_makes_a_kind_slow(kind: str, text: str) -> None:
    size = MAX_CHARS // 8
    begun = time.process_time()
    guard(kind).check("a", [(text * size)[:size]])
    assert time.process_time() - begun < 1.5  # 0.3 s where nothing else runs; a quadratic search takes minutes


@pytest.mark.parametrize(
    "pattern",
    [
        "a+", "a*b", "(a+)+b", "(a{1,9}){1,9}b", "(?=a)b", r"(a)\1", "a{0,200}b", "(", "a?", "", "a" * 300, "(?>a)b",
        "a{2}+b", "[a-z]{0,30}[a-z]{0,30}b", "(ab|cd|ef){4}", "x(?:a{0,9}b{0,9})c", "(?P<n>a)(?P=n)", "a{99999999999}",
        "(?(1)a|b)", r"(?<!a)b", "(" * 100,
    ],
)  # fmt: skip
def test_guard_refuses_patterns_that_could_take_long(pattern: str) -> None:
    with pytest.raises(PolicyRefused, match="pattern"):
        Guard((Rule("own", ALL, "block", "pattern", pattern),))


@pytest.mark.parametrize("pattern", [r"\bPAT-[0-9]{8}\b", "case (?:no|number) [0-9]{4,12}", "[A-Z]{2}[0-9]{6,12}x?"])
def test_patterns_of_a_site_are_taken(pattern: str) -> None:
    assert compile_bounded(pattern, "own").flags & re.IGNORECASE


def test_the_worst_pattern_that_is_taken_is_bounded() -> None:
    compiled = compile_bounded("a{0,6}a{0,6}b", "own")
    begun = time.process_time()
    assert list(compiled.finditer("a" * (MAX_CHARS // 8))) == []
    assert time.process_time() - begun < 3
    assert MAX_WAYS >= 7 * 7


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="aDE89 370-@.+()1\n", max_size=200), max_size=4))
def test_no_text_raises_and_masking_removes_what_was_found(texts: list[str]) -> None:
    both = Guard(tuple(Rule(kind, ALL, "mask", kind) for kind in KINDS))
    masked, findings = both.check("a", texts)
    assert len(masked) == len(texts)
    assert bool(findings) == (masked != texts)


def test_check_digits_catch_every_single_wrong_digit() -> None:
    chance = random.Random(7)
    for kind, text in (("uk-nhs", "9434765919"), ("de-steuer-id", "86095742719"), ("card", "4111111111111111")):
        for place in range(1, len(text)):
            wrong = chance.choice([digit for digit in "0123456789" if digit != text[place]])
            other = text[:place] + wrong + text[place + 1 :]
            assert guard(kind).check("a", [other])[1] == [], (kind, other)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ((Rule("a", ALL, "mask", "email"), Rule("a", ALL, "mask", "iban")), "two rules"),
        ((Rule(TOO_LONG, ALL, "mask", "email"),), "two rules"),
        ((Rule("a", ALL, "mask", "emial"),), "expected one of"),
        ((Rule("a", ALL, "mask", "email", "x"),), "go together"),
        ((Rule("a", ALL, "mask", "pattern"),), "go together"),
        ((Rule("a", frozenset(), "mask", "email"),), "no label"),
    ],
)
def test_guard_refuses_rules_that_make_no_sense(rules: tuple[Rule, ...], said: str) -> None:
    with pytest.raises(PolicyRefused, match=said):
        Guard(rules)
