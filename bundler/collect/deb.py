"""Distribution packages: solved by apt for the target, tied to what the distribution signed.

Locking asks an isolated apt (`apt.py`) for three closures: what the appliance installs and what `start` needs,
both onto the manifest's dpkg status, and the build tree onto nothing. Every package's digest comes from an index
that a verified `InRelease` names; both travel in the bundle, so that the target's own apt checks them again.

A lock names an archive and a path in it. Which mirror that is, the builder's apt configuration says at build time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bundler.bundle.distribution import KEYRING, Listed, parse_packages, parse_release
from bundler.collect.apt import Apt, Choice, Source
from bundler.collect.cache import Cache
from bundler.collect.gpu import gpu_packages, installed, lock_gpu
from bundler.collect.interface import Item, Workplace
from bundler.collect.mirror import builder_mirrors
from bundler.manifest.gpu import Gpu, LockedGpu
from bundler.manifest.lock import Lock, LockedDeb, LockedIndex
from bundler.manifest.models import ArchiveName, Manifest
from custody.errors import DigestMismatch, EnvironmentProblem
from custody.report import Reporter

Use = Literal["appliance", "bootstrap", "tree"]
_Key = tuple[str, str, str]
_CHECKED: tuple[Use, ...] = ("appliance", "tree")


@dataclass(frozen=True)
class LockedApt:
    """What locking the packages gives; `epoch` is the newest InRelease's Date, in seconds since 1970."""

    indexes: tuple[LockedIndex, ...]
    debs: tuple[LockedDeb, ...]
    epoch: int
    gpu: LockedGpu | None


@dataclass
class _Signed:
    """Everything that the archives list and signed."""

    indexes: dict[tuple[str, str], LockedIndex] = field(default_factory=dict)
    packages: dict[_Key, list[tuple[ArchiveName, Listed]]] = field(default_factory=dict)
    essential: set[str] = field(default_factory=set)
    epoch: int = 0


def lock_debs(
    manifest: Manifest, status: bytes, cache: Cache, scratch: Path, reporter: Reporter, keyring: Path = KEYRING
) -> LockedApt:
    """Resolve the manifest's packages; keeps the signed indexes in the cache.

    Args:
        status: the target's dpkg status file.
        scratch: folder for the isolated apt, which is removed again.
        keyring: keys that may sign the archives.

    Raises:
        IntegrityFailure: a signature, date or digest does not stand.
        InputInvalid: the packages cannot be installed on the target, or do not fit its GPU.
        FetchFailed: a mirror is not reachable.
    """
    mirrors = builder_mirrors()
    sources = [
        Source(archive.name, mirrors[archive.name].rstrip("/"), suite, archive.components)
        for archive in manifest.apt.archives
        for suite in archive.suites
    ]
    if not keyring.is_file():
        raise EnvironmentProblem(f"{keyring}: no such keyring", "install the package debian-archive-keyring")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=scratch) as folder:
        Path(folder).chmod(0o755)  # apt fetches as its own user
        apt = Apt(Path(folder), manifest.target.architecture, sources, keyring)
        reporter.step(f"packages: the indexes of {len(sources)} suites")
        apt.update()
        signed = _read(apt, manifest.target.architecture, cache)
        wheels = manifest.wheels
        tree = {"apt", *signed.essential, *wheels.build_packages}
        tree.update(package for build in wheels.build.values() for package in build.packages)
        gpu = gpu_packages(manifest.gpu) if manifest.gpu else ()
        wanted: tuple[tuple[Use, Iterable[str], bytes], ...] = (
            ("appliance", {*manifest.apt.packages, *manifest.apt.bootstrap, *gpu}, status),
            ("bootstrap", manifest.apt.bootstrap, status),
            ("tree", tree, b""),
        )
        uses: dict[LockedDeb, list[Use]] = {}
        for use, names, host in wanted:
            if not (packages := sorted(set(names))):
                continue
            closure = apt.closure(packages, host)
            reporter.note(f"{use}: {len(closure)} packages, {sum(c.size_bytes for c in closure) / 1e6:.0f} MB")
            for choice in closure:
                uses.setdefault(_locked(choice, signed), []).append(use)
    debs = [deb.model_copy(update={"uses": tuple(use)}) for deb, use in uses.items()]
    return LockedApt(
        tuple(signed.indexes[key] for key in sorted(signed.indexes)),
        tuple(sorted(debs, key=lambda d: (d.package, d.architecture, d.version))),
        signed.epoch,
        _gpu(manifest.gpu, debs, manifest.target.architecture, status, signed) if manifest.gpu else None,
    )


