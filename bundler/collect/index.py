"""What a distribution signed: `InRelease`, the indexes that it covers, and the packages that they list.

Formats: Debian's repository format, deb822(5), OpenPGP's cleartext framework (RFC 9580, section 7). Signatures
are apt's business (`apt.py`); this module ties an index to the `InRelease` that names it, and refuses text outside
the signed part.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256

from custody.errors import DigestMismatch, SignatureRejected

_BEGIN, _SIGNATURE, _END = (
    f"-----{words}-----" for words in ("BEGIN PGP SIGNED MESSAGE", "BEGIN PGP SIGNATURE", "END PGP SIGNATURE")
)
_WANTED = frozenset(("Package", "Version", "Architecture", "Filename", "Size", "SHA256", "Essential", "Provides"))
#: Unpacked size at the most; trixie's main has 57 MB.
_MAX_BYTES = 1 << 30


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


def parse_release(data: bytes, name: str) -> Release:
    """Read the signed text of an `InRelease` whose signature apt has verified.

    Raises:
        SignatureRejected: there is text outside the signed part, or no digests or date inside.
    """
    lines = data.decode(errors="replace").splitlines()
    try:
        if lines[0] != _BEGIN or lines[-1] != _END or lines.count(_BEGIN) != 1 or lines.count(_SIGNATURE) != 1:
            raise ValueError("expected one signed text and nothing around it")
        body = lines[lines.index("") + 1 : lines.index(_SIGNATURE)]
        date = next(line[5:] for line in body if line.startswith("Date:"))
        digests = {}
        for line in body[body.index("SHA256:") + 1 :]:
            if not line.startswith(" "):
                break
            digest, size, path = line.split()
            digests[path] = (digest, int(size))
        return Release(parsedate_to_datetime(date.strip()).astimezone(UTC), digests)
    except (ValueError, IndexError, StopIteration) as error:
        raise SignatureRejected(
            f"{name}: not an InRelease that can be believed: {error or 'no Date'}", "try another mirror"
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
        raise DigestMismatch(f"{name}: not a package index: {error}", "try another mirror") from error


def _fields(stanza: str) -> Iterator[tuple[str, str]]:
    for line in stanza.split("\n"):
        key, colon, value = line.partition(":")
        if colon and key in _WANTED:
            yield key, value.strip()
