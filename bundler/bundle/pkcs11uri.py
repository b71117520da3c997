"""PKCS#11 URIs: which token, and which key on it.

RFC 7512, and of it what names a token or a key. Refused: a PIN in the URI, since every process may read a command line;
attributes that are unknown or given twice, since a wrong key is worse than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from custody.errors import InputInvalid, SecretRefused

SCHEME = "pkcs11:"
#: Attributes of the path that say which token (RFC 7512, 2.3), and their names in PKCS#11's token information.
_OF_A_TOKEN = ("token", "serial", "manufacturer", "model")
_OF_A_KEY = ("object", "id", "type")
_HINT = "like 'pkcs11:token=alice;object=alice' --module /usr/lib/softhsm/libsofthsm2.so"
#: Unreserved and what RFC 7512 adds to it; everything else is written %XX.
_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/-]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True)
class TokenUri:
    """What a URI says.

    Attributes:
        token: wanted values by attribute; a token must have them all.
        label, id: of the key; None: not said.
        module: the PKCS#11 library, an absolute path.
    """

    token: dict[str, str]
    label: str | None
    id: bytes | None
    module: Path

    def __str__(self) -> str:
        found = [f"{name}={_encode(value.encode())}" for name, value in self.token.items()]
        found += [f"object={_encode(self.label.encode())}"] if self.label is not None else []
        found += ["id=" + "".join(f"%{byte:02X}" for byte in self.id)] if self.id is not None else []
        return SCHEME + ";".join(found)


def parse_uri(text: str, module: Path | None) -> TokenUri:
    """Read a URI.

    Args:
        module: the library, when the URI does not name one as `module-path`.

    Raises:
        SecretRefused: there is a PIN in it; it is not repeated.
        InputInvalid: not a PKCS#11 URI, no library, or one that is named twice.
    """
    path, _, query = text.removeprefix(SCHEME).partition("?")
    if "pin-" in query:
        raise SecretRefused(
            "PKCS#11 URI: expected no PIN in it: other users see command lines",
            "type it when asked, or use --passphrase-file",
        )
    named = _attributes(text, path, ";", (*_OF_A_TOKEN, *_OF_A_KEY)) | _attributes(text, query, "&", ("module-path",))
    if named.get("type", b"private") != b"private":
        raise InputInvalid(f"{text}: expected type=private, or no type", _HINT)
    in_uri = _text(text, named["module-path"]) if "module-path" in named else None
    if (module is None) == (in_uri is None):
        found = "none" if module is None else "two of them"
        raise InputInvalid(f"{text}: expected one PKCS#11 library, found {found}", _HINT)
    library = Path(in_uri) if in_uri is not None else module
    assert library is not None
    if not library.is_absolute():  # the loader would look for it wherever the environment says
        raise InputInvalid(f"{library}: expected an absolute path to a PKCS#11 library", _HINT)
    token = {name: _text(text, named[name]) for name in _OF_A_TOKEN if name in named}
    label = _text(text, named["object"]) if "object" in named else None
    return TokenUri(token, label, named.get("id"), library)


def _attributes(uri: str, text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, _, value = part.partition("=")
        if name not in known:
            raise InputInvalid(f"{uri}: {name!r}: expected one of {', '.join(known)}", _HINT)
        if name in found or not _VALUE.fullmatch(value):
            why = "given twice" if name in found else "expected letters, digits and %XX"
            raise InputInvalid(f"{uri}: {name}: {why}", _HINT)
        pieces = re.split(r"%([0-9A-Fa-f]{2})", value)  # every second one is a byte in hex
        found[name] = b"".join(bytes.fromhex(x) if i % 2 else x.encode() for i, x in enumerate(pieces))
    return found


def _text(uri: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InputInvalid(f"{uri}: expected UTF-8", _HINT) from error
    if not text.isprintable():
        raise InputInvalid(f"{uri}: expected printable characters", _HINT)
    return text


def _encode(value: bytes) -> str:
    return "".join(chr(b) if chr(b).isascii() and (chr(b).isalnum() or b in b"._~-") else f"%{b:02X}" for b in value)
