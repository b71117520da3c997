"""Lock: resolve a whole manifest to exact versions, sizes, digests and origins."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from bundler.collect.cache import Cache
from bundler.collect.deb import lock_debs
from bundler.collect.file import lock_files
from bundler.collect.model import lock_models
from bundler.collect.tree import tree_sha256
from bundler.collect.wheel import lock_wheels
from bundler.manifest.lock import Lock, LockedTarget
from bundler.manifest.models import RELEASES, Target, load_manifest
from custody.errors import InputInvalid
from custody.report import Reporter
from custody.trust.description import HostDescription


def resolve(
    manifest_file: Path,
    cache: Cache,
    project: Path,
    reporter: Reporter,
    dpkg_status: Path | None = None,
    host: HostDescription | None = None,
) -> Lock:
    """Resolve a manifest; what has to be looked at for that is kept in the cache.

    Args:
        project: root of this project's source.
        dpkg_status: a host's own, in place of the manifest's.
        host: its own description: dpkg status and kernel, in place of the manifest's.

    Raises:
        InputInvalid: the manifest is broken, asks for what does not exist, or is for another system than the host's.
        FetchFailed: a mirror or index is not reachable.
        IntegrityFailure: something is not what was signed or pinned.
    """
    manifest = load_manifest(manifest_file)
    folder, target = manifest_file.parent, manifest.target
    if host:
        target = _target_of(host, target)
        status = host.dpkg_status.encode()
    else:
        status = _read_status(manifest_file, dpkg_status or folder / target.dpkg_status)
    apt = lock_debs(manifest, status, cache, cache.scratch, reporter)
    python = lock_wheels(manifest, cache, project, reporter)
    reporter.step(f"models and files: {len(manifest.models) + len(manifest.files)}")
    return Lock(
        schema_version=1,
        manifest_sha256=sha256(manifest_file.read_bytes()).hexdigest(),
        bundle=manifest.bundle,
        target=LockedTarget(
            distribution=target.distribution,
            release=target.release,
            architecture=target.architecture,
            python=target.python,
            glibc=RELEASES[target.release]["glibc"],
            kernel=target.kernel,
            driver=apt.gpu.driver if apt.gpu else None,
            dpkg_status_sha256=sha256(status).hexdigest(),
        ),
        gpu=apt.gpu,
        source_date_epoch=apt.epoch,
        tree_sha256=tree_sha256(apt.debs),
        indexes=apt.indexes,
        debs=apt.debs,
        wheels=python.wheels,
        sources=python.sources,
        models=lock_models(manifest, folder, cache),
        files=lock_files(manifest, folder, cache),
    )


def _target_of(host: HostDescription, target: Target) -> Target:
    """The manifest's target with the host's kernel."""
    for field in ("distribution", "release", "architecture", "python"):
        expected, found = getattr(target, field), getattr(host, field)
        if expected != found:
            raise InputInvalid(
                f"host description: expected {field} {expected}, as the manifest's target, found {found}",
                "take this host's manifest, or another host's description",
            )
    return target.model_copy(update={"kernel": host.kernel_series})


def _read_status(manifest_file: Path, status_file: Path) -> bytes:
    try:
        return status_file.read_bytes()
    except OSError as error:
        raise InputInvalid(
            f"{manifest_file}: target.dpkg_status: {status_file}: {error.strerror}",
            "copy /var/lib/dpkg/status from a host, or take one of manifests/baselines",
        ) from error
