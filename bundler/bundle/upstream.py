"""What upstream proved, re-checked from a bundle alone and without a network.

Packages: the distribution's signature over `InRelease`, from it to each index, from there to every package. Wheels of
an index: the digest that the index gave when the lock was made, in the lock and in every environment's requirements.
Wheels built here: their provenance names these bytes and the lock's source. Models: the lock's digest; whether their
makers signed them is not judged, because no such signature is carried.

The bundle's own signatures come first: only a `VerifiedBundle` is looked at, after its bytes were read. The age of an
`InRelease` is told and not judged: a vault's copy is older than any Valid-Until.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from bundler.bundle.distribution import Release, parse_packages, parse_release, split_release
from bundler.bundle.openpgp import signers
from bundler.bundle.read import read_lock
from bundler.manifest.lock import Lock, LockedSource
from custody.errors import IntegrityFailure
from custody.trust import canonical
from custody.trust.statement import Entry
from custody.trust.verify import VerifiedBundle

_APT, _WHEELS, _MODELS, _PROVENANCE = "data/apt/", "data/wheels/", "data/models/", "sbom/provenance/"
#: trixie's main has 10 MB, packed.
_MAX_INDEX_BYTES = 1 << 28
_MAX_PROVENANCE_BYTES = 16 << 20
_REQUIREMENT = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")
#: Name, version and digest of what an environment installs.
_Installed = tuple[str, str, str]


class Verdict(StrEnum):
    """Of one proof."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Proof:
    """One thing that upstream vouches for, or several of a kind; `found` says why."""

    what: str
    verdict: Verdict
    found: str


def check_upstream(bundle: VerifiedBundle, keyring: Path) -> tuple[Proof, ...]:
    """Re-check everything that upstream vouches for; what is refused has a proof of its own.

    Args:
        keyring: keys that may sign the distribution's archives.

    Raises:
        EnvironmentProblem: no keyring, or no program that judges its signatures.
    """
    lock = read_lock(bundle)
    carried = {f"{_APT}{deb.archive}/{deb.path}" for deb in lock.debs if deb.uses != ("tree",)}
    archives = sorted({path.split("/")[2] for path in {*carried, *(entry.path for entry in bundle.entries(_APT))}})
    built = dict(_built(bundle, lock))
    return (
        *(proof for archive in archives for proof in _archive(bundle, archive, carried, keyring)),
        *_wheels(bundle, lock, built),
        *_environments(bundle, lock, built),
        *_models(bundle, lock),
    )


def _archive(bundle: VerifiedBundle, archive: str, carried: set[str], keyring: Path) -> Iterator[Proof]:
    """From each suite's signature down to every package of an archive; `carried` is what the lock wants."""
    base = f"{_APT}{archive}/"
    entries = {entry.path.removeprefix(base): entry for entry in bundle.entries(base)}
    listed: dict[str, set[tuple[str, int]]] = defaultdict(set)
    covered: set[str] = set()
    for path in [path for path in entries if re.fullmatch(r"dists/.+/InRelease", path)]:
        suite = path.removesuffix("InRelease")
        covered.update(name for name in entries if name.startswith(suite))
        label = f"{archive} {suite.removeprefix('dists/').rstrip('/')}"
        try:
            data = bundle.read(base + path)
            by = signers(split_release(data, f"{label} InRelease"), keyring, f"{label} InRelease")
            release = parse_release(data, f"{label} InRelease")
        except IntegrityFailure as error:
            yield Proof(f"{label} InRelease", Verdict.REFUSED, error.message)
            continue
        keys = ", ".join(fingerprint[-16:] for fingerprint in by)
        yield Proof(f"{label} InRelease", Verdict.ACCEPTED, f"of {release.date:%Y-%m-%d}, signed by {keys}")
        for index in sorted(covered - {path}):
            if index.startswith(suite):
                yield _index(bundle, base + index, index.removeprefix(suite), label, release, listed)
    loose = [Proof(f"{archive} {path}", Verdict.REFUSED, "no InRelease covers it")
             for path in entries if path.startswith("dists/") and path not in covered]  # fmt: skip
    packages = {path: entry for path, entry in entries.items() if not path.startswith("dists/")}
    wrong = [
        Proof(f"{archive} {path}", Verdict.REFUSED, _compared(entry, listed[path], "no believed index lists it"))
        for path, entry in packages.items()
        if (entry.sha256, entry.size_bytes) not in listed[path]
    ]
    missing = [
        Proof(f"{archive} {path.removeprefix(base)}", Verdict.REFUSED, "missing")
        for path in sorted(carried)
        if path.startswith(base) and path.removeprefix(base) not in packages
    ]
    yield from (*loose, *wrong, *missing)
    yield from _rest(f"{archive}: packages", len(packages) - len(wrong), "each as a signed index lists it")


def _index(
    bundle: VerifiedBundle, path: str, name: str, label: str, release: Release, listed: dict[str, set[tuple[str, int]]]
) -> Proof:
    """An index against its `InRelease`; what it lists is believed from here on."""
    what = f"{label} {name}"
    try:
        data = bundle.read(path, _MAX_INDEX_BYTES)
        release.check(name, data, label)
        packages = list(parse_packages(data, what))
    except IntegrityFailure as error:
        return Proof(what, Verdict.REFUSED, error.message)
    for package in packages:
        listed[package.path].add((package.sha256, package.size_bytes))
    return Proof(what, Verdict.ACCEPTED, f"as InRelease names it, {len(packages)} packages")


