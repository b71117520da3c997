"""`settings.yml` and `guard.yml` of a policy folder."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints

from appliance.gateway import yamltext
from appliance.gateway.folder import Content
from appliance.gateway.guard import Action, Guard, Rule
from custody.errors import PolicyRefused

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Settings(yamltext.Strict):
    """How policies are read.

    Attributes:
        timezone: of `hour`, `minute` and `weekday`; an IANA name.
    """

    schema_version: Literal[1] = 1
    timezone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$")] = "UTC"

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone.

        Raises:
            PolicyRefused: this host knows none of that name.
        """
        try:
            return ZoneInfo(self.timezone)
        except (OSError, ValueError, KeyError) as error:
            raise PolicyRefused(
                f"settings.yml: timezone {self.timezone}: this host knows no such zone", "UTC, or install tzdata"
            ) from error


class GuardRule(yamltext.Strict):
    """A rule as written; see `Rule`."""

    name: Name
    labels: Annotated[tuple[Name | Literal["*"], ...], Field(min_length=1, max_length=64)]
    action: Action
    kind: str
    pattern: str = ""


class GuardFile(yamltext.Strict):
    """`guard.yml`."""

    schema_version: Literal[1]
    rules: Annotated[tuple[GuardRule, ...], Field(max_length=64)]


def read_settings(content: Content) -> Settings:
    """The settings; without a file, the defaults.

    Raises:
        PolicyRefused: not such a file.
    """
    if "settings.yml" not in content.files:
        return Settings()
    found = yamltext.load(content.text("settings.yml"), Settings, f"{content.name}/settings.yml")
    _ = found.zone  # refused now, not at the first question
    return found


def read_guard(content: Content) -> Guard:
    """The guard; without a file, one that finds nothing.

    Raises:
        PolicyRefused: not such a file, or a pattern that could take long.
    """
    if "guard.yml" not in content.files:
        return Guard(())
    found = yamltext.load(content.text("guard.yml"), GuardFile, f"{content.name}/guard.yml")
    return Guard(
        tuple(Rule(rule.name, frozenset(rule.labels), rule.action, rule.kind, rule.pattern) for rule in found.rules)
    )
