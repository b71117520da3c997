"""What would change: the same questions put to two sets of policies.

The questions are every combination of the roles, groups, users, labels, bits, purposes and networks that either set
names, and of one of each that neither names; every action; every full hour of a day, and of seven days where a policy
looks at the weekday. A policy that looks at minutes or dates may change what this table does not show.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import groupby, product
from math import prod
from typing import Any

from appliance.gateway.identity import Identity, Limits
from appliance.gateway.policy import ACTIONS, Decision, Model, Policies
from custody.errors import InputInvalid

#: Some twenty seconds of one core.
MAX_QUESTIONS = 100_000
#: In nobody's policy: a name, and an address for documentation (RFC 5737).
_SOMEBODY, _ELSEWHERE = "somebody", "192.0.2.1"
_WEDNESDAY = 3


@dataclass
class Questions:
    """What to ask about; every field is one dimension, sorted, the empty text is none."""

    users: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    purposes: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    weekdays: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """Questions that get the same two answers; `any` is all values of a dimension that has several."""

    user: str
    role: str
    group: str
    label: str
    bits: str
    action: str
    purpose: str
    network: str
    weekday: str
    hours: str
    before: Decision
    after: Decision

    @property
    def is_change(self) -> bool:
        """Whether something becomes allowed, or is no more."""
        return self.before.allowed != self.after.allowed


#: Of a row, in its order.
COLUMNS = tuple(column.name for column in fields(Row))[:-2]


def questions(sets: Iterable[Policies], given: Questions | None = None) -> Questions:
    """The dimensions that these policies name; what is given takes the place of what was found."""
    found = _Named()
    for policies in sets:
        for tree in policies.engine.trees.values():
            found.look(tree)
    made = Questions(
        users=sorted({*found.entities("User"), _SOMEBODY}),
        roles=sorted({*found.entities("Role"), "user"}),
        groups=sorted({*found.entities("Group"), ""}),
        labels=sorted({*found.texts("label"), "general"}),
        bits=sorted({*(max(1, number - less) for number in found.numbers for less in (0, 1)), 16}),
        actions=list(ACTIONS),
        purposes=sorted({*found.texts("purpose"), ""}),
        networks=sorted({*found.networks, _ELSEWHERE}),
        weekdays=list(range(1, 8)) if "weekday" in found.attributes else [_WEDNESDAY],
    )
    for dimension in fields(Questions):
        if given is not None and (values := getattr(given, dimension.name)):
            setattr(made, dimension.name, values)
    return made


def simulate(before: Policies, after: Policies, asked: Questions, now: float) -> list[Row]:
    """Ask both.

    Args:
        now: the week of this time is the one that is asked about; Unix seconds.

    Returns:
        As few rows as greed finds, in the order of the dimensions.

    Raises:
        InputInvalid: too many questions.
    """
    dimensions = [getattr(asked, dimension.name) for dimension in fields(Questions)]
    if (count := 24 * prod(map(len, dimensions))) > MAX_QUESTIONS:
        raise InputInvalid(
            f"simulate: {count} questions, at most {MAX_QUESTIONS} expected",
            "name what matters: --role, --group, --label, --purpose, --client-ip",
        )
    answers: list[_Answered] = []
    for values in product(*dimensions):
        texts = tuple(str(value) or "none" for value in values)
        answers += [((*texts, hours), old, new) for hours, old, new in _day(before, after, values, now)]
    for place, dimension in reversed(list(enumerate(dimensions))):
        answers = _merge(answers, place, len(dimension))
    return [Row(**dict(zip(COLUMNS, texts, strict=True)), before=old, after=new) for texts, old, new in answers]


#: Values of the dimensions and hours as texts, and the two answers.
_Answered = tuple[tuple[str, ...], Decision, Decision]


def _merge(answers: list[_Answered], place: int, size: int) -> list[_Answered]:
    """Put together what differs in one dimension alone."""
    same: dict[_Answered, list[str]] = {}
    for texts, old, new in answers:
        same.setdefault(((*texts[:place], "", *texts[place + 1 :]), old, new), []).append(texts[place])
    return [
        ((*texts[:place], "any" if len(values) == size > 1 else ", ".join(values), *texts[place + 1 :]), old, new)
        for (texts, old, new), values in same.items()
    ]


def _day(
    before: Policies, after: Policies, values: tuple[Any, ...], now: float
) -> Iterator[tuple[str, Decision, Decision]]:
    """Runs of hours with the same two answers."""
    user, role, group, label, bits, action, purpose, network, weekday = values
    identity = Identity(user, "simulated", role, frozenset({group} - {""}), Limits(), None)
    model = Model("a-model", "", label, bits)

    def ask(policies: Policies, hour: int) -> Decision:
        at = datetime.datetime.fromtimestamp(now, policies.zone)
        at += datetime.timedelta(days=weekday - at.isoweekday())
        at = at.replace(hour=hour, minute=0, second=0, microsecond=0)
        return policies.decide(identity, model, action=action, client_ip=network, purpose=purpose, now=at.timestamp())

    answers = [(ask(before, hour), ask(after, hour)) for hour in range(24)]
    for (old, new), hours in groupby(range(24), key=lambda hour: answers[hour]):
        run = list(hours)
        yield "any" if len(run) == 24 else f"{run[0]}-{run[-1]}", old, new


class _Named:
    """What policies speak of, found in their JSON form."""

    def __init__(self) -> None:
        self.attributes: set[str] = set()
        self.numbers: set[int] = set()
        self.networks: set[str] = set()
        self._entities: set[tuple[str, str]] = set()
        self._texts: set[tuple[str, str]] = set()

    def entities(self, kind: str) -> set[str]:
        return {name for found, name in self._entities if found == kind}

    def texts(self, attribute: str) -> set[str]:
        return {text for found, text in self._texts if found == attribute}

    def look(self, tree: Any) -> None:
        if isinstance(tree, list):
            for part in tree:
                self.look(part)
        if not isinstance(tree, dict):
            return
        if set(tree) == {"type", "id"}:
            self._entities.add((tree["type"], tree["id"]))
        if "attr" in tree:
            self.attributes.add(tree["attr"])
        if set(tree) == {"ip"}:
            self._network(tree["ip"])
        if {"left", "right"} <= set(tree):
            self._compared(tree["left"], tree["right"])
        for part in tree.values():
            self.look(part)

    def _compared(self, *sides: Any) -> None:
        names = {side["."]["attr"] for side in sides if isinstance(side, dict) and "." in side}
        for value in (value for side in sides for value in _values(side)):
            if isinstance(value, str):
                self._texts |= {(name, value) for name in names}
            elif isinstance(value, int) and "quantization_bits" in names:
                self.numbers.add(value)

    def _network(self, arguments: Any) -> None:
        for value in _values({"Set": arguments}):
            if isinstance(value, str):
                try:
                    self.networks.add(str(ipaddress.ip_network(value, strict=False)[0]))
                except ValueError:
                    continue  # what Cedar takes and Python does not names no network that could be tried


def _values(side: Any) -> Iterator[Any]:
    """Literals on one side of a comparison, alone or in a set."""
    if isinstance(side, dict) and "Value" in side:
        yield side["Value"]
    for part in side.get("Set", ()) if isinstance(side, dict) else ():
        yield from _values(part)