def _wheels(bundle: VerifiedBundle, lock: Lock, built: dict[str, LockedSource]) -> Iterator[Proof]:
    locked = {f"{_WHEELS}{wheel.filename}": {(wheel.sha256, wheel.size_bytes)} for wheel in lock.wheels}
    there = {entry.path: entry for entry in bundle.entries(_WHEELS) if entry.path.endswith(".whl")}
    wrong = [
        Proof(
            _name(path),
            Verdict.REFUSED,
            _compared(entry, locked.get(path), "neither locked nor built from its sources"),
        )
        for path, entry in there.items()
        if path not in built and (entry.sha256, entry.size_bytes) not in locked.get(path, ())
    ]
    missing = [Proof(_name(path), Verdict.REFUSED, "missing") for path in locked.keys() - there.keys()]
    unmade = [source for source in lock.sources if source not in built.values()]
    lacking = [Proof(f"{s.name} {s.version}", Verdict.REFUSED, "built here, but no provenance fits") for s in unmade]
    yield from sorted((*wrong, *missing, *lacking), key=lambda proof: proof.what)
    from_index = len(there) - len(built) - len(wrong)
    yield from _rest("wheels of an index", from_index, "each as its index gave it when the lock was made")
    yield from _rest("wheels built here", len(built), "each with the provenance of these bytes, from the lock's source")


def _built(bundle: VerifiedBundle, lock: Lock) -> Iterator[tuple[str, LockedSource]]:
    """Wheels whose provenance names their bytes and a source of the lock, by path."""
    sources = {(source.name, source.version, source.sha256): source for source in lock.sources}
    wheels = {entry.path: entry for entry in bundle.entries(_WHEELS)}
    for entry in bundle.entries(_PROVENANCE):
        path = f"{_WHEELS}{_name(entry.path).removesuffix('.json')}"
        try:
            data = bundle.read(entry.path, _MAX_PROVENANCE_BYTES)
            content = canonical.parse(data, entry.path, _MAX_PROVENANCE_BYTES)
            (subject,) = content["subject"]
            build = content["predicate"]["buildDefinition"]
            asked, source = build["externalParameters"], build["resolvedDependencies"][0]
            found = sources[asked["name"], asked["version"], source["digest"]["sha256"]]
            names = (subject["name"], subject["digest"]["sha256"])
        except (IntegrityFailure, LookupError, TypeError, ValueError):
            continue  # the wheel is then refused by name
        if path in wheels and names == (_name(path), wheels[path].sha256):
            yield path, found


def _environments(bundle: VerifiedBundle, lock: Lock, built: dict[str, LockedSource]) -> Iterator[Proof]:
    """Every environment's requirements name what the lock has for it, by hash, and nothing else."""
    wanted: dict[str, set[_Installed]] = defaultdict(set)
    for wheel in lock.wheels:
        for environment in wheel.environments:
            wanted[environment].add((wheel.name, wheel.version, wheel.sha256))
    for path, source in built.items():
        for environment in source.environments:
            wanted[environment].add((source.name, source.version, bundle.entry(path).sha256))
    there = {_name(e.path).removesuffix(".txt"): e for e in bundle.entries(_WHEELS) if e.path.endswith(".txt")}
    for environment in sorted(wanted.keys() | there.keys()):
        what = f"environment {environment}"
        if environment not in there:
            yield Proof(what, Verdict.REFUSED, "its requirements are missing")
            continue
        found = {
            _requirement(line) for line in bundle.read(there[environment].path).decode(errors="replace").splitlines()
        }
        differing = sorted({each[0] if each else "a line of another form" for each in found ^ wanted[environment]})
        if differing:
            yield Proof(what, Verdict.REFUSED, f"other than the lock: {', '.join(differing)}")
        else:
            yield Proof(what, Verdict.ACCEPTED, f"{len(found)} requirements, each with the lock's hash")


def _requirement(line: str) -> _Installed | None:
    match = _REQUIREMENT.fullmatch(line)
    return (match[1], match[2], match[3]) if match else None


def _models(bundle: VerifiedBundle, lock: Lock) -> Iterator[Proof]:
    locked = {f"{_MODELS}{model.filename}": {(model.sha256, model.size_bytes)} for model in lock.models}
    models = bundle.entries(_MODELS)
    wrong = [
        Proof(_name(entry.path), Verdict.REFUSED, _compared(entry, locked.get(entry.path), "not in the lock"))
        for entry in models
        if (entry.sha256, entry.size_bytes) not in locked.get(entry.path, ())
    ]
    yield from wrong
    if right := len(models) - len(wrong):
        found = "the bytes that the manifest pinned; no signature of their makers is carried"
        yield Proof(f"models: {right}", Verdict.NOT_JUDGED, found)


def _rest(what: str, count: int, found: str) -> Iterator[Proof]:
    """One proof for all of a kind that stand."""
    if count:
        yield Proof(f"{what}: {count}", Verdict.ACCEPTED, found)


def _compared(entry: Entry, expected: Iterable[tuple[str, int]] | None, unknown: str) -> str:
    if not expected:
        return unknown
    wanted = " or ".join(f"sha256 {sha256} ({size} bytes)" for sha256, size in sorted(expected))
    return f"expected {wanted}, found sha256 {entry.sha256} ({entry.size_bytes} bytes)"


def _name(path: str) -> str:
    return PurePosixPath(path).name
