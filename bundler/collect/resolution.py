"""Python packages resolved for the target's interpreter and platform, with uv, on another machine.

Wheels alone are considered, except for the sources that a manifest names; so no code of a package runs here. Which
index answers is the builder's configuration, taken from the environment (`_FROM_SITE`); what the builder's pip or
uv is told besides, such as folders to look into, has no effect. Formats: pylock.toml (PEP 751), wheel names and
platform tags (PyPA specifications, PEP 600).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import uv
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bundler.manifest.models import RELEASES, Target
from custody._run import run
from custody.errors import FetchFailed, InputInvalid, ProgramFailed

#: How to reach an index, which a site may need; nothing that changes what is chosen.
_FROM_SITE = (
    "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
#: The newest glibc that uv's `--python-platform` knows; the choice of a wheel uses the target's own.
_UV_GLIBC = (2, 40)
_MACHINES = {"amd64": "x86_64"}
#: Older names of the same platforms (PEP 600).
_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


@dataclass(frozen=True)
class Found:
    """A wheel or a source distribution on an index; the size is known once it has been fetched."""

    name: str
    version: str
    filename: str
    origin: str
    sha256: str

    @property
    def is_wheel(self) -> bool:
        """Whether it installs without being built."""
        return self.filename.endswith(".whl")


class Resolver:
    """Resolves requirements for one target.

    Args:
        buildable: names of packages that are to be built from source.
        scratch: keeps uv's cache.
    """

    def __init__(self, target: Target, buildable: Iterable[str], scratch: Path) -> None:
        self._target, self._scratch = target, scratch
        self._buildable = frozenset(canonicalize_name(name) for name in buildable)
        self._rank = {tag: rank for rank, tag in enumerate(target_tags(target))}

    def resolve(self, requirements: Sequence[str], purpose: str) -> list[Found]:
        """One file for each package that the requirements need, by name.

        Args:
            purpose: what to call it in an error.

        Raises:
            InputInvalid: no set of versions fits, or only a source that may not be built.
            FetchFailed: the index is not reachable.
        """
        if not requirements:
            return []
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            wanted, answer = Path(folder, "requirements.in"), Path(folder, "pylock.toml")
            wanted.write_text("".join(f"{line}\n" for line in sorted(requirements)))
            try:
                run(self._command(wanted, answer), env=self._environment(), cwd=Path(folder))
            except ProgramFailed as error:
                raise _complaint(error, purpose, requirements) from error
            packages = tomllib.loads(answer.read_text())["packages"]
        return sorted((self._choose(package, purpose) for package in packages), key=lambda found: found.name)

    def _command(self, wanted: Path, answer: Path) -> list[str | Path]:
        glibc = min(tuple(map(int, RELEASES[self._target.release]["glibc"].split("."))), _UV_GLIBC)
        machine = _MACHINES[self._target.architecture]
        sources = [option for name in sorted(self._buildable) for option in ("--no-binary", name)]
        return [
            uv.find_uv_bin(), "pip", "compile", "--no-config", "--quiet", "--no-header", "--generate-hashes",
            "--format", "pylock.toml", "--python", sys.executable, "--python-version", self._target.python,
            "--python-platform", f"{machine}-manylinux_{glibc[0]}_{glibc[1]}", "--no-sources",
            "--only-binary", ":all:", *sources, "--no-build-isolation", wanted, "--output-file", answer,
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _FROM_SITE if name in os.environ}
        if "PIP_INDEX_URL" in os.environ and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(kept):
            kept["UV_DEFAULT_INDEX"] = os.environ["PIP_INDEX_URL"]
        own = {"UV_CACHE_DIR": str(self._scratch / "uv"), "XDG_DATA_HOME": str(self._scratch / "uv-data")}
        return {**kept, **own, "UV_PYTHON_DOWNLOADS": "never"}

    def _choose(self, package: dict[str, Any], purpose: str) -> Found:
        """The best wheel for the target, or the source of a package that may be built.

        The markers in a pylock need no look: uv has left out what the target does not need.
        """
        name, version = canonicalize_name(package["name"]), package.get("version", "")
        sdist, ranked = package.get("sdist"), []
        for wheel in package.get("wheels", ()):
            if (rank := self._best(_filename(wheel))) is not None:
                ranked.append((rank, _filename(wheel), wheel))
        if ranked:
            return _found(name, version, min(ranked, key=lambda entry: entry[:2])[2])
        if sdist and name in self._buildable:
            return _found(name, version, sdist)
        raise InputInvalid(
            f"{purpose}: {name} {version}: no wheel fits {self._target.release} {self._target.architecture}, "
            f"Python {self._target.python}",
            f"ask for another version, or allow its source under wheels.build.{name} in the manifest",
        )

    def _best(self, filename: str) -> int | None:
        try:
            tags = parse_wheel_filename(filename)[3]
        except InvalidWheelFilename:
            return None
        return min((self._rank[tag] for tag in tags if tag in self._rank), default=None)


def target_tags(target: Target) -> list[Tag]:
    """The tags that the target's pip accepts, best first."""
    machine = _MACHINES[target.architecture]
    major, newest = map(int, RELEASES[target.release]["glibc"].split("."))
    platforms = []
    for minor in range(newest, 4, -1):
        platforms.append(f"manylinux_{major}_{minor}_{machine}")
        if (major, minor) in _MANYLINUX:
            platforms.append(f"{_MANYLINUX[major, minor]}_{machine}")
    platforms.append(f"linux_{machine}")
    version = tuple(map(int, target.python.split(".")))
    interpreter = "cp" + "".join(map(str, version))
    return [
        *cpython_tags(version, [interpreter], platforms),
        *compatible_tags(version, interpreter, platforms),
    ]


def _filename(entry: dict[str, Any]) -> str:
    place = entry.get("name") or urlsplit(entry.get("url", "")).path or entry.get("path", "")
    return unquote(place.rpartition("/")[2])


def _found(name: str, version: str, entry: dict[str, Any]) -> Found:
    url, digest = entry.get("url", ""), entry.get("hashes", {}).get("sha256", "")
    parts = urlsplit(url)
    if parts.scheme == "file":
        origin = unquote(parts.path)
    elif url:
        # Credentials stay on the builder (netrc); a lock travels.
        origin = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    else:
        origin = entry.get("path", "")
    if not origin or not re.fullmatch("[0-9a-f]{64}", digest):
        raise InputInvalid(
            f"{name} {version}: expected an address and a SHA-256 from the index, found {origin or 'no address'} "
            f"and {digest or 'no digest'}",
            "use an index that gives digests",
        )
    return Found(name, version, _filename(entry), origin, digest)


def _complaint(error: ProgramFailed, purpose: str, requirements: Sequence[str]) -> Exception:
    text = error.message.partition("\n")[2]
    if "No solution found" in text or "no usable wheels" in text:
        hint = "ask for other versions; a package without wheels must be allowed under wheels.build"
        return InputInvalid(f"{purpose}: {', '.join(requirements)} cannot be resolved for the target:\n{text}", hint)
    return FetchFailed(
        f"{purpose}: {', '.join(requirements)} could not be resolved:\n{text}",
        "check that the builder reaches its package index (UV_DEFAULT_INDEX, proxies, certificates)",
    )
