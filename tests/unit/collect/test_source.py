"""Sources: what building takes, and which of this project's files count."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from bundler.collect.source import PROJECT_PARTS, build_requires, project_files, project_sha256
from custody.errors import InputInvalid

from .conftest import sdist_bytes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for part in PROJECT_PARTS:
        if "." in part or part == "LICENSE":
            (folder / part).parent.mkdir(exist_ok=True)
            (folder / part).write_text(part)
        else:
            (folder / part).mkdir(parents=True)
            (folder / part / "one.py").write_text("1\n")
    return folder


def _sdist(tmp_path: Path, pyproject: str) -> Path:
    file = tmp_path / "thing-1.0.tar.gz"
    file.write_bytes(sdist_bytes("thing", "1.0", pyproject))
    return file


def test_build_requires_leaves_programs_of_the_tree_out(tmp_path: Path) -> None:
    file = _sdist(tmp_path, '[build-system]\nrequires = ["cmake>=3.21", "Ninja", "scikit-build-core>=0.9"]\n')
    assert build_requires(file, "thing") == ["scikit-build-core>=0.9"]


def test_build_requires_without_a_table_is_setuptools(tmp_path: Path) -> None:
    assert build_requires(_sdist(tmp_path, ""), "thing") == ["setuptools", "wheel"]


@pytest.mark.parametrize("text", ["][", "[build-system]\nrequires = 3\n", '[build-system]\nrequires = ["a b c"]\n'])
def test_build_requires_refuses_broken_pyproject(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputInvalid, match="thing"):
        build_requires(_sdist(tmp_path, text), "thing")


def test_build_requires_refuses_what_is_no_archive(tmp_path: Path) -> None:
    file = tmp_path / "thing-1.0.tar.gz"
    file.write_bytes(b"nothing")
    with pytest.raises(InputInvalid):
        build_requires(file, "thing")


def test_build_requires_refuses_linked_pyproject(tmp_path: Path) -> None:
    file = tmp_path / "thing-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        member = tarfile.TarInfo("thing-1.0/pyproject.toml")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member, io.BytesIO())
    with pytest.raises(InputInvalid, match="not a plain file"):
        build_requires(file, "thing")


def test_project_files_pass_over_what_running_leaves_behind(project: Path) -> None:
    before = project_files(project)
    for left in ("bundler/__pycache__/one.pyc", "roles/molecule/default/converge.yml", "custody/__pycache__/x"):
        (project / left).parent.mkdir(parents=True, exist_ok=True)
        (project / left).write_text("x")
    (project / "tests").mkdir()
    assert project_files(project) == before


def test_project_files_refuse_links(project: Path) -> None:
    (project / "roles/link.yml").symlink_to("/etc/passwd")
    with pytest.raises(InputInvalid, match="symbolic link"):
        project_files(project)


def test_project_files_refuse_half_a_project(project: Path) -> None:
    (project / "LICENSE").unlink()
    with pytest.raises(InputInvalid, match="LICENSE"):
        project_files(project)


def test_project_digest_is_over_names_modes_and_bytes_and_not_times(project: Path) -> None:
    first = project_sha256(project)
    os.utime(project / "bundler/one.py", (0, 0))
    (project / "bundler/one.py").chmod(0o600)
    assert project_sha256(project) == first
    (project / "bundler/one.py").chmod(0o755)
    second = project_sha256(project)
    (project / "bundler/one.py").chmod(0o644)
    (project / "bundler/one.py").write_text("2\n")
    assert len({first, second, project_sha256(project)}) == 3
