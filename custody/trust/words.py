"""A fingerprint as words that people read out to each other: BIP-39 English, 24 words with their checksum."""

from __future__ import annotations

from mnemonic import Mnemonic

from custody.errors import InputInvalid

_LANGUAGE = "english"


def to_words(fingerprint: str) -> tuple[str, ...]:
    """The 24 words of 64 hexadecimal digits; the last one holds an eight-bit checksum."""
    return tuple(Mnemonic(_LANGUAGE).to_mnemonic(bytes.fromhex(fingerprint)).split())


def from_words(text: str) -> str:
    """The fingerprint of 24 words; case and the blanks between them are forgiven.

    Raises:
        InputInvalid: an unknown word, or words whose checksum is wrong.
    """
    book, words = Mnemonic(_LANGUAGE), text.lower().split()
    unknown = [word for word in words if word not in book.wordlist]
    if unknown:
        raise InputInvalid(f"{unknown[0]!r}: not a word of the list", "copy all 24 words from the paper")
    try:
        return bytes(book.to_entropy(words)).hex()
    except (ValueError, LookupError) as error:
        raise InputInvalid(
            f"the {len(words)} words do not fit each other: {error}", "compare each of them with the paper"
        ) from error
