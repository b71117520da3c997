"""The lock: a manifest resolved to exact versions, sizes, digests and origins.

A lock is JSON, written sorted, and stands for the bytes of a bundle: one lock, one bundle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bundler.manifest.models import BundleHeader, Count, Name, PackageName, Sha256
from bundler.manifest.strict import Strict, validate
from custody.errors import InputInvalid

#: A lock of 10,000 packages is about 5 MB.
MAX_BYTES = 64 << 20

#: Below a folder, as the bundle's paths are written: a lock cannot point anywhere else.
_COMPONENT = "[A-Za-z0-9_+~%@=][A-Za-z0-9._+~%@=-]*"
RelativePath = Annotated[str, StringConstraints(pattern=f"^(?:{_COMPONENT}/)*{_COMPONENT}$")]
FileName = Annotated[str, StringConstraints(pattern=f"^{_COMPONENT}$")]
#: Normalised, as requirements and folders are named after them (PyPA: names, version specifiers).
ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$")]
ProjectVersion = Annotated[str, StringConstraints(pattern=r"^[0-9][A-Za-z0-9.!+]*$")]


class LockedTarget(Strict):
    """The target, with the digest of the dpkg status that packages were solved against."""

    distribution: str
    release: str
    architecture: str
    python: str
    glibc: str
    kernel: str
    driver: str | None
    dpkg_status_sha256: Sha256


class LockedIndex(Strict):
    """A signed `InRelease` or an index that it covers.

    `path` is relative to the archive (`dists/trixie/InRelease`).
    """

    archive: str
    path: RelativePath
    size_bytes: Count
    sha256: Sha256


class LockedDeb(Strict):
    """A distribution package; `path` is relative to the archive (`pool/main/...`)."""

    package: PackageName
    version: str
    architecture: str
    archive: str
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
    url: str
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
    filename: Annotated[str, StringConstraints(pattern=f"^(?:{_COMPONENT})?$")]
    url: str
    size_bytes: Count
    sha256: Sha256
    flags: dict[str, str]
    build_requires: tuple[LockedWheel, ...]
    environments: tuple[Name, ...]


class LockedModel(Strict):
    """A model: digest, origin, and what its GGUF header says."""

    name: str
    filename: str
    origin: str
    size_bytes: Count
    sha256: Sha256
    license: str
    label: str
    architecture: str
    context_tokens: Count
    quantization: str
    tokenizer: str
    chat_template_sha256: Sha256 | None


class LockedFile(Strict):
    """A plain file of the site."""

    name: str
    origin: str
    size_bytes: Count
    sha256: Sha256


class Lock(Strict):
    """A whole lock file."""

    schema_version: Literal[1]
    manifest_sha256: Sha256
    bundle: BundleHeader
    target: LockedTarget
    source_date_epoch: Annotated[Count, Field(description="seconds since 1970; the newest InRelease's Date")]
    tree_sha256: Annotated[Sha256, Field(description="over name, version and digest of the tree's packages")]
    indexes: tuple[LockedIndex, ...]
    debs: tuple[LockedDeb, ...]
    wheels: tuple[LockedWheel, ...]
    sources: tuple[LockedSource, ...]
    models: tuple[LockedModel, ...]
    files: tuple[LockedFile, ...]


def load_lock(file: Path) -> Lock:
    """Read a lock; see `parse_lock` for the errors."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "make it with: airgap lock MANIFEST") from error
    return parse_lock(data, file)


def parse_lock(data: bytes, file: Path) -> Lock:
    """A lock from its bytes.

    Args:
        file: what to call it in an error.

    Raises:
        InputInvalid: too large, not JSON, duplicate keys, or not what `Lock` asks for.
    """
    if len(data) > MAX_BYTES:
        raise InputInvalid(f"{file}: more than {MAX_BYTES} bytes", "is this a lock?")
    try:
        content = json.loads(data, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise InputInvalid(f"{file}: not a lock: {error}", "make it anew with: airgap lock MANIFEST") from error
    return validate(content, Lock, file)


def dump_lock(lock: Lock) -> bytes:
    """A lock's bytes: sorted, indented by one space, one final newline."""
    return (json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def save_lock(lock: Lock, file: Path) -> None:
    """Write a lock so that a crash leaves the old one or the new one, never half."""
    part = file.with_name(file.name + ".part")
    with part.open("wb") as stream:
        stream.write(dump_lock(lock))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} appears twice")
    return result
