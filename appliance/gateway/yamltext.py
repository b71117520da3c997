"""YAML as policy folders use it: plain mappings and lists, every key once; no tags, anchors or aliases.

Then a strict pydantic model: no unknown field, no silent conversion.
"""

from __future__ import annotations

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
                raise yaml.MarkedYAMLError(problem="expected a plain word as key", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


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
                raise yaml.MarkedYAMLError(
                    problem="anchors, aliases and tags are refused", problem_mark=event.start_mark
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise yaml.MarkedYAMLError(problem="too deep", problem_mark=event.start_mark)
        # _Loader is a SafeLoader.
        content = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PolicyRefused(f"{name}{line}: {error.problem}", hint) from error
    except (yaml.YAMLError, ValueError) as error:
        raise PolicyRefused(f"{name}: not YAML: {error}", hint) from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{name}: {'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise PolicyRefused("\n".join(lines), hint) from error
