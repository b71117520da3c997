"""Every role says in two places what it takes; the two agree, and so does the page of the manual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TYPES: dict[str, type] = {"str": str, "path": str, "int": int, "list": list, "dict": dict, "bool": bool}


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text())


def options(role: str) -> dict[str, Any]:
    """Return the options of a role's argument specification."""
    found: dict[str, Any] = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def is_of(value: Any, option: dict[str, Any]) -> bool:
    """Whether a default is of its option's type, and so are its elements; what a template makes is only known later."""
    if isinstance(value, str) and "{{" in value:
        return True
    if type(value) is not TYPES[option["type"]]:
        return False
    return option["type"] != "list" or all(is_of(element, {"type": option["elements"]}) for element in value)


def test_there_are_roles() -> None:
    assert ROLES == ["audit", "base", "diode", "engine", "firewall", "gateway", "gpu", "network", "storage"]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specification_name_the_same_variables(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults/main.yml")
    assert set(defaults) == set(options(role))
    assert all(name.startswith(f"{role}_") for name in defaults)


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_specification(role: str) -> None:
    for name, value in load(ROOT / "roles" / role / "defaults/main.yml").items():
        option = options(role)[name]
        assert is_of(value, option), f"{name}: expected {option['type']}, found {value!r}"
        if option.get("required"):
            assert value in ("", []), f"{name}: required, so its default says nothing"
        else:
            assert value == option["default"], name


@pytest.mark.parametrize("role", ROLES)
def test_every_default_has_a_comment(role: str) -> None:
    lines = (ROOT / "roles" / role / "defaults/main.yml").read_text().splitlines()
    for name in options(role):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        block = at - 1
        while lines[block].strip() and not lines[block].startswith("#"):
            block -= 1
        assert lines[block].startswith("#"), f"{name} has no comment above it"


@pytest.mark.parametrize("role", ROLES)
def test_the_manual_names_every_variable(role: str) -> None:
    manual = (ROOT / "docs/reference/roles.md").read_text()
    missing = [name for name in options(role) if f"`{name}`" not in manual]
    assert not missing
