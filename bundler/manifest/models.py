"""The manifest: what an appliance needs, in an operator's words.

A manifest names no mirror and no index: those belong to the builder's own apt and pip configuration, and what
comes from them is believed for its signatures and digests alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bundler.manifest.form import misfit, text
from bundler.manifest.gpu import Gpu
from bundler.manifest.strict import Strict, load
from custody.trust.canonical import LARGEST

Name = Annotated[str, text("[a-z0-9][a-z0-9._-]{0,62}", "a name of lower-case letters, digits and ._-")]
#: A Unix socket's address holds 107 bytes, and a model's has its name twice.
ModelName = Annotated[str, text("[a-z0-9][a-z0-9._-]{0,39}", "a name of at most 40 lower-case letters, digits and ._-")]
PackageName = Annotated[str, text("[a-z0-9][a-z0-9+.-]+", "a package name")]
Sha256 = Annotated[str, text("[0-9a-f]{64}", "a SHA-256 of 64 lower-case hexadecimal digits")]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Line = Annotated[str, text(".+", "text, not empty")]
ArchiveName = Literal["debian", "debian-security"]
#: PEP 508 without addresses: where packages come from is the builder's business, and options are no requirements.
Requirement = Annotated[
    str,
    text(
        r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9._, -]*\])? *(?:[<>=!~][<>=!~0-9A-Za-z.*+, -]*)?(?:;[^@\\]*)?",
        "a requirement, like llama-cpp-python[server]==0.3.36",
    ),
]
Source = Annotated[str, text(r"https://[!-~]+|(?!-)(?!.*://).+", "an https URL, or a path relative to the manifest")]
Flags = dict[
    Annotated[str, text("[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")],
    str,
]

#: What each release brings: interpreter and C library. Source: packages python3-defaults and glibc.
RELEASES = {"trixie": {"python": "3.13", "glibc": "2.41"}, "bookworm": {"python": "3.11", "glibc": "2.36"}}


class BundleHeader(Strict):
    """Identity of the bundle."""

    name: Annotated[Name, Field(description="names the bundle's folder together with the version")]
    channel: Annotated[Name, Field(description="a host accepts newer versions of its own channel only")]
    version: Annotated[int, Field(ge=1, le=LARGEST, description="only ever grows within a channel")]
    security_epoch: Annotated[int, Field(ge=1, le=LARGEST, description="a host refuses an older one for good")] = 1
    digest: Annotated[
        Literal["sha256", "sha384"], Field(description="digest of files and leaves: sha384 for a root of profile cnsa")
    ] = "sha256"
    lowest_revocation: Annotated[
        int, Field(ge=0, le=LARGEST, description="number of the revocations that must lie beside the bundle at least")
    ] = 0


class Target(Strict):
    """The host that the bundle is for, described once."""

    distribution: Annotated[Literal["debian"], Field(description="of the host")]
    release: Annotated[Literal["trixie", "bookworm"], Field(description="code name: Debian 13 or 12")]
    architecture: Annotated[Literal["amd64"], Field(description="of the host, as dpkg calls it")]
    python: Annotated[
        str,
        text(r"3\.\d{1,3}", 'a Python version in quotes, like "3.13"'),
        Field(description="what the release brings"),
    ]
    kernel: Annotated[
        str,
        text(r"\d{1,3}\.\d{1,3}", 'a kernel series in quotes, like "6.12"'),
        Field(description="series of the kernel that the host runs"),
    ]
    dpkg_status: Annotated[
        Path, Field(description="packages that the host has already: a dpkg status file, relative to the manifest")
    ]

    @model_validator(mode="after")
    def _python_is_the_release_s(self) -> Target:
        brings = RELEASES[self.release]["python"]
        if self.python != brings:
            raise misfit(f"{brings}, which {self.release} brings", self.python, "python")
        return self


class Archive(Strict):
    """A distribution archive, named; where it is fetched from is the builder's business."""

    name: Annotated[ArchiveName, Field(description="as its address ends in the builder's apt configuration")]
    suites: Annotated[tuple[Name, ...], Field(min_length=1, description="like trixie, trixie-updates")]
    components: Annotated[tuple[Name, ...], Field(min_length=1, description="like main, non-free")] = ("main",)


