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
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
    }
    documentation, examples = (yaml.safe_load(texts[name]) for name in ("DOCUMENTATION", "EXAMPLES"))
    assert documentation["module"] == module.stem
    assert examples
    source = module.read_text()
    for option in documentation.get("options", {}):
        assert f'"{option}"' in source
