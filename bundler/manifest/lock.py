"""The lock: a manifest resolved to exact versions, sizes, digests and origins.

A lock is JSON, written sorted, and stands for the bytes of a bundle: one lock, one bundle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bundler.manifest.form import misfit, text
from bundler.manifest.gpu import LockedGpu
from bundler.manifest.models import ArchiveName, BundleHeader, Count, Flags, Line, ModelName, Name, PackageName, Sha256
from bundler.manifest.parse import read_file
from bundler.manifest.strict import Strict, load_json
from custody.atomic import write_whole

#: A lock of 10,000 packages is about 5 MB.
MAX_BYTES = 64 << 20
_HINT = "make it anew with: airgap lock MANIFEST"

#: Below a folder, as the bundle's paths are written: a lock cannot point anywhere else.
_COMPONENT = "[A-Za-z0-9_+~%@=][A-Za-z0-9._+~%@=-]*"
RelativePath = Annotated[
    str, text(f"(?:{_COMPONENT}/)*{_COMPONENT}", "a relative path without .., of letters, digits and ._+~%@=-")
]
FileName = Annotated[str, text(_COMPONENT, "a file name of letters, digits and ._+~%@=-")]
#: Normalised, as requirements and folders are named after them (PyPA: names, version specifiers).
ProjectName = Annotated[str, text("[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", "a normalised project name")]
ProjectVersion = Annotated[str, text("[0-9][A-Za-z0-9.!+]*", "a version, like 0.3.36")]
DebVersion = Annotated[str, text("[0-9][A-Za-z0-9.+~:-]*", "a Debian version, like 1:2.41-5")]
Origin = Annotated[str, text("https?://[!-~]+|/.*", "an http or https URL, or an absolute path")]
#: From 1980, where zip archives begin, to 2242.
Epoch = Annotated[int, Field(ge=315532800, le=2**33, description="seconds since 1970; the newest InRelease's Date")]


class LockedTarget(Strict):
    """The target, with the digest of the dpkg status that packages were solved against."""

    distribution: Name
    release: Name
    architecture: Name
    python: Line
    glibc: Line
    kernel: Line
    driver: Line | None
    dpkg_status_sha256: Sha256


class LockedIndex(Strict):
    """A signed `InRelease` or an index that it covers.

    `path` is relative to the archive (`dists/trixie/InRelease`).
    """

    archive: ArchiveName
    path: RelativePath
    size_bytes: Count
    sha256: Sha256


class LockedDeb(Strict):
    """A distribution package; `path` is relative to the archive (`pool/main/...`)."""

    package: PackageName
    version: DebVersion
    architecture: Name
    archive: ArchiveName
    path: RelativePath
    size_bytes: Count
    sha256: Sha256
    uses: Annotated[
        tuple[Literal["appliance", "bootstrap", "tree"], ...],
        Field(description="installed by a role, by start on a bare host, or into the build tree"),
    ]


class LockedWheel(Strict):
    """A wheel from an index."""

    name: ProjectName
    version: ProjectVersion
    filename: FileName
    url: Origin
    size_bytes: Count
    sha256: Sha256
    environments: Annotated[tuple[Name, ...], Field(description="empty for what only builds others")] = ()


class LockedSource(Strict):
    """A source that the builder turns into a wheel in the build tree.

    `project` is this project itself: `url` is empty and `sha256` is over its source files.
    """

    name: ProjectName
    version: ProjectVersion
    kind: Literal["sdist", "project"]
    filename: FileName | Literal[""]
    url: Origin | Literal[""]
    size_bytes: Count
    sha256: Sha256
    flags: Flags
    build_requires: tuple[LockedWheel, ...]
    environments: tuple[Name, ...]


class LockedModel(Strict):
    """A model: digest, origin, and what its GGUF header says."""

    name: ModelName
    filename: FileName
    origin: Origin
    size_bytes: Count
    sha256: Sha256
    license: Line
    label: Name
    architecture: Line
    context_tokens: Count
    kv_bytes_per_token: Annotated[Count, Field(description="keys and values that the engine keeps, at 16 bits each")]
    quantization: Line
    tokenizer: Line
    chat_template_sha256: Sha256 | None


class LockedFile(Strict):
    """A plain file of the site."""

    name: FileName
    origin: Origin
    size_bytes: Count
    sha256: Sha256


class Lock(Strict):
    """A whole lock file."""

    schema_version: Literal[1]
    manifest_sha256: Sha256
    bundle: BundleHeader
    target: LockedTarget
    gpu: LockedGpu | None = None
    source_date_epoch: Epoch
    tree_sha256: Annotated[Sha256, Field(description="over name, version and digest of the tree's packages")]
    indexes: tuple[LockedIndex, ...]
    debs: tuple[LockedDeb, ...]
    wheels: tuple[LockedWheel, ...]
    sources: tuple[LockedSource, ...]
    models: tuple[LockedModel, ...]
    files: tuple[LockedFile, ...]

    @model_validator(mode="after")
    def _places_are_unique(self) -> Lock:
        places: dict[str, tuple[str, ...]] = {
            "indexes": tuple(f"{index.archive}/{index.path}" for index in self.indexes),
            "debs": tuple(f"{deb.archive}/{deb.path}" for deb in self.debs),
            "wheels": tuple(wheel.filename for wheel in self.wheels),
            "models": tuple(model.filename for model in self.models),
            "files": tuple(file.name for file in self.files),
        }
        for kind, names in places.items():
            seen: set[str] = set()
            for number, name in enumerate(names):
                if name.casefold() in seen:
                    raise misfit("a place of its own in the bundle", f"{name} a second time", kind, number)
                seen.add(name.casefold())
        return self


def load_lock(file: Path) -> Lock:
    """Read a lock; see `strict.load` for the errors."""
    return parse_lock(read_file(file, MAX_BYTES, _HINT), file)


def parse_lock(data: bytes, file: Path) -> Lock:
    """A lock from its bytes.

    Args:
        file: what to call it in an error.

    Raises:
        InputInvalid: not JSON, duplicate keys, or not what `Lock` asks for.
    """
    return load_json(data, Lock, file, _HINT)


def dump_lock(lock: Lock) -> bytes:
    """A lock's bytes: sorted, indented by one space, one final newline."""
    return (json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def save_lock(lock: Lock, file: Path) -> None:
    """Write a lock so that a crash leaves the old one or the new one, never half."""
    write_whole(file, dump_lock(lock))
