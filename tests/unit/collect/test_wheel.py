"""Environments: what a lock says of them, and requirements that pip holds to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundler.collect.cache import Cache
from bundler.collect.compile import wheel_key
from bundler.collect.interface import Workplace
from bundler.collect.source import PROJECT_PARTS
from bundler.collect.wheel import WheelCollector, lock_wheels
from bundler.manifest.lock import Lock
from custody.errors import DigestMismatch, InputInvalid
from custody.report import SilentReporter
from tests import bundles

from .conftest import Index, manifest, sdist_bytes, wheel_bytes

PYPROJECT = """[build-system]
requires = ["backend"]
build-backend = "backend"
[project]
name = "airgap"
version = "0.1.0"
dependencies = ["plain>=1"]
[project.optional-dependencies]
gateway = ["gate"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for part in PROJECT_PARTS:
        (folder / part).parent.mkdir(exist_ok=True)
        if "." in part or part == "LICENSE":
            (folder / part).write_text(PYPROJECT)
        else:
            (folder / part).mkdir(parents=True)
    return folder


@pytest.fixture
def lock(tmp_path: Path, project: Path, index: Index) -> Lock:
    """Two environments that share a wheel; one has a source to build."""
    for name in ("plain", "backend", "gate"):
        index.add(name, f"{name}-1.0-py3-none-any.whl", wheel_bytes(name, "1.0"))
    backend = '[build-system]\nrequires = ["backend", "cmake"]\nbuild-backend = "backend"\n'
    index.add("engine-thing", "engine_thing-2.0.tar.gz", sdist_bytes("engine-thing", "2.0", backend, ("plain",)))
    flags = {"flags": {"CMAKE_ARGS": "-DX=ON"}}
    wanted = manifest(["first"], {"control": [], "engine": ["engine-thing"]}, **{"engine-thing": flags})
    python = lock_wheels(wanted, Cache(tmp_path / "cache"), project, SilentReporter())
    return bundles.lock().model_copy(update={"wheels": python.wheels, "sources": python.sources})


@pytest.fixture
def workplace(tmp_path: Path, project: Path, lock: Lock) -> Workplace:
    """A builder that has built both sources before, so that no tree is needed."""
    cache = Cache(tmp_path / "cache")
    for source in lock.sources:
        key, data = wheel_key(source, lock.tree_sha256), wheel_bytes(source.name, source.version)
        filename = f"{source.name.replace('-', '_')}-{source.version}-py3-none-any.whl"
        cache.remember(key, cache.add(data))
        cache.remember(f"{key}.name", cache.add(filename.encode()))
    return Workplace(cache, tmp_path / "staging", cache.scratch, project, SilentReporter())


def test_lock_shares_wheels_and_adds_the_project_to_control(lock: Lock) -> None:
    assert [(w.name, w.environments) for w in lock.wheels] == [
        ("gate", ("control",)), ("plain", ("control", "engine")),
    ]  # fmt: skip
    project, thing = lock.sources
    assert (project.name, project.kind, project.environments, project.filename) == (
        "airgap", "project", ("control",), "",
    )  # fmt: skip
    assert (thing.name, thing.kind, thing.environments) == ("engine-thing", "sdist", ("engine",))
    assert thing.flags == {"CMAKE_ARGS": "-DX=ON"}
    assert [tool.name for tool in thing.build_requires] == ["backend"]
    assert lock.wheels[1].size_bytes == len(wheel_bytes("plain", "1.0"))


def test_items_give_no_destination_to_sources_and_tools(lock: Lock, workplace: Workplace) -> None:
    found = {item.name: item.destination for item in WheelCollector().items(lock, workplace)}
    assert found == {
        "wheel gate-1.0-py3-none-any.whl": "data/wheels/gate-1.0-py3-none-any.whl",
        "wheel plain-1.0-py3-none-any.whl": "data/wheels/plain-1.0-py3-none-any.whl",
        "source engine_thing-2.0.tar.gz": "",
        "tool backend-1.0-py3-none-any.whl": "",
    }


def _assembled(lock: Lock, workplace: Workplace) -> Path:
    folder = workplace.staging / "sealed/data/wheels"
    folder.mkdir(parents=True)
    for wheel in lock.wheels:
        (folder / wheel.filename).write_bytes(workplace.cache.path(wheel.sha256).read_bytes())
    WheelCollector().assemble(lock, workplace)
    return folder


def _pip(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--only-binary", ":all:",
        "--require-hashes", "--find-links", folder, "--target", target, "-r", folder / "engine.txt",
    ]  # fmt: skip
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env={"PATH": "/bin"})


def test_assembled_environment_installs_with_hashes_alone(lock: Lock, workplace: Workplace, tmp_path: Path) -> None:
    folder = _assembled(lock, workplace)
    provenance = workplace.staging / "sealed/sbom/provenance"
    assert {path.name for path in provenance.iterdir()} == {
        "airgap-0.1.0-py3-none-any.whl.json", "engine_thing-2.0-py3-none-any.whl.json",
    }  # fmt: skip
    assert [line.split()[0] for line in (folder / "control.txt").read_text().splitlines()] == [
        "airgap==0.1.0",
        "gate==1.0",
        "plain==1.0",
    ]
    done = _pip(folder, tmp_path / "target")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target/engine_thing.py").exists()


def test_pip_refuses_tampered_wheel(lock: Lock, workplace: Workplace, tmp_path: Path) -> None:
    folder = _assembled(lock, workplace)
    wheel = next(folder.glob("plain-*.whl"))
    wheel.write_bytes(wheel_bytes("plain", "1.0", requires=("evil",)))
    done = _pip(folder, tmp_path / "target")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_assemble_refuses_project_that_changed_since_the_lock(lock: Lock, workplace: Workplace) -> None:
    (workplace.project / "bundler/new.py").write_text("import evil\n")
    with pytest.raises(DigestMismatch, match=r"since the lock|expected sha256"):
        _assembled(lock, workplace)


def test_lock_refuses_tool_that_would_itself_be_built(index: Index, project: Path, tmp_path: Path) -> None:
    for name in ("plain", "gate"):
        index.add(name, f"{name}-1.0-py3-none-any.whl", wheel_bytes(name, "1.0"))
    index.add("backend", "backend-1.0.tar.gz", sdist_bytes("backend", "1.0", ""))
    with pytest.raises(InputInvalid, match="backend"):
        lock_wheels(manifest(["first"], None, backend={}), Cache(tmp_path / "cache"), project, SilentReporter())
