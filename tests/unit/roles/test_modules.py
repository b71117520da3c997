"""What our Ansible modules say of themselves can be read by ansible-doc."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

MODULES = sorted((Path(__file__).parents[3] / "plugins/modules").glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_documentation_is_yaml_and_names_every_option(module: Path) -> None:
    texts = {
        node.targets[0].id: yaml.safe_load(ast.literal_eval(node.value))
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    }
    assert texts["DOCUMENTATION"]["module"] == module.stem
    assert texts["EXAMPLES"]
    source = module.read_text()
    for option in texts["DOCUMENTATION"].get("options", {}):
        assert f'"{option}"' in source
