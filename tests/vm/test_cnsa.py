"""The whole path under profile cnsa: two kinds of signature of everybody, SHA-384 throughout, up to an answer."""

from __future__ import annotations

import pytest

from bundler.manifest.lock import load_lock, save_lock
from tests.vm import path


@pytest.mark.nightly
def test_from_keys_to_an_answer(bundled: path.Walk) -> None:
    work = bundled.work / "cnsa"
    work.mkdir(exist_ok=True)
    walk = path.Walk(work, work / "demo-1", schemes=("p384", "ml-dsa-87"), watched=False)
    lock = load_lock(bundled.work / "demo.lock.json")
    save_lock(
        lock.model_copy(update={"bundle": lock.bundle.model_copy(update={"digest": "sha384"})}), work / "lock.json"
    )
    if not walk.bundle.exists():
        path.airgap(walk, "build", "build", work / "lock.json", walk.bundle, "--cache", path.cache_folder())
    path.sign(walk)
    assert (walk.bundle / "sealed/SHA384SUMS").exists()
    assert len(list((walk.bundle / "carrier/sig").iterdir())) == 2 * len(walk.schemes)
    medium = path.burn(walk)
    with path.appliance(walk) as machine:
        path.install(walk, machine, medium)
        first = path.ask(walk, machine)
        path.reboot_and_unlock(walk, machine)
        assert path.ask(walk, machine) == first
        assert "network" in first.lower()
        assert machine.run("airgap status").rc == 0
        assert path.default_routes(machine) == ""