def _gpu(gpu: Gpu, debs: Sequence[LockedDeb], architecture: str, status: bytes, signed: _Signed) -> LockedGpu:
    """Check what was solved for the GPU against the host that it comes to."""
    versions = {use: {deb.package: deb.version for deb in of_use(debs, use)} for use in _CHECKED}
    host = installed(status) | versions["appliance"]
    entries = signed.packages.get(("libcuda1", host.get("libcuda1", ""), architecture), [])
    return lock_gpu(gpu, host, versions["tree"], "".join(listed.provides for _, listed in entries))


def _read(apt: Apt, architecture: str, cache: Cache) -> _Signed:
    """Tie every index to its InRelease and list the packages, by name, version and architecture."""
    signed = _Signed()
    for source, component, release_file, packages_file in apt.lists():
        label = f"{source.archive} {source.suite}"
        data = release_file.read_bytes()
        release = parse_release(data, f"{label} InRelease")
        signed.epoch = max(signed.epoch, int(release.date.timestamp()))
        _keep(signed, source.archive, f"dists/{source.suite}/InRelease", data, cache)
        path = f"{component}/binary-{architecture}/Packages.xz"
        data = packages_file.read_bytes()
        release.check(path, data, label)
        _keep(signed, source.archive, f"dists/{source.suite}/{path}", data, cache)
        for listed in parse_packages(data, f"{label} {path}"):
            key = (listed.package, listed.version, listed.architecture)
            signed.packages.setdefault(key, []).append((source.archive, listed))
            if listed.essential:
                signed.essential.add(listed.package)
    return signed


def _keep(signed: _Signed, archive: ArchiveName, path: str, data: bytes, cache: Cache) -> None:
    digest = cache.add(data)
    signed.indexes[archive, path] = LockedIndex(archive=archive, path=path, size_bytes=len(data), sha256=digest)


def _locked(choice: Choice, signed: _Signed) -> LockedDeb:
    """The index entry that apt chose; two archives may list one package, so address and size must agree too."""
    entries = signed.packages.get((choice.package, choice.version, choice.architecture), [])
    for archive, listed in entries:
        if choice.path.endswith("/" + listed.path) and choice.size_bytes == listed.size_bytes:
            return LockedDeb(
                package=listed.package, version=listed.version, architecture=listed.architecture,
                archive=archive, path=listed.path, size_bytes=listed.size_bytes, sha256=listed.sha256, uses=(),
            )  # fmt: skip
    raise DigestMismatch(
        f"{choice.package} {choice.version}: apt chose {choice.path}, which no signed index lists",
        "a mirror in the middle of an update does this: wait, then lock again",
    )


def of_use(debs: Sequence[LockedDeb], use: Use) -> list[LockedDeb]:
    """The packages that serve one use, in the lock's order."""
    return [deb for deb in debs if use in deb.uses]


class DebCollector:
    """Packages and indexes, below `data/apt/<archive>/` as they lie in the archive."""

    name = "deb"

    def items(self, lock: Lock, workplace: Workplace) -> Iterable[Item]:
        """Every index and package; those of the build tree alone have no destination."""
        mirrors = builder_mirrors()
        for index in lock.indexes:
            label = f"index {index.archive} {index.path}"
            destination = f"data/apt/{index.archive}/{index.path}"
            origin = f"{mirrors[index.archive]}/{index.path}"
            yield Item(label, origin, destination, index.size_bytes, index.sha256)
        for deb in lock.debs:
            destination = "" if deb.uses == ("tree",) else f"data/apt/{deb.archive}/{deb.path}"
            label, origin = f"deb {deb.package} {deb.version}", f"{mirrors[deb.archive]}/{deb.path}"
            yield Item(label, origin, destination, deb.size_bytes, deb.sha256)

    def assemble(self, lock: Lock, workplace: Workplace) -> None:
        """Nothing: packages and indexes are carried as they came."""
