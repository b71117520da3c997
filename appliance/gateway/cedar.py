"""Cedar (4.12, through cedarpy): policies that validate against our schema, and their answers.

Stricter than Cedar: every policy has its own name (`@id`), there are no templates, and whatever goes wrong while a
policy is evaluated denies. Cedar itself would pass over a `forbid` that fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.gateway.identity import NAME
from custody.errors import EnvironmentProblem, PolicyRefused

if TYPE_CHECKING:
    import cedarpy

SCHEMA = Path(__file__).parent / "policies/schema.cedarschema"
#: Sets of users and models that are kept parsed; a site has fewer that are at work at one time.
_KEPT = 4096
#: What the audit log has in a policy's place where none decided.
_RESERVED = frozenset({"limits", "guard"})


def _cedar() -> Any:
    try:
        return import_module("cedarpy")
    except ImportError as error:
        raise EnvironmentProblem(
            "cedarpy is not installed: no policy can be read",
            "on an appliance: airgap install; else: pip install cedarpy",
        ) from error


@lru_cache(maxsize=1)
def _schema() -> cedarpy.Schema:
    made: cedarpy.Schema = _cedar().Schema.from_str(SCHEMA.read_text())
    return made


@dataclass(frozen=True)
class Answer:
    """What the policies say.

    Attributes:
        policies: names of those that decided, sorted.
        errors: what went wrong; then `allowed` is False.
    """

    allowed: bool
    policies: tuple[str, ...]
    errors: tuple[str, ...]


class Engine:
    """A validated set of policies, parsed once.

    Attributes:
        effects: policy → permit or forbid.
        trees: policy → its JSON form (Cedar's EST), for those who look into policies.
    """

    def __init__(self, texts: Mapping[str, str], name: str) -> None:
        """Parse and validate.

        Args:
            texts: Cedar text by file name.
            name: of the folder, for errors.

        Raises:
            PolicyRefused: a typo, something that the schema does not know, a policy without a name of its own.
            EnvironmentProblem: no cedarpy.
        """
        cedar = _cedar()
        self.effects: dict[str, str] = {}
        self.trees: dict[str, Any] = {}
        for file, text in texts.items():
            self._add(cedar, text, f"{name}/{file}")
        if not self.effects:
            raise PolicyRefused(f"{name}: has no policy at all, which would deny everything", "write one")
        whole = "\n".join(texts.values())
        self._ids = {policy: tree["annotations"]["id"] for policy, tree in _trees(cedar, whole, name).items()}
        self._set = cedar.PolicySet.from_str(whole)
        self._is_authorized = cedar.is_authorized
        self._entities = lru_cache(maxsize=_KEPT)(_entities)

    def _add(self, cedar: Any, text: str, file: str) -> None:
        judged = cedar.validate_policies(text, _schema())
        if not judged.validation_passed:
            names = judged.id_annotations_by_policy_id
            lines = [f"{file}: {_named(error.error, names)}" for error in judged.errors]
            raise PolicyRefused("\n".join(lines), "the schema is appliance/gateway/policies/schema.cedarschema")
        for policy, tree in _trees(cedar, text, file).items():
            given = tree.get("annotations", {}).get("id")
            if given is None or not NAME.fullmatch(given):
                raise PolicyRefused(
                    f"{file}: {policy}: expected @id with lower-case letters, digits, . _ -; found {given!r}",
                    'write @id("name-of-the-policy") above it',
                )
            if given in _RESERVED:
                raise PolicyRefused(
                    f"{file}: a policy is called {given}, which the audit log says of what no policy decided",
                    "give it another name",
                )
            if given in self.trees:
                raise PolicyRefused(f"{file}: two policies are called {given}", "give each a name of its own")
            self.trees[given], self.effects[given] = tree, tree["effect"]

    def ask(
        self, user: tuple[str, str, frozenset[str]], model: tuple[str, str, int], action: str, context: dict[str, Any]
    ) -> Answer:
        """Decide.

        Args:
            user: name, role, groups.
            model: name, label, bits a weight.
            context: as the schema's Circumstances, in Cedar's JSON.
        """
        request = {
            "principal": {"type": "User", "id": user[0]},
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Model", "id": model[0]},
            "context": context,
        }
        try:
            found = self._is_authorized(request, self._set, self._entities(user, model))
        except (ValueError, TypeError, OverflowError) as error:
            return Answer(False, (), (str(error),))
        reasons = tuple(sorted(self._ids[policy] for policy in found.diagnostics.reasons))
        errors = tuple(_named(error, self._ids) for error in found.diagnostics.errors)
        return Answer(found.allowed and not errors, reasons, errors)


def _trees(cedar: Any, text: str, file: str) -> dict[str, Any]:
    """Every policy's JSON form, under the names that Cedar gave while parsing."""
    content = json.loads(cedar.policies_to_json_str(text))
    if content["templates"] or content["templateLinks"]:
        raise PolicyRefused(f"{file}: has a template, which would decide nothing", "write policies without ?slots")
    trees: dict[str, Any] = content["staticPolicies"]
    return trees


def _named(error: str, names: Mapping[str, str]) -> str:
    """An error with the policy's own name."""
    for policy, name in names.items():
        error = error.replace(f"`{policy}`", f"`{name or policy}`")
    return error


def _entities(user: tuple[str, str, frozenset[str]], model: tuple[str, str, int]) -> cedarpy.Entities:
    (name, role, groups), (model_name, label, bits) = user, model
    parents = [{"type": "Role", "id": role}, *({"type": "Group", "id": group} for group in sorted(groups))]
    content = [
        {"uid": {"type": "User", "id": name}, "attrs": {}, "parents": parents},
        {
            "uid": {"type": "Model", "id": model_name},
            "attrs": {"label": label, "quantization_bits": bits},
            "parents": [],
        },
    ]
    made: cedarpy.Entities = _cedar().Entities.from_json_str(json.dumps(content), _schema())
    return made
