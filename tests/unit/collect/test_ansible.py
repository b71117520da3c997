"""Playbooks and roles are carried as plain files with plain modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.collect.ansible import PARTS, AnsibleCollector
from bundler.collect.cache import Cache
from bundler.collect.interface import Workplace
from bundler.manifest.lock import Lock
from custody.errors import InputInvalid
from custody.report import SilentReporter


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    project = tmp_path / "project"
    for part in PARTS:
        (project / part / "__pycache__").mkdir(parents=True)
        (project / part / "__pycache__/x.pyc").touch()
        (project / part / "main.yml").write_text("---\n")
        (project / part / "main.yml").chmod(0o600)
    (project / "roles/base/molecule/default").mkdir(parents=True)
    (project / "roles/base/molecule/default/molecule.yml").touch()
    (project / "plugins/run").touch(mode=0o700)
    return Workplace(Cache(tmp_path / "cache"), tmp_path / "staging", tmp_path, project, SilentReporter())


def test_assemble_copies_files_and_normalises_modes(workplace: Workplace) -> None:
    AnsibleCollector().assemble(Lock.model_construct(), workplace)
    folder = workplace.staging / "sealed/data/ansible"
    found = {p.relative_to(folder).as_posix(): oct(p.stat().st_mode & 0o7777) for p in folder.rglob("*") if p.is_file()}
    assert found == {
        "playbooks/main.yml": "0o644",
        "plugins/main.yml": "0o644",
        "plugins/run": "0o755",
        "roles/main.yml": "0o644",
    }


def test_assemble_refuses_link_to_elsewhere(workplace: Workplace) -> None:
    (workplace.project / "roles/secret.yml").symlink_to("/etc/shadow")
    with pytest.raises(InputInvalid, match="link"):
        AnsibleCollector().assemble(Lock.model_construct(), workplace)
