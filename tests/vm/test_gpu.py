"""The driver's kernel module is built from a lock's packages, for the lock's kernel; that takes no card."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bundler.collect.build import fetch
from bundler.collect.cache import Cache
from bundler.collect.deb import DebCollector, lock_debs, of_use
from bundler.collect.interface import Workplace
from bundler.manifest.lock import Lock
from bundler.manifest.models import load_manifest
from custody.report import ConsoleReporter
from tests import bundles
from tests.vm.images import image
from tests.vm.path import ROOT, cache_folder
from tests.vm.trees import chroot, copy_in, unpacked

REPORTER = ConsoleReporter()


def locked(cache: Cache) -> Lock:
    """What manifests/gpu.yml takes for its GPU alone, on the host that it describes."""
    file = ROOT / "manifests/gpu.yml"
    manifest = load_manifest(file)
    wanted = manifest.model_copy(
        update={"apt": manifest.apt.model_copy(update={"packages": (), "bootstrap": ()})},
    )
    apt = lock_debs(wanted, (file.parent / manifest.target.dpkg_status).read_bytes(), cache, cache.scratch, REPORTER)
    debs = tuple(of_use(apt.debs, "appliance"))
    return bundles.lock().model_copy(update={"indexes": apt.indexes, "debs": debs, "gpu": apt.gpu})


def archives(lock: Lock, cache: Cache, tree: Path) -> None:
    """Fetch the lock's packages, and lay them and their signed indexes into the tree as a bundle carries them."""
    workplace = Workplace(cache, tree, cache.scratch, ROOT, REPORTER)
    items = list(DebCollector().items(lock, workplace))
    fetch(items, cache, REPORTER)
    for item in items:
        copy_in(tree, f"/srv/{item.destination}", cache.path(item.sha256))
        (tree / "srv" / item.destination).chmod(0o644)
    lines = []
    for index in lock.indexes:
        if found := re.fullmatch(r"dists/([^/]+)/([^/]+)/binary-amd64/Packages.xz", index.path):
            lines.append(f"deb file:/srv/data/apt/{index.archive} {found[1]} {found[2]}\n")
    copy_in(tree, "/etc/apt/sources.list", "".join(lines).encode())


@pytest.mark.nightly
@pytest.mark.root
def test_the_module_is_built_for_the_locked_kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to work in another tree")
    cache, host = Cache(cache_folder()), image("appliance")
    lock = locked(cache)
    assert lock.gpu is not None
    kernel = lock.gpu.kernel
    with unpacked(host.tree) as tree:
        archives(lock, cache, tree)
        names = " ".join(f"{deb.package}={deb.version}" for deb in lock.debs)
        apt = "apt-get -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false"
        install = f"DEBIAN_FRONTEND=noninteractive {apt} install -y --no-install-recommends {names}"
        log = "{ tail -n 25 /var/lib/dkms/*/*/build/make.log >&2; exit 1; }"
        chroot(tree, f"{apt} update && {{ {install} && dkms autoinstall --kernelver {kernel} || {log}; }}")
        ask = f"modinfo --set-version {kernel} --field"
        assert chroot(tree, f"{ask} version nvidia-current-open").strip() == lock.gpu.driver
        for module in ("nvidia-current-open", "nvidia-current-open-uvm"):
            assert chroot(tree, f"{ask} vermagic {module}").startswith(f"{kernel} SMP")
