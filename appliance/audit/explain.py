"""Why a request was allowed or denied: what the log says, and the same policies asked again.

An entry names the version of the policies, which stands for every byte of them, and what they were asked. Where that
version still lies on the host, it is asked again. The limits and the rules for texts are not: they depend on what came
before, and on the text, which nobody has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.audit.fields import NAME_CHARACTERS
from appliance.gateway.identity import Identity, Limits
from custody.errors import AirgapError, InputInvalid

#: What a rule for texts found, as the gateway writes it: `guard NAME: ACTION COUNT`.
_TEXT_RULE = re.compile(r"(?:^|; )guard ([a-z0-9._-]+: [a-z]+ \d+)")
#: Values of `policy_id` where no policy decided.
_OTHERS = {"": "no policy", "limits": "the user's limits", "guard": "a rule for texts"}


@dataclass(frozen=True)
class Explanation:
    """What can be said of a decision.

    Attributes:
        facts: by name, in the order to be shown.
        again: what the policies say when they are asked again, or why they are not.
    """

    facts: dict[str, str]
    again: str


def explain(entry: dict[str, Any], policies: Path) -> Explanation:
    """Explain an entry.

    Args:
        policies: a folder with a folder for each version.

    Raises:
        InputInvalid: no decision is in it.
    """
    if entry.get("kind") != "admitted":
        raise InputInvalid(
            f"entry {entry.get('seq')}: expected a decision, found {entry.get('kind')}",
            f"airgap audit explain {entry['of']}" if "of" in entry else "airgap audit search --kind admitted",
        )
    found = _TEXT_RULE.findall(entry["reason"])
    asked = entry.get("explanation")
    facts = {
        "decision": entry["decision"],
        "by": _OTHERS.get(entry["policy_id"], entry["policy_id"]),
        "reason": entry["reason"],
        "text rules": ", ".join(found) or "found nothing",
        "policies": entry.get("policy_sha256", "not recorded: an older gateway"),
        "user": f"{entry['user_id']}, role {entry['role']}, key {entry['key_id']}",
        "address": entry["client_ip"],
        "model": f"{entry['model']} {entry['model_digest']}".strip(),
        "time": entry["time"],
    }
    if asked is None:
        return Explanation(facts, "not asked: the entry does not say what they were asked")
    facts |= {
        "action": asked["action"],
        "label": asked["label"] or "none",
        "bits": str(asked["bits"]),
        "groups": ", ".join(asked["groups"]) or "none",
        "purpose": asked["purpose"] or "none",
        "local time": asked["at"],
    }
    return Explanation(facts, _again(entry, asked, policies / entry.get("policy_sha256", "none")))


def _again(entry: dict[str, Any], asked: dict[str, Any], folder: Path) -> str:
    """Ask the policies of the version that decided."""
    from appliance.gateway.policy import Model, Policies

    if entry["policy_id"] in {"limits", "guard"} or not asked["bits"]:
        return "not asked: it was not theirs to decide"
    if asked["groups"] and asked["groups"][-1].startswith("+"):
        return f"not asked: not all of the user's groups are recorded ({asked['groups'][-1]})"
    if not folder.is_dir():
        return f"not asked: {folder} is not there"
    try:
        policies = Policies.load(folder)
    except AirgapError as error:
        return f"not asked: {error.message}"
    if policies.version != entry["policy_sha256"]:
        return f"not asked: {folder} was changed since"
    identity = Identity(entry["user_id"], entry["key_id"], entry["role"], frozenset(asked["groups"]), Limits(), None)
    model = Model(entry["model"], entry["model_digest"], asked["label"], asked["bits"])
    found = policies.decide(
        identity, model, action=asked["action"], client_ip=entry["client_ip"], purpose=asked["purpose"],
        now=datetime.fromisoformat(asked["at"]).timestamp(),
    )  # fmt: skip
    is_same = (found.allowed, found.policy_id[:NAME_CHARACTERS]) == (entry["decision"] == "allow", entry["policy_id"])
    return f"{'the same' if is_same else 'ANOTHER ANSWER'}: {found.reason}"
