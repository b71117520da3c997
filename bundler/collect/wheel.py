"""Python packages: one exact, hashed set for each virtual environment of the appliance.

Locking resolves each environment for the target (`resolution.py`). Wheels are carried as an index gave them;
sources that the manifest allows, and this project itself, are compiled in the target's tree (`compile.py`).
How those were made lies in `sbom/provenance/` (`provenance.py`). `data/wheels/` is one flat folder; beside the wheels
lie requirements in pip's hash-checking mode:

    pip --isolated install --no-index --no-deps --only-binary :all: --require-hashes \\
        --find-links data/wheels -r data/wheels/ENVIRONMENT.txt
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from bundler.bundle.sbom import PROVENANCE_FOLDER
from bundler.collect.cache import Cache
from bundler.collect.compile import build_wheel, wheel_key
from bundler.collect.interface import Item, Workplace
from bundler.collect.provenance import make_provenance
from bundler.collect.resolution import Found, Resolver
from bundler.collect.source import build_requires, project_metadata, project_sha256
from bundler.collect.tree import open_tree, tree_folder
from bundler.manifest.lock import Lock, LockedSource, LockedWheel
from bundler.manifest.models import Manifest, SourceBuild
from custody.errors import DigestMismatch, InputInvalid
from custody.lock import alone
from custody.report import Reporter

#: The environment that holds this project.
CONTROL = "control"
_THREADS = 6


@dataclass(frozen=True)
class LockedPython:
    """What locking the environments gives."""

    wheels: tuple[LockedWheel, ...]
    sources: tuple[LockedSource, ...]


def lock_wheels(manifest: Manifest, cache: Cache, project: Path, reporter: Reporter) -> LockedPython:
    """Resolve every environment, and what building its sources takes; what is found is fetched into the cache.

    Args:
        project: root of this project's source.

    Raises:
        InputInvalid: an environment cannot be resolved, or only with a source that may not be built.
        FetchFailed: an index is not reachable.
        DigestMismatch: a file is not what its index says.
    """
    resolver = Resolver(manifest.target, manifest.wheels.build, cache.scratch)
    metadata = project_metadata(project)
    ours = [*metadata["dependencies"], *metadata["optional-dependencies"]["gateway"]]
    places: dict[Found, list[str]] = defaultdict(list)
    for environment, wanted in sorted({CONTROL: (), **manifest.wheels.environments}.items()):
        reporter.step(f"wheels: resolve {environment}")
        own = ours if environment == CONTROL else []
        for found in resolver.resolve([*own, *wanted], f"environment {environment}"):
            places[found].append(environment)
    wheels = _fetched({found: names for found, names in places.items() if found.is_wheel}, cache)
    sources = [
        _project(metadata, project, resolver, cache),
        *(_sdist(found, names, manifest, resolver, cache) for found, names in places.items() if not found.is_wheel),
    ]
    reporter.note(f"{len(wheels)} wheels, {sum(w.size_bytes for w in wheels) / 1e6:.0f} MB; {len(sources)} to build")
    return LockedPython(wheels, tuple(sorted(sources, key=lambda source: (source.name, source.version))))


def _fetched(places: dict[Found, list[str]], cache: Cache) -> tuple[LockedWheel, ...]:
    """Fetch wheels, which also tells their sizes."""

    def one(found: Found) -> LockedWheel:
        path = cache.obtain(found.origin, found.sha256, f"wheel {found.filename}")
        return LockedWheel(
            name=found.name, version=found.version, filename=found.filename, url=found.origin,
            size_bytes=path.stat().st_size, sha256=found.sha256, environments=tuple(sorted(places[found])),
        )  # fmt: skip

    with ThreadPoolExecutor(_THREADS) as pool:
        return tuple(sorted(pool.map(one, places), key=lambda wheel: (wheel.name, wheel.version)))


def _tools(requirements: Sequence[str], purpose: str, resolver: Resolver, cache: Cache) -> tuple[LockedWheel, ...]:
    found = resolver.resolve(requirements, purpose)
    if sources := [each.name for each in found if not each.is_wheel]:
        raise InputInvalid(
            f"{purpose}: {', '.join(sources)}: a source, though it is needed to build another",
            "take it out of wheels.build in the manifest",
        )
    return _fetched({each: [] for each in found}, cache)


def _project(metadata: dict[str, object], project: Path, resolver: Resolver, cache: Cache) -> LockedSource:
    requires = metadata["build-requires"]
    return LockedSource(
        name=str(metadata["name"]), version=str(metadata["version"]), kind="project", filename="", url="",
        size_bytes=0, sha256=project_sha256(project), flags={},
        build_requires=_tools(list(map(str, requires)), "building this project", resolver, cache),  # type: ignore[call-overload]
        environments=(CONTROL,),
    )  # fmt: skip


def _sdist(
    found: Found, environments: Iterable[str], manifest: Manifest, resolver: Resolver, cache: Cache
) -> LockedSource:
    path = cache.obtain(found.origin, found.sha256, f"source {found.filename}")
    allowed: dict[str, SourceBuild] = {canonicalize_name(name): build for name, build in manifest.wheels.build.items()}
    return LockedSource(
        name=found.name, version=found.version, kind="sdist", filename=found.filename, url=found.origin,
        size_bytes=path.stat().st_size, sha256=found.sha256, flags=allowed[found.name].flags,
        build_requires=_tools(build_requires(path, found.filename), f"building {found.name}", resolver, cache),
        environments=tuple(sorted(environments)),
    )  # fmt: skip


class WheelCollector:
    """Wheels and requirements below `data/wheels/`."""

    name = "wheel"

    def items(self, lock: Lock, workplace: Workplace) -> Iterable[Item]:
        """Every wheel, source and tool; sources and tools have no destination."""
        for wheel in lock.wheels:
            yield _item(f"wheel {wheel.filename}", wheel, f"data/wheels/{wheel.filename}")
        tools: dict[str, LockedWheel] = {}
        for source in lock.sources:
            if source.kind == "sdist":
                yield _item(f"source {source.filename}", source, "")
            tools.update((wheel.sha256, wheel) for wheel in source.build_requires)
        carried = {wheel.sha256 for wheel in lock.wheels}
        for digest in sorted(set(tools) - carried):
            yield _item(f"tool {tools[digest].filename}", tools[digest], "")

    def assemble(self, lock: Lock, workplace: Workplace) -> None:
        """Build the sources, or take them from an earlier build; write their provenance, and the requirements.

        Raises:
            DigestMismatch: this project's files are not those that were locked.
            FetchFailed: a build failed.
            EnvironmentProblem, ProgramMissing: the build tree cannot be made here.
        """
        folder = workplace.staging / "sealed/data/wheels"
        provenance = workplace.staging / "sealed" / PROVENANCE_FOLDER
        for each in (folder, provenance):
            each.mkdir(parents=True, exist_ok=True)
        lines: dict[str, list[str]] = defaultdict(list)
        for wheel in lock.wheels:
            for environment in wheel.environments:
                lines[environment].append(_requirement(wheel.name, wheel.version, wheel.sha256))
        for source in lock.sources:
            filename, digest = _built(source, lock, workplace)
            shutil.copyfile(workplace.cache.path(digest), folder / filename)
            (provenance / f"{filename}.json").write_bytes(make_provenance(source, lock, filename, digest))
            for environment in source.environments:
                lines[environment].append(_requirement(source.name, source.version, digest))
        for environment, entries in lines.items():
            (folder / f"{environment}.txt").write_text("".join(sorted(entries)))


def _item(label: str, thing: LockedWheel | LockedSource, destination: str) -> Item:
    return Item(label, thing.url, destination, thing.size_bytes, thing.sha256)


def _requirement(name: str, version: str, digest: str) -> str:
    return f"{name}=={version} --hash=sha256:{digest}\n"


def to_compile(lock: Lock, cache: Cache) -> list[str]:
    """The sources that no earlier build has left a wheel of, each with its version."""
    missing = [source for source in lock.sources if cache.recall(wheel_key(source, lock.tree_sha256)) is None]
    return [f"{source.name} {source.version}" for source in missing]


def _built(source: LockedSource, lock: Lock, workplace: Workplace) -> tuple[str, str]:
    """File name and digest of a source's wheel; the cache also remembers the name, by a digest of its own."""
    cache, key = workplace.cache, wheel_key(source, lock.tree_sha256)
    if source.kind == "project" and (found := project_sha256(workplace.project)) != source.sha256:
        raise DigestMismatch(
            f"{workplace.project}: this project's files: expected sha256 {source.sha256}, found {found}",
            "they changed since the lock was made: airgap lock MANIFEST",
        )
    # One tree serves all builds of its kind on this machine, one after the other.
    turn = tree_folder(lock, workplace.scratch).with_suffix(".lock")
    with alone(turn, "another build", waiting=workplace.reporter.note):
        if (digest := cache.recall(key)) and (name := cache.recall(_name_key(key))):
            return cache.path(name).read_text(), digest
        tree = open_tree(lock, cache, workplace.scratch, workplace.reporter)
        workplace.reporter.step(f"build: {source.name} {source.version}")
        filename, digest = build_wheel(source, tree, key, cache, workplace.project, workplace.scratch)
        cache.remember(_name_key(key), cache.add(filename.encode()))
        cache.remember(key, digest)
        return filename, digest


def _name_key(key: str) -> str:
    return f"{key}.name"
