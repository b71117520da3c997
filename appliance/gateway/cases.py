"""Questions with the answers that they must get: a policy folder's own tests, `cases.yml`."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from appliance.gateway import yamltext
from appliance.gateway.folder import Content
from appliance.gateway.identity import Identity, Limits
from appliance.gateway.policy import Decision, Model, Policies
from appliance.gateway.settings import Name
from custody.errors import PolicyRefused

_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}$"


class CaseUser(yamltext.Strict):
    """Who asks."""

    name: Name = "somebody"
    role: Name
    groups: Annotated[tuple[Name, ...], Field(max_length=64)] = ()


class CaseModel(yamltext.Strict):
    """What is asked."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "a-model"
    label: Name
    quantization_bits: Annotated[int, Field(ge=1, le=64)] = 16


class Case(yamltext.Strict):
    """A question and its answer.

    Attributes:
        at: local time, in the zone of settings.yml.
        policies: names of those that must decide; empty: any.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    user: CaseUser
    model: CaseModel
    action: Literal["chat", "complete", "embed", "list"]
    client_ip: str = "192.0.2.1"
    purpose: str = ""
    at: Annotated[str, StringConstraints(pattern=_TIME)] = "2026-11-20T12:00"
    expect: Literal["allow", "deny"]
    policies: Annotated[tuple[Name, ...], Field(max_length=64)] = ()


class Cases(yamltext.Strict):
    """`cases.yml`."""

    schema_version: Literal[1]
    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True)
class Tried:
    """A case and what was decided."""

    case: Case
    decision: Decision

    @property
    def is_as_expected(self) -> bool:
        """Whether the answer is the one that the case wants."""
        same = self.decision.allowed == (self.case.expect == "allow")
        return same and (not self.case.policies or sorted(self.case.policies) == self.decision.policy_id.split(","))


def read_cases(text: str, name: str) -> Cases:
    """Read cases.

    Raises:
        PolicyRefused: not such a file.
    """
    return yamltext.load(text, Cases, name)


def try_cases(policies: Policies, cases: Cases) -> list[Tried]:
    """Ask every question.

    Raises:
        PolicyRefused: a time that there is not.
    """
    return [Tried(case, _decide(policies, case)) for case in cases.cases]


def require_own_cases(policies: Policies, content: Content) -> int:
    """Hold a folder to its own cases.

    Returns:
        How many there are.

    Raises:
        PolicyRefused: one is answered otherwise.
    """
    if "cases.yml" not in content.files:
        return 0
    name = f"{content.name}/cases.yml"
    tried = try_cases(policies, read_cases(content.text("cases.yml"), name))
    if wrong := [each for each in tried if not each.is_as_expected]:
        lines = [f"{name}: {each.case.name}: expected {each.case.expect}, found {tell(each)}" for each in wrong]
        raise PolicyRefused("\n".join(lines), "mend the policy or the case")
    return len(tried)


def tell(tried: Tried) -> str:
    """What was decided, in words."""
    return f"{'allow' if tried.decision.allowed else 'deny'}: {tried.decision.reason}"


def _decide(policies: Policies, case: Case) -> Decision:
    try:
        at = datetime.datetime.fromisoformat(case.at).replace(tzinfo=policies.zone).timestamp()
    except (ValueError, OverflowError) as error:
        raise PolicyRefused(f"case {case.name}: at: {error}", "write it as 2026-11-20T12:00") from error
    identity = Identity(case.user.name, "case", case.user.role, frozenset(case.user.groups), Limits(), None)
    model = Model(case.model.name, "", case.model.label, case.model.quantization_bits)
    return policies.decide(identity, model, action=case.action, client_ip=case.client_ip, purpose=case.purpose, now=at)
