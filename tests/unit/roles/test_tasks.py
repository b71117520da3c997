"""What no task may do: reach for a collection, a shell or a network, or put logic into the playbook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
OWN = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml")])
KEYWORDS = {
    "name", "when", "loop", "register", "notify", "changed_when", "check_mode", "no_log", "listen", "tags",
}  # fmt: skip
REFUSED = {"ansible.builtin.shell", "ansible.builtin.get_url", "ansible.builtin.uri", "ansible.builtin.apt"}


def tasks(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each task's module and the task."""
    for task in yaml.safe_load(path.read_text()):
        modules = set(task) - KEYWORDS
        assert len(modules) == 1, task
        yield modules.pop(), task


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_builtin_or_ours(path: Path) -> None:
    for module, task in tasks(path):
        assert module.startswith("ansible.builtin.") or module in OWN, task["name"]
        assert module not in REFUSED, task["name"]
        if module == "ansible.builtin.command":
            assert "changed_when" in task, task["name"]
            assert set(task[module]) == {"argv"}, task["name"]


def test_secrets_are_not_logged() -> None:
    for path in FILES:
        for module, task in tasks(path):
            if "_secrets" in str(task.get(module)):
                assert task["no_log"] is True, task["name"]


def test_main_only_includes() -> None:
    for path in ROOT.glob("roles/*/tasks/main.yml"):
        names = [task["ansible.builtin.import_tasks"] for task in yaml.safe_load(path.read_text())]
        assert set(names) <= {"preflight.yml", "install.yml", "configure.yml", "service.yml"}
        assert names[0] == "preflight.yml"


def test_the_playbook_is_an_order_of_roles() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/install.yml").read_text())
    assert set(play) == {"name", "hosts", "gather_facts", "any_errors_fatal", "vars", "roles"}
    assert [(role["role"], role["tags"]) for role in play["roles"]] == [
        ("base", ["stage_a", "base"]),
        ("storage", ["stage_a", "storage"]),
        ("gpu", ["stage_a", "gpu"]),
        ("firewall", ["stage_b", "firewall"]),
        ("network", ["stage_b", "network"]),
        ("engine", ["stage_b", "engine"]),
        ("audit", ["stage_b", "audit"]),
        ("diode", ["stage_b", "diode"]),
        ("gateway", ["stage_b", "gateway"]),
    ]
