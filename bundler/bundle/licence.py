"""What a wheel says of its licence, in the words of its own metadata (PyPA core metadata, PEP 639).

Believed as a declaration and no more; a wheel that says nothing, or cannot be read, has no known licence.
"""

from __future__ import annotations

import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

_METADATA = ".dist-info/METADATA"
_MAX_METADATA_BYTES = 4 << 20
#: Longer ones are whole texts of licences, put into the field by mistake.
_MAX_CHARACTERS = 100
_CLASSIFIER = "License :: "


def wheel_licence(wheel: Path) -> str | None:
    """The licence that a wheel declares: an SPDX expression, or words."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [i for i in archive.infolist() if i.filename.count("/") == 1 and i.filename.endswith(_METADATA)]
            if len(infos) != 1 or infos[0].file_size > _MAX_METADATA_BYTES:
                return None
            metadata = HeaderParser().parsestr(archive.read(infos[0]).decode(errors="replace"))
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
        return None
    return _declared(metadata)


def _declared(metadata: Message) -> str | None:
    said = [str(metadata.get(name, "")).strip() for name in ("License-Expression", "License")]
    classifiers = [c.removeprefix(_CLASSIFIER) for c in metadata.get_all("Classifier", ()) if c.startswith(_CLASSIFIER)]
    said.append(", ".join(sorted(c.rpartition(" :: ")[2] for c in classifiers)))
    fitting = (s for s in said if s and s != "UNKNOWN" and len(s) <= _MAX_CHARACTERS and s.isprintable())
    return next(fitting, None)
