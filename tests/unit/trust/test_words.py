"""Words instead of digits: those of BIP-39, and no others."""

from __future__ import annotations

import pytest

from custody.errors import InputInvalid
from custody.trust.words import from_words, to_words

#: The last vector of BIP-39 for 256 bits, from its reference list.
VECTOR = "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f"
WORDS = (
    "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group"
    " space point ten exist slush involve unfold"
)


def test_words_follow_bip_39() -> None:
    assert " ".join(to_words(VECTOR)) == WORDS
    assert from_words(WORDS.upper()) == VECTOR


def test_longer_fingerprints_are_two_rows_of_18() -> None:
    digits = VECTOR + VECTOR[:32]
    words = to_words(digits)
    assert len(words) == 36
    assert words[:18] == to_words(VECTOR[:48] * 2)[:18]
    assert from_words(" ".join(words)) == digits
    with pytest.raises(InputInvalid, match="do not fit"):
        from_words(" ".join((*words[18:], *words[1:18], words[0])))


def test_a_wrong_word_is_noticed() -> None:
    swapped = WORDS.split()
    swapped[0], swapped[1] = swapped[1], swapped[0]
    with pytest.raises(InputInvalid, match="do not fit"):
        from_words(" ".join(swapped))
    with pytest.raises(InputInvalid, match="'voyd': not a word of the list"):
        from_words(WORDS.replace("void", "voyd"))
    with pytest.raises(InputInvalid, match="do not fit"):
        from_words("void come")
