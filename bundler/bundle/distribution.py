"""What a distribution signed: `InRelease`, the indexes that it covers, and the packages that they list.

Formats: Debian's repository format, deb822(5), OpenPGP's cleartext framework (RFC 9580, section 7). Signatures
are judged elsewhere (apt when locking, `openpgp.py` when a bundle is verified); this module ties an index to the
`InRelease` that names it. It refuses text outside the signed part, and all that the framework would read otherwise than
it stands there (escaped dashes, blanks at the end of a line), so that what is read is what was signed.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path

from custody.errors import DigestMismatch, SignatureRejected

#: Debian's archive keys, from its package debian-archive-keyring.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_BEGIN, _SIGNATURE, _END = (
    f"-----{words}-----" for words in ("BEGIN PGP SIGNED MESSAGE", "BEGIN PGP SIGNATURE", "END PGP SIGNATURE")
)
#: One signed text, and nothing around it.
_CLEARTEXT = re.compile(
    rf"{_BEGIN}\n(?:Hash: [A-Z0-9, ]+\n)*\n(?P<text>(?:(?!-).*\n)*)(?P<signature>{_SIGNATURE}\n(?:(?!-).*\n)*{_END})\n"
)
#: A line that means the same to everybody: visible, no blank last.
_PLAIN_LINE = re.compile(r"[ -~\u00a1-\uffff]*(?<! )")
_WANTED = frozenset(("Package", "Version", "Architecture", "Filename", "Size", "SHA256", "Essential", "Provides"))
_ANOTHER = "try another mirror"
#: Unpacked size at the most; trixie's main has 57 MB.
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Signed:
    """A signed text and its signature, as a detached pair; without the text's last newline, as it was signed."""

    text: bytes
    signature: bytes


@dataclass(frozen=True)
class Release:
    """The signed text of an `InRelease`: its date and the digests of its indexes by path."""

    date: datetime
    digests: dict[str, tuple[str, int]]

    def check(self, path: str, data: bytes, name: str) -> None:
        """Refuse an index that is not the one that was signed.

        Raises:
            DigestMismatch: the digest or size differs, or InRelease does not name the index.
        """
        found = (sha256(data).hexdigest(), len(data))
        if self.digests.get(path) != found:
            expected = self.digests.get(path, ("no such entry", 0))
            raise DigestMismatch(
                f"{name} {path}: InRelease expects sha256 {expected[0]} ({expected[1]} bytes), "
                f"found {found[0]} ({found[1]} bytes)",
                "a mirror in the middle of an update does this: wait, then run the same command again",
            )


@dataclass(frozen=True)
class Listed:
    """A package as an index lists it; `path` is relative to the archive."""

    package: str
    version: str
    architecture: str
    path: str
    size_bytes: int
    sha256: str
    essential: bool
    provides: str


def split_release(data: bytes, name: str) -> Signed:
    """Take an `InRelease` apart.

    Raises:
        SignatureRejected: it is not one signed text of plain lines with nothing around it.
    """
    try:
        found = _CLEARTEXT.fullmatch(data.decode())
        if found is None:
            raise ValueError("expected one signed text and nothing around it")
        for line in found["text"].split("\n"):
            if not _PLAIN_LINE.fullmatch(line):
                raise ValueError(f"expected plain lines, found {line[:40]!r}")
    except ValueError as error:
        raise SignatureRejected(f"{name}: not an InRelease that can be believed: {error}", _ANOTHER) from error
    return Signed(found["text"].removesuffix("\n").encode(), found["signature"].encode() + b"\n")


def parse_release(data: bytes, name: str) -> Release:
    """Read the signed text of an `InRelease` whose signature is verified.

    Raises:
        SignatureRejected: as `split_release`, or there are no digests or no date inside.
    """
    lines = split_release(data, name).text.decode().split("\n")
    try:
        date = next(line[5:] for line in lines if line.startswith("Date:"))
        digests = {}
        for line in lines[lines.index("SHA256:") + 1 :]:
            if not line.startswith(" "):
                break
            digest, size, path = line.split()
            digests[path] = (digest, int(size))
        return Release(parsedate_to_datetime(date.strip()).astimezone(UTC), digests)
    except (ValueError, StopIteration) as error:
        raise SignatureRejected(
            f"{name}: not an InRelease that can be believed: {error or 'no Date'}", _ANOTHER
        ) from error


def parse_packages(data: bytes, name: str) -> Iterator[Listed]:
    """Read a `Packages.xz`.

    Raises:
        DigestMismatch: it cannot be unpacked, or an entry lacks a field.
    """
    try:
        text = lzma.LZMADecompressor(memlimit=1 << 28).decompress(data, _MAX_BYTES).decode()
        for stanza in text.split("\n\n"):
            fields = dict(_fields(stanza))
            if fields:
                yield Listed(
                    fields["Package"], fields["Version"], fields["Architecture"], fields["Filename"],
                    int(fields["Size"]), fields["SHA256"], fields.get("Essential") == "yes", fields.get("Provides", ""),
                )  # fmt: skip
    except (lzma.LZMAError, KeyError, ValueError) as error:
        raise DigestMismatch(f"{name}: not a package index: {error}", _ANOTHER) from error


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.split("\n"):
        key, colon, value = line.partition(":")
        if colon and key in _WANTED:
            yield key, value.strip()
