"""Sources that become wheels: this project and the source distributions that a manifest allows.

Reads archives without unpacking them and runs nothing; building is `tree.py`'s business, inside the target's tree.
Formats: source distributions and `[build-system]` (PyPA specifications, PEP 517, PEP 518).
"""

from __future__ import annotations

import tarfile
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bundler.collect.cache import sha256_file
from custody.errors import InputInvalid

#: What goes into this project's wheel, and into the digest that stands for it.
PROJECT_PARTS = (
    "pyproject.toml", "README.md", "LICENSE", "appliance", "bundler", "custody", "docs", "playbooks", "roles",
    "plugins",
)  # fmt: skip
#: Left out wherever they lie: made by running or testing.
SKIPPED = frozenset(("__pycache__", "molecule", ".ansible", ".cache"))
#: The distribution brings these programs; their Python packages would only fetch others.
_FROM_TREE = frozenset(("cmake", "ninja"))
_MAX_PYPROJECT_BYTES = 1 << 20


def project_files(project: Path, parts: tuple[str, ...] = PROJECT_PARTS) -> list[str]:
    """Paths of this project's files below `project`, sorted.

    Raises:
        InputInvalid: a part is missing, or one is a link.
    """
    found: list[str] = []
    for part in parts:
        top = project / part
        if not top.exists():
            raise InputInvalid(f"{top}: no such file", "build from a whole copy of the project")
        for path in [top, *top.rglob("*")]:
            relative = path.relative_to(project)
            if SKIPPED.intersection(relative.parts) or path.suffix == ".pyc":
                continue
            if path.is_symlink():
                raise InputInvalid(f"{path}: a symbolic link", "the bundle carries plain files: replace it")
            if path.is_file():
                found.append(relative.as_posix())
    return sorted(found)


def file_mode(path: Path) -> int:
    """0755 for what its owner may execute, else 0644: a checkout's other bits mean nothing."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def project_sha256(project: Path) -> str:
    """SHA-256 over the sorted lines `digest  mode  path` of this project's source files."""
    lines = (
        f"{sha256_file(project / path)}  {file_mode(project / path):04o}  {path}\n" for path in project_files(project)
    )
    return sha256("".join(lines).encode()).hexdigest()


def project_metadata(project: Path) -> dict[str, Any]:
    """The `[project]` table and, as `build-requires`, what building it takes."""
    content = tomllib.loads((project / "pyproject.toml").read_text())
    return {**content["project"], "build-requires": content["build-system"]["requires"]}


def build_requires(sdist: Path, name: str) -> list[str]:
    """What building a source distribution takes, without the programs that the tree brings.

    Args:
        sdist: a `.tar.gz`.
        name: what to call it in an error.

    Raises:
        InputInvalid: it is no source distribution, or its pyproject.toml is broken.
    """
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            content = _pyproject(archive)
        required = content.get("build-system", {}).get("requires", ["setuptools", "wheel"])
        names = [(canonicalize_name(Requirement(line).name), line) for line in required]
    except (tarfile.TarError, OSError, EOFError, ValueError, AttributeError, TypeError, InvalidRequirement) as error:
        raise InputInvalid(f"{name}: not a source distribution: {error}", "ask for another version") from error
    return sorted(line for package, line in names if package not in _FROM_TREE)


def _pyproject(archive: tarfile.TarFile) -> dict[str, Any]:
    """The pyproject.toml in the archive's top folder; empty if there is none."""
    for member in archive:
        if member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
            if not member.isreg() or member.size > _MAX_PYPROJECT_BYTES:
                raise ValueError(f"{member.name}: not a plain file of at most {_MAX_PYPROJECT_BYTES} bytes")
            stream = archive.extractfile(member)
            return tomllib.loads(stream.read().decode()) if stream else {}
    return {}
