"""Kinds of personal data that the guard knows: what it looks like, and the arithmetic that tells it from other numbers.

Every expression here does bounded work at each place of a text. A check returns how many characters of a candidate are
the thing itself; 0: it is not one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

#: Characters of an IBAN by country (SWIFT, IBAN registry, release 99; the European ones and some others).
_IBAN = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21, "CY": 28,
    "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "KW": 30, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29, "XK": 20,
}  # fmt: skip
_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20)[0-9]{2}"
_WORD = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)"
    r"(?:uary|ruary|ch|il|e|y|ust|tember|ober|ember|uar|ruar|z|i|li|t)?"
)
_DATE = (
    rf"(?:{_YEAR}-{_MONTH}-{_DAY}|{_DAY}[./ -]{{1,2}}{_MONTH}[./ -]{{1,2}}{_YEAR}|{_MONTH}/{_DAY}/{_YEAR}"
    rf"|{_DAY}(?:st|nd|rd|th|\.)? ?{_WORD}\.?,? ?{_YEAR}|{_WORD}\.? {_DAY}(?:st|nd|rd|th)?,? {_YEAR})"
)
_BORN = r"(?:date of birth|birth ?date|birthday|born|d\.?o\.?b\.?|geboren|geburtsdatum|geb\.?|née?|naissance)"


@dataclass(frozen=True)
class Kind:
    """A kind of personal data.

    Attributes:
        looks: finds candidates.
        check: how much of a candidate it is; None: all of it.
        needs: a character without which there is none; saves the search.
    """

    looks: re.Pattern[str]
    check: Callable[[str], int] | None = None
    needs: str = ""


def _digits(text: str) -> list[int]:
    return [int(char) for char in text if char.isdigit()]


def _iban(text: str) -> int:
    """ISO 13616: the country's length, and 1 modulo 97."""
    wanted = _IBAN.get(text[:2].upper(), 0)
    places = [place for place, char in enumerate(text) if char not in " -"]
    if not wanted or len(places) < wanted:
        return 0
    end = places[wanted - 1] + 1
    found = "".join(text[place] for place in places[:wanted])
    if end < len(text) and text[end] not in " -":
        return 0
    turned = found[4:] + found[:4]
    return end if int("".join(str(int(char, 36)) for char in turned)) % 97 == 1 else 0


def _card(text: str) -> int:
    """ISO/IEC 7812, annex B (Luhn)."""
    digits = _digits(text)
    doubled = [n * 2 - 9 * (n > 4) for n in digits[-2::-2]]
    return len(text) if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1 else 0


def _steuer_id(text: str) -> int:
    """Germany's tax number (§ 139b AO): ISO 7064 MOD 11,10; of the first ten digits one comes twice or three times."""
    digits = _digits(text)
    often = sorted(Counter(digits[:10]).values())
    if often[-1] not in (2, 3) or (len(often) > 1 and often[-2] != 1):
        return 0
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return len(text) if (11 - product) % 10 == digits[10] else 0


def _nhs(text: str) -> int:
    """NHS number: modulo 11, weights 10 to 2 (NHS Data Dictionary)."""
    digits = _digits(text)
    rest = 11 - sum(digit * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return len(text) if rest % 11 == digits[9] and rest != 10 and len(set(digits)) > 1 else 0


def _make(pattern: str, check: Callable[[str], int] | None = None, needs: str = "") -> Kind:
    return Kind(re.compile(pattern, re.IGNORECASE | re.ASCII), check, needs)


KINDS = {
    "email": _make(
        r"(?<![a-z0-9._%+-])[a-z0-9._%+-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,62}\.){1,8}[a-z]{2,24}(?![a-z0-9-])", needs="@"
    ),
    "iban": _make(r"(?<![a-z0-9])[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]){11,30}", _iban),
    "card": _make(r"(?<![0-9])(?<![0-9][ -])[2-6](?:[ -]?[0-9]){12,18}(?![ -]?[0-9])", _card),
    "phone": _make(
        r"(?<![0-9a-z+])(?:(?:\+|00)[1-9](?:[ ()./-]{0,2}[0-9]){6,13}"
        r"|\([0-9]{3}\) ?[0-9]{3}[ -][0-9]{4}|[0-9]{3}([.-])[0-9]{3}\1[0-9]{4}"
        r"|\(?0[1-9][0-9]{1,3}\)? ?[/ -] ?[0-9](?:[ -]?[0-9]){4,8})(?![0-9])"
    ),
    "us-ssn": _make(r"(?<![0-9-])(?!000|666|9)[0-9]{3}([ -])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9-])"),
    "de-steuer-id": _make(r"(?<![0-9])[1-9][0-9](?: ?[0-9]{3}){3}(?![0-9])", _steuer_id),
    "uk-nhs": _make(r"(?<![0-9])[0-9]{3}([ -]?)[0-9]{3}\1[0-9]{4}(?![0-9])", _nhs),
    "birth-date": Kind(
        re.compile(rf"\b{_BORN}[^\w\n]{{0,4}}(?:(?:is|am|on|the|in|der)[ :]{{1,2}})?{_DATE}\b", re.IGNORECASE)
    ),
}
