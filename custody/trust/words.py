"""A fingerprint as words that people read out to each other: BIP-39 English, with their checksum.

24 words stand for 64 hexadecimal digits, and two such rows of 18 for 96: BIP-39 ends at 32 bytes.
"""

from __future__ import annotations

from mnemonic import Mnemonic

from custody.errors import InputInvalid

_LANGUAGE = "english"
_WHOLE_BYTES, _ROW_BYTES, _ROW_WORDS = 32, 24, 18


def to_words(fingerprint: str) -> tuple[str, ...]:
    """The 24 words of 64 hexadecimal digits, or the 36 of 96; the last of each row holds a checksum."""
    data = bytes.fromhex(fingerprint)
    rows = [data] if len(data) == _WHOLE_BYTES else [data[:_ROW_BYTES], data[_ROW_BYTES:]]
    return tuple(word for row in rows for word in Mnemonic(_LANGUAGE).to_mnemonic(row).split())


def from_words(text: str) -> str:
    """The fingerprint of 24 or 36 words; case and the blanks between them are forgiven.

    Raises:
        InputInvalid: an unknown word, or words whose checksum is wrong.
    """
    book, words = Mnemonic(_LANGUAGE), text.lower().split()
    unknown = [word for word in words if word not in book.wordlist]
    if unknown:
        raise InputInvalid(f"{unknown[0]!r}: not a word of the list", "copy all words from the paper")
    half = _ROW_WORDS if len(words) == 2 * _ROW_WORDS else len(words)
    try:
        return b"".join(bytes(book.to_entropy(row)) for row in (words[:half], words[half:]) if row).hex()
    except (ValueError, LookupError) as error:
        raise InputInvalid(
            f"the {len(words)} words do not fit each other: {error}", "compare each of them with the paper"
        ) from error
