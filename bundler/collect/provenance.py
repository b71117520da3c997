"""How a wheel was built: SLSA provenance v1 in an in-toto Statement, in RFC 8785 bytes.

It holds what makes the bytes (`compile.py`) and nothing else: source, flags, tools and tree with their digests, the
fixed epoch, and the versions of the tree's compilers. No clock and no host: who builds the same again writes the same
file. Nobody signs it by itself; it lies in `sealed/`, so the bundle's signers vouch for it.
Formats: https://slsa.dev/spec/v1.0/provenance, https://in-toto.io/Statement/v1; `docs/design/bundle-format.md`.
"""

from __future__ import annotations

import re
from typing import Any

from bundler.bundle.purl import deb_purl, source_purl, wheel_purl
from bundler.collect.compile import FORMAT
from bundler.collect.deb import of_use
from bundler.collect.tree import SOURCE_DATE_EPOCH
from bundler.manifest.lock import Lock, LockedSource
from custody.trust import canonical
from custody.trust.statement import STATEMENT_TYPE

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = f"urn:airgap:wheel:v{FORMAT}"
BUILDER = "urn:airgap:builder:v1"
#: Packages of the tree that turn source into machine code; Debian puts the major version into the name.
_COMPILERS = re.compile(
    r"(?:gcc|g\+\+|clang|rustc|libc6-dev|binutils|cmake|ninja-build|python3|nvidia-cuda-toolkit)(-\d+)?"
)


def make_provenance(source: LockedSource, lock: Lock, filename: str, sha256: str) -> bytes:
    """The provenance of the wheel that a source became.

    Args:
        filename, sha256: of the wheel.
    """
    return canonical.dump(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": filename, "digest": {"sha256": sha256}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "name": source.name,
                        "version": source.version,
                        "kind": source.kind,
                        "source_sha256": source.sha256,
                        "flags": source.flags,
                    },
                    "internalParameters": {
                        "distribution": lock.target.distribution,
                        "release": lock.target.release,
                        "architecture": lock.target.architecture,
                        "python": lock.target.python,
                        "source_date_epoch": SOURCE_DATE_EPOCH,
                        "tree_sha256": lock.tree_sha256,
                    },
                    "resolvedDependencies": _dependencies(source, lock),
                },
                "runDetails": {"builder": {"id": BUILDER, "version": compilers(lock)}},
            },
        }
    )


def compilers(lock: Lock) -> dict[str, str]:
    """Versions of the tree's compilers and linkers by package."""
    return {deb.package: deb.version for deb in of_use(lock.debs, "tree") if _COMPILERS.fullmatch(deb.package)}


def _dependencies(source: LockedSource, lock: Lock) -> list[dict[str, Any]]:
    """The source first, then tools, then the tree's packages, each sorted by name."""
    if source.kind == "project":
        # Not of one file: of the sorted lines `digest  mode  path` of this project's files.
        first = _resource("listing of the project's files", "", source.sha256) | {"mediaType": "text/plain"}
    else:
        first = _resource(source.filename, _uri(source.url, source_purl(source).to_string()), source.sha256)
    tools = sorted(source.build_requires, key=lambda wheel: wheel.filename)
    tree = sorted(of_use(lock.debs, "tree"), key=lambda deb: (deb.package, deb.architecture, deb.version))
    return [
        first,
        *(_resource(w.filename, _uri(w.url, wheel_purl(w).to_string()), w.sha256) for w in tools),
        *(_resource(d.package, deb_purl(d, lock.target).to_string(), d.sha256) for d in tree),
    ]


def _uri(origin: str, purl: str) -> str:
    """Where it came from; a path on the builder says nothing to others."""
    return origin if "://" in origin else purl


def _resource(name: str, uri: str, sha256: str) -> dict[str, Any]:
    resource: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    return {**resource, "uri": uri} if uri else resource
