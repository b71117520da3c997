"""Take out of a text what tells where it comes from and what is secret.

Secrets that the host holds become `[secret]`. Addresses, MAC addresses, serials, UUIDs and names become pseudonyms:
equal things stay equal within one support file, and nothing leads back, because the key of the HMAC is thrown away.
What looks like one of these and is none is replaced too: too much is the safe side.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Iterable, Mapping

_MAC = r"(?<![0-9A-Fa-f:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:-])|(?<=enx)[0-9a-f]{12}\b"
#: Two colons make a time of the day or a PCI slot, three or `::` an address.
_V6 = (
    r"(?<![0-9A-Za-z])(?=[0-9A-Fa-f]*(?:::|(?::[0-9A-Fa-f]*){3}))"
    r"[0-9A-Fa-f]*(?::[0-9A-Fa-f]*){2,}(?:\.\d{1,3}){0,3}"
)
_V4 = r"(?<!\d)\d{1,3}(?:\.\d{1,3}){3}(?!\d)"
_UUID = r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"
#: As API keys and passphrases are generated: long, with small and capital letters and digits.
_GENERATED = r"(?<![\w-])(?=[\w+=-]*[a-z])(?=[\w+=-]*[A-Z])(?=[\w+=-]*\d)[\w+=-]{20,}"
#: Says nothing of where a host is.
_EVERYWHERE = re.compile(r"0\.0\.0\.0|127\.\d+\.\d+\.\d+|255\.\d+\.\d+\.\d+|::|::1")


class Redactor:
    """Redacts texts of one support file.

    Args:
        hidden: secrets, wherever they occur.
        known: names, serials and the like by kind (`host`, `serial`): whole words, whatever their case.
    """

    def __init__(self, hidden: Iterable[str], known: Mapping[str, Iterable[str]]) -> None:
        self._key = secrets.token_bytes(32)
        found = {text for text in hidden if text}
        spellings = found | {json.dumps(text)[1:-1] for text in found}
        self._secrets = _any_of(spellings)
        groups = []
        for kind, values in known.items():
            if words := {value.strip() for value in values if value.strip()}:
                groups.append(f"(?P<{kind}>(?<![0-9A-Za-z])(?i:{_any_of(words)})(?![0-9A-Za-z]))")
        patterns = {"uuid": _UUID, "mac": _MAC, "v6": _V6, "v4": _V4, "token": _GENERATED}
        groups += [f"(?P<{kind}>{pattern})" for kind, pattern in patterns.items()]
        self._pattern = re.compile("|".join(groups))

    def __call__(self, text: str) -> str:
        """The text without what must not leave."""
        if self._secrets:
            text = re.sub(self._secrets, "[secret]", text)
        return self._pattern.sub(self._replace, text)

    def _replace(self, found: re.Match[str]) -> str:
        kind, text = str(found.lastgroup), found.group()
        if kind == "token":
            return "[token]"
        if kind in ("v4", "v6") and _EVERYWHERE.fullmatch(text):
            return text
        digest = hmac.digest(self._key, text.lower().encode(), "sha256").hex()
        return f"{kind}-{digest[:8]}"


def _any_of(texts: Iterable[str]) -> str:
    """A pattern for any of these, the longest first."""
    return "|".join(re.escape(text) for text in sorted(texts, key=lambda t: (-len(t), t)))
