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
from bundler.manifest.models import RELEASES, load_manifest
from custody.errors import InputInvalid
from custody.report import Reporter


def resolve(
    manifest_file: Path, cache: Cache, project: Path, reporter: Reporter, dpkg_status: Path | None = None
) -> Lock:
    """Resolve a manifest; what has to be looked at for that is kept in the cache.

    Args:
        project: root of this project's source.
        dpkg_status: a host's own, in place of the manifest's.

    Raises:
        InputInvalid: the manifest is broken, or asks for what does not exist.
        FetchFailed: a mirror or index is not reachable.
        IntegrityFailure: something is not what was signed or pinned.
    """
    manifest = load_manifest(manifest_file)
    folder, target = manifest_file.parent, manifest.target
    status_file = dpkg_status or folder / target.dpkg_status
    try:
        status = status_file.read_bytes()
    except OSError as error:
        raise InputInvalid(
            f"{manifest_file}: target.dpkg_status: {status_file}: {error.strerror}",
            "copy /var/lib/dpkg/status from a host, or take one of manifests/baselines",
        ) from error
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
            driver=target.driver,
            dpkg_status_sha256=sha256(status).hexdigest(),
        ),
        source_date_epoch=apt.epoch,
        tree_sha256=tree_sha256(apt.debs),
        indexes=apt.indexes,
        debs=apt.debs,
        wheels=python.wheels,
        sources=python.sources,
        models=lock_models(manifest, folder, cache),
        files=lock_files(manifest, folder, cache),
    )
