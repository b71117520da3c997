"""The manifest: what an appliance needs, in an operator's words.

A manifest names no mirror and no index: those belong to the builder's own apt and pip configuration, and what
comes from them is believed for its signatures and digests alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from bundler.manifest.strict import Strict, load

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: JSON numbers are exact up to here (RFC 8785, I-JSON).
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]

#: What each release brings: interpreter and C library. Source: packages python3-defaults and glibc.
RELEASES = {"trixie": {"python": "3.13", "glibc": "2.41"}, "bookworm": {"python": "3.11", "glibc": "2.36"}}


class BundleHeader(Strict):
    """Identity of the bundle."""

    name: Name
    channel: Name
    version: Annotated[int, Field(ge=1, le=2**53 - 1, description="only ever grows within a channel")]
    security_epoch: Annotated[int, Field(ge=1, le=2**53 - 1)] = 1
    digest: Literal["sha256"] = "sha256"


class Target(Strict):
    """The host that the bundle is for, described once."""

    distribution: Literal["debian"]
    release: Literal["trixie", "bookworm"]
    architecture: Literal["amd64"]
    python: Annotated[str, StringConstraints(pattern=r"^3\.\d+$")]
    kernel: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]
    driver: str | None = None
    dpkg_status: Annotated[Path, Field(description="packages that the host has; relative to the manifest")]

    @model_validator(mode="after")
    def _python_is_the_release_s(self) -> Target:
        brings = RELEASES[self.release]["python"]
        if self.python != brings:
            raise ValueError(f"{self.release} brings Python {brings}, not {self.python}")
        return self


class Archive(Strict):
    """A distribution archive, named; where it is fetched from is the builder's business."""

    name: Literal["debian", "debian-security"]
    suites: Annotated[tuple[Name, ...], Field(min_length=1)]
    components: Annotated[tuple[Name, ...], Field(min_length=1)] = ("main",)


class Apt(Strict):
    """Distribution packages."""

    archives: Annotated[tuple[Archive, ...], Field(min_length=1)]
    packages: Annotated[tuple[PackageName, ...], Field(description="installed on the appliance")]
    bootstrap: Annotated[
        tuple[PackageName, ...], Field(description="also on partition 1: what opening the medium needs")
    ] = ("openssl", "cryptsetup-bin", "python3", "python3-venv")


class SourceBuild(Strict):
    """How a source distribution becomes a wheel, in a tree of the target release."""

    flags: dict[str, str] = Field(default_factory=dict)
    packages: Annotated[tuple[PackageName, ...], Field(description="added to the build tree")] = ()


class Wheels(Strict):
    """Python packages: one locked set for each virtual environment of the appliance."""

    environments: Annotated[dict[Name, tuple[str, ...]], Field(min_length=1)]
    build: dict[str, SourceBuild] = Field(default_factory=dict, description="sources that may be compiled, by name")
    build_packages: Annotated[tuple[PackageName, ...], Field(description="the build tree's compilers")] = (
        "build-essential",
        "cmake",
        "ninja-build",
        "python3-dev",
        "python3-pip",
    )


class ModelItem(Strict):
    """Weights in one GGUF file."""

    name: Name
    source: Annotated[str, Field(description="https URL, or a path relative to the manifest")]
    sha256: Sha256
    license: str
    label: Name = "general"


class FileItem(Strict):
    """Any other file that the site wants carried."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")]
    source: str
    sha256: Sha256


class Manifest(Strict):
    """A whole manifest file."""

    schema_version: Literal[1]
    bundle: BundleHeader
    target: Target
    apt: Apt
    wheels: Wheels
    models: tuple[ModelItem, ...] = ()
    files: tuple[FileItem, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        for kind, items in (("models", self.models), ("files", self.files)):
            names = [item.name for item in items]
            if len(set(names)) != len(names):
                raise ValueError(f"{kind}: two entries have one name")
        return self


def load_manifest(file: Path) -> Manifest:
    """Read a manifest; see `strict.load` for the errors."""
    return load(file, Manifest)
