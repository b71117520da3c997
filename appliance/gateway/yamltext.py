"""YAML as policy folders use it: plain mappings and lists, every key once; no tags, anchors or aliases.

Then a strict pydantic model: no unknown field, no silent conversion.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from custody.errors import PolicyRefused

#: Deeper than any of these files goes; the parser recurses.
_MAX_DEPTH = 16


class Strict(BaseModel):
    """Base of what is read: frozen, no unknown field, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _at(key, "expected a plain word as key")
            if key.value in seen:
                raise _at(key, f"{key.value!r} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _at(where: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def load(text: str, model: type[Model], name: str) -> Model:
    """Read YAML text into a model.

    Raises:
        PolicyRefused: not such YAML, or not what the model asks for; names line or field.
    """
    hint = "see docs/reference/people-and-policy.md"
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise _at(event, "anchors, aliases and tags are refused")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise _at(event, "too deep")
        # _Loader is a SafeLoader.
        content = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PolicyRefused(f"{name}{line}: {error.problem}", hint) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PolicyRefused(f"{name}: not YAML: {error}", hint) from error
    try:
        # Through JSON rules, which take a list for a tuple and convert nothing else.
        return model.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [
            f"{name}: {'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise PolicyRefused("\n".join(lines), hint) from error
