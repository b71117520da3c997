"""What a distribution package says of its licences, in `/usr/share/doc/PACKAGE/copyright` (Debian Policy, 12.5).

Machine-readable files (copyright-format 1.0, DEP-5) name licences; those of the whole and of its files are taken, in
Debian's words, and as SPDX identifiers where the two mean the same text for certain. Expressions stay words: one list
cannot say which part of the source went into which package. Other files are texts for people: they are pointed at. So
are links, which lead to the file of another package. Believed as a declaration and no more.

A package (deb(5): `ar` with a compressed `tar`) is read as a stream, and no further than to that file.
"""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bundler.bundle.licence import Declared, fitting

_MAX_COPYRIGHT_BYTES = 4 << 20
_AR_MAGIC, _AR_HEADER_BYTES = b"!<arch>\n", 60
#: How the `tar` is compressed: what the standard library of every supported Python reads. Not zstd, which Ubuntu uses.
_OPENERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "data.tar": lambda stream: stream,
    "data.tar.gz": lambda stream: cast(BinaryIO, gzip.GzipFile(fileobj=stream)),
    "data.tar.xz": lambda stream: cast(BinaryIO, lzma.LZMAFile(stream)),  # noqa: SIM115 -- the package is closed
}
_FORMAT = re.compile(r"https?://www\.debian\.org/doc/packaging-manuals/copyright-format/1\.0/?")
#: Debian's short name in lower case, versions without trailing `.0` → the SPDX identifier of the same text.
#: Not here: names for several texts (MIT, Artistic, GFDL with or without invariant sections, public-domain).
SPDX = {
    "0bsd": "0BSD", "afl-2": "AFL-2.0", "afl-2.1": "AFL-2.1", "afl-3": "AFL-3.0", "apache-2": "Apache-2.0",
    "artistic-2": "Artistic-2.0", "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause", "bsl-1": "BSL-1.0", "bzip2-1.0.6": "bzip2-1.0.6", "cc0": "CC0-1.0",
    "cc0-1": "CC0-1.0", "cc-by-3": "CC-BY-3.0", "cc-by-4": "CC-BY-4.0", "cc-by-sa-3": "CC-BY-SA-3.0",
    "cc-by-sa-4": "CC-BY-SA-4.0", "expat": "MIT", "fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR",
    "isc": "ISC", "mpl-1.1": "MPL-1.1", "mpl-2": "MPL-2.0", "ofl-1.1": "OFL-1.1",
    "unicode-dfs-2016": "Unicode-DFS-2016", "zlib": "Zlib",
}  # fmt: skip
SPDX |= {
    f"{short.lower()}-{version.removesuffix('.0')}{plus}": f"{short.removesuffix('-NIV')}-{version}{words}"
    for short, versions, suffixes in (
        ("AGPL", ("3.0",), ("-only", "-or-later")),
        ("GPL", ("1.0", "2.0", "3.0"), ("-only", "-or-later")),
        ("LGPL", ("2.0", "2.1", "3.0"), ("-only", "-or-later")),
        ("GFDL-NIV", ("1.1", "1.2", "1.3"), ("-no-invariants-only", "-no-invariants-or-later")),
    )
    for version in versions
    for plus, words in zip(("", "+"), suffixes, strict=True)
}


def deb_licences(deb: Path, package: str) -> tuple[Declared, ...]:
    """The licences that a package declares, sorted; none when it cannot be read, or has no such file."""
    place = f"usr/share/doc/{package}"
    try:
        with deb.open("rb") as stream:
            text = _copyright(stream, place)
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error):
        return ()
    if text is None:
        return ()
    found = {_declared(name) for name in short_names(text)}
    return tuple(sorted(found)) or (Declared(f"see /{place}/copyright", spdx=False),)


def short_names(text: str) -> list[str]:
    """The licences that a machine-readable file names; none if one of them has no name, or it is another file."""
    paragraphs = [
        dict(_fields(paragraph)) for paragraph in re.split(r"\n[ \t]*\n+", text.replace("\r\n", "\n").strip())
    ]
    if not _FORMAT.fullmatch(paragraphs[0].get("format", "")):
        return []
    names = [each["license"] for each in paragraphs[:1] if "license" in each]
    names += [each.get("license", "") for each in paragraphs if "files" in each]
    return names if all(map(fitting, names)) else []


def _fields(paragraph: str) -> Iterator[tuple[str, str]]:
    """Name in lower case, and what stands in its first line; of a licence, the text below it is left out."""
    for line in paragraph.splitlines():
        name, found, value = line.partition(":")
        if found and not line[0].isspace():
            yield name.lower(), " ".join(value.split())


def _declared(name: str) -> Declared:
    plain = re.sub(r"(?:\.0)+(\+?)$", r"\1", name.lower())
    return Declared(SPDX.get(plain, name), spdx=plain in SPDX)


def _copyright(deb: BinaryIO, place: str) -> str | None:
    """The text; "" when a link stands in its place, or in that of its folder; None when nothing does."""
    with tarfile.open(fileobj=_payload(deb), mode="r|") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name == place and not member.isdir():
                return ""
            if name == f"{place}/copyright":
                if not member.isreg() or member.size > _MAX_COPYRIGHT_BYTES:
                    return ""
                stream = archive.extractfile(member)
                return stream.read().decode(errors="replace") if stream else ""
    return None


def _payload(deb: BinaryIO) -> BinaryIO:
    if deb.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("not an ar archive")
    while len(header := deb.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES:
        name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
        if name in _OPENERS:
            return _OPENERS[name](deb)
        deb.seek(size + size % 2, 1)
    raise ValueError("no data.tar that can be read")
