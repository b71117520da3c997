"""What a wheel says of its licence, in the words of its own metadata (PyPA core metadata, PEP 639).

Believed as a declaration and no more; a wheel that says nothing, or cannot be read, has no known licence.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

_METADATA = ".dist-info/METADATA"
_MAX_METADATA_BYTES = 4 << 20
#: Longer ones are whole texts of licences, put into the field by mistake.
_MAX_CHARACTERS = 100
_CLASSIFIER = "License :: "


@dataclass(frozen=True, order=True)
class Declared:
    """A licence as somebody declares it.

    Attributes:
        spdx: words that are an SPDX identifier or expression mean just that.
    """

    text: str
    spdx: bool = True


def fitting(text: str) -> bool:
    """Whether it can be the name of a licence."""
    return 0 < len(text) <= _MAX_CHARACTERS and text.isprintable()


def wheel_licence(wheel: Path) -> tuple[Declared, ...]:
    """The licence that a wheel declares: an SPDX expression, or words; at most one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [i for i in archive.infolist() if i.filename.count("/") == 1 and i.filename.endswith(_METADATA)]
            if len(infos) != 1 or infos[0].file_size > _MAX_METADATA_BYTES:
                return ()
            metadata = HeaderParser().parsestr(archive.read(infos[0]).decode(errors="replace"))
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
        return ()
    return _declared(metadata)


def _declared(metadata: Message) -> tuple[Declared, ...]:
    said = [str(metadata.get(name, "")).strip() for name in ("License-Expression", "License")]
    classifiers = [c.removeprefix(_CLASSIFIER) for c in metadata.get_all("Classifier", ()) if c.startswith(_CLASSIFIER)]
    said.append(", ".join(sorted(c.rpartition(" :: ")[2] for c in classifiers)))
    return tuple(Declared(s) for s in said if s != "UNKNOWN" and fitting(s))[:1]
