"""Why a request was decided so: what its entry says, and the same policies asked again."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.explain import explain
from appliance.audit.fields import Admitted, admitted_entry
from appliance.gateway.identity import Identity, Limits
from appliance.gateway.policy import Model, Policies
from appliance.gateway.service import _told
from custody import errors
from custody.errors import InputInvalid
from custody.ledger.moment import now
from custody.ledger.view import View
from tests.unit.appliance.audit.conftest import ADMITTED
from tests.unit.appliance.gateway.rig import Rig
from tests.unit.appliance.gateway.test_openai_client import ask
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import printed


def asked(rig: Rig, text: str = "x", model: str = "demo", **headers: str) -> dict[str, Any]:
    with rig.http(rig.alice) as client:
        answer = client.post("/v1/chat/completions", json={**ask(text), "model": model}, headers=headers)
    return rig.of_request(answer.headers["x-request-id"], ended=False)[0]


@pytest.fixture
def versions(rig: Rig, tmp_path: Path) -> Path:
    """Policies as `airgap policy apply` keeps them."""
    shutil.copytree(rig.base / "policies", tmp_path / Policies.load(rig.base / "policies").version)
    return tmp_path


def test_an_entry_names_the_policies_and_what_they_were_asked(rig: Rig) -> None:
    entry = asked(rig, **{"X-Airgap-Purpose": "triage"})
    assert entry["policy_sha256"] == Policies.load(rig.base / "policies").version
    said = entry["explanation"]
    assert said.pop("at")[:13] in {entry["time"][:13], now().time[:13]}
    assert said == {"action": "chat", "bits": 16, "groups": [], "label": "general", "purpose": "triage"}


@pytest.mark.parametrize(("text", "model", "headers", "again", "facts"), [
    ("x", "demo", {}, "the same: permitted by users-ask", {"decision": "allow", "by": "users-ask", "label": "general"}),
    ("CODE-1111", "demo", {}, "the same: permitted by users-ask", {"text rules": "code: mask 1"}),
    ("PAT-12345678", "demo", {}, "not theirs to decide", {"by": "a rule for texts", "text rules": "patient: block 1"}),
    ("x", "none", {}, "not theirs to decide", {"by": "no policy", "reason": "no such model", "label": "none"}),
    ("x", "hidden", {}, "the same: no policy permits this", {"decision": "deny", "by": "no policy"}),
    ("x", "demo", {"X-Airgap-Client-Address": "192.0.2.9"}, "the same: forbidden by not-", {"by": "not-from-there"}),
])  # fmt: skip
def test_explain(
    rig: Rig, versions: Path, text: str, model: str, headers: dict[str, str], again: str, facts: dict[str, str]
) -> None:
    found = explain(asked(rig, text, model, **headers), versions)
    assert again in found.again
    assert found.facts.items() >= facts.items()


def test_an_entry_or_policies_that_were_changed_give_another_answer(rig: Rig, versions: Path) -> None:
    entry = asked(rig)
    changed = {**entry, "explanation": {**entry["explanation"], "label": "hidden"}}
    assert explain(changed, versions).again == "ANOTHER ANSWER: no policy permits this"
    (folder,) = versions.iterdir()
    (folder / "guard.yml").unlink()
    assert "was changed since" in explain(entry, versions).again
    shutil.rmtree(folder)
    assert "is not there" in explain(entry, versions).again
    (folder).mkdir()
    assert "not asked: " in explain(entry, versions).again


def test_what_was_cut_when_it_was_recorded_is_no_other_answer(rig: Rig, tmp_path: Path) -> None:
    """Nine policies with long names, of which the record has 256 characters; 300 groups, of which it has 256."""
    policies = shutil.copytree(rig.base / "policies", tmp_path / "made")
    names = [f"clinicians-of-department-{number}-may-ask-by-day" for number in range(9)]
    rules = [f'@id("{name}") permit (principal, action, resource);' for name in names]
    (policies / "long.cedar").write_text("\n".join(rules))
    version = Policies.load(policies).version
    shutil.copytree(policies, tmp_path / version)
    entry = asked(rig)
    identity = Identity("alice", entry["key_id"], entry["role"], frozenset(), Limits(), None)
    said = entry["explanation"]
    found = Policies.load(policies).decide(
        identity, Model("demo", "", said["label"], said["bits"]), action=said["action"],
        client_ip=entry["client_ip"], purpose="", now=datetime.fromisoformat(said["at"]).timestamp(),
    )  # fmt: skip
    assert len(found.policy_id) > 256
    entry |= {"policy_sha256": version, "policy_id": found.policy_id[:256]}
    assert explain(entry, tmp_path).again.startswith("the same: ")
    assert explain({**entry, "policy_id": "x" + found.policy_id[1:256]}, tmp_path).again.startswith("ANOTHER ANSWER")
    said["groups"] = _told(frozenset(f"g{number:03}" for number in range(300)))
    assert explain(entry, tmp_path).again == "not asked: not all of the user's groups are recorded (+44)"


def test_entries_of_older_gateways_are_explained_as_far_as_they_go(versions: Path) -> None:
    entry = json.loads(admitted_entry(3, now(), Admitted.model_validate(ADMITTED), 1, b"key"))
    assert not {"policy_sha256", "explanation"} & set(entry)
    found = explain(entry, versions)
    assert found.facts["policies"] == "not recorded: an older gateway"
    assert "does not say" in found.again
    with pytest.raises(InputInvalid, match="expected a decision"):
        explain({"kind": "completed", "seq": 4}, versions)


def test_the_command(rig: Rig, versions: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seq = str(asked(rig)["seq"])
    words = ["audit", "explain", seq, "--log", str(rig.audit.folder), "--policies", str(versions)]
    said = printed(words, capfd)
    assert "again:       the same: permitted by users-ask" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    found = json.loads(printed([*words, "--json"], capfd))
    assert (found["schema"], found["facts"]["by"]) == ("airgap.audit-explain/1", "users-ask")
    assert refused([*words[:2], "0", *words[3:]], capfd)[0] == errors.InputInvalid.exit_code


def test_explain_shows_nothing_that_a_terminal_obeys(
    rig: Rig, versions: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {**asked(rig), "model": "demo\x1b[2K\ndecision:    deny"}
    monkeypatch.setattr(View, "entry", lambda *_: json.dumps(entry).encode())
    words = ["audit", "explain", "1", "--log", str(rig.audit.folder), "--policies", str(versions)]
    said = printed(words, capfd)
    assert "model:       demo?[2K?decision:    deny" in said
    assert [line for line in said.splitlines() if line.startswith("decision:")] == ["decision:    allow"]


def test_very_many_groups_leave_room_in_the_record() -> None:
    names = frozenset(f"g{number:03}" for number in range(300))
    assert _told(names)[-2:] == ["g255", "+44"]
    assert _told(frozenset({"b", "a"})) == ["a", "b"]