class Apt(Strict):
    """Distribution packages."""

    archives: Annotated[tuple[Archive, ...], Field(min_length=1, description="distribution archives, by name alone")]
    packages: Annotated[
        tuple[PackageName, ...],
        Field(description="installed on the appliance; apt solves their closure against `target.dpkg_status`"),
    ]
    bootstrap: Annotated[
        tuple[PackageName, ...], Field(description="also on partition 1: what opening the medium needs")
    ] = ("openssl", "cryptsetup-bin", "python3")


class SourceBuild(Strict):
    """How a source distribution becomes a wheel, in a tree of the target release."""

    flags: Annotated[Flags, Field(description="environment of the build")] = Field(default_factory=dict)
    packages: Annotated[tuple[PackageName, ...], Field(description="added to the build tree")] = ()


class Wheels(Strict):
    """Python packages: one locked set for each virtual environment of the appliance."""

    environments: Annotated[
        dict[Name, tuple[Requirement, ...]],
        Field(
            min_length=1,
            description="requirements by environment; `control` also gets this project, `engine` runs the model",
        ),
    ]
    build: dict[Name, SourceBuild] = Field(
        default_factory=dict, description="sources that may be compiled, by name; all else must be wheels"
    )
    build_packages: Annotated[tuple[PackageName, ...], Field(description="the build tree's compilers")] = (
        "build-essential",
        "cmake",
        "ninja-build",
        "python3-dev",
        "python3-pip",
    )


class ModelItem(Strict):
    """Weights in one GGUF file."""

    name: Annotated[ModelName, Field(description="what clients ask for; also the file's name on the appliance")]
    source: Annotated[Source, Field(description="where the builder finds it")]
    sha256: Annotated[Sha256, Field(description="of the GGUF file; what comes is compared with it")]
    license: Annotated[Line, Field(description="SPDX identifier, or words")]
    label: Annotated[Name, Field(description="who may use it, for the policy")] = "general"


class FileItem(Strict):
    """Any other file that the site wants carried."""

    name: Annotated[
        str,
        text("[A-Za-z0-9][A-Za-z0-9._-]{0,126}", "a file name of letters, digits and ._-"),
        Field(description="its name below `data/files/`"),
    ]
    source: Annotated[Source, Field(description="where the builder finds it")]
    sha256: Annotated[Sha256, Field(description="of the file; what comes is compared with it")]


class Manifest(Strict):
    """A whole manifest file."""

    schema_version: Annotated[Literal[1], Field(description="of this page")]
    bundle: BundleHeader
    target: Target
    gpu: Annotated[Gpu | None, Field(description="NVIDIA GPUs; without it the engine computes on the processor")] = None
    apt: Apt
    wheels: Wheels
    models: Annotated[tuple[ModelItem, ...], Field(description="weights that the engine serves")] = ()
    files: Annotated[tuple[FileItem, ...], Field(description="further files of the site")] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        for kind, names in (("models", [m.name for m in self.models]), ("files", [f.name for f in self.files])):
            seen: set[str] = set()
            for number, name in enumerate(names):
                if name.casefold() in seen:
                    raise misfit("a name of its own", f"{name} a second time", kind, number, "name")
                seen.add(name.casefold())
        return self

    @model_validator(mode="after")
    def _gpu_fits_the_rest(self) -> Manifest:
        if self.gpu is None:
            return self
        if not self.gpu.kernel.startswith(f"{self.target.kernel}."):
            raise misfit(f"a kernel of the series {self.target.kernel}", self.gpu.kernel, "gpu", "kernel")
        for name, build in self.wheels.build.items():
            if others := self.gpu.other_architectures(build.flags.values()):
                raise misfit(
                    f"CMAKE_CUDA_ARCHITECTURES={self.gpu.sm}-real, as gpu.sm says", ", ".join(others),
                    "wheels", "build", name, "flags",
                )  # fmt: skip
        return self


def load_manifest(file: Path) -> Manifest:
    """Read a manifest; see `strict.load` for the errors."""
    return load(file, Manifest, "docs/reference/manifest.md names every field")
