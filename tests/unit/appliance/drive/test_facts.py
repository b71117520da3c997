"""The Ansible module: what it returns is what it documents."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from appliance.drive.discovery import Discovery, parse
from appliance.drive.kinds import Kind
from appliance.drive.sed import Sed
from custody.errors import DriveFailed
from tests.unit.appliance.conftest import Programs
from tests.unit.appliance.drive.test_discovery import recorded
from tests.unit.appliance.drive.test_disks import DATA, lsblk

pytest.importorskip("ansible")
FILE = Path(__file__).parents[4] / "plugins/modules/airgap_drive_facts.py"


class Ended(Exception):
    """The module ended."""


@pytest.fixture
def facts(programs: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the module for a drive that says this."""
    programs("appliance.drive.disks", answers={"lsblk": lsblk(DATA)})
    spec = importlib.util.spec_from_file_location("airgap_drive_facts", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(says: str | DriveFailed | None, serial: str = "DATA1") -> dict[str, Any]:
        told: dict[str, Any] = {}

        class Fake:
            def __init__(self, **given: Any) -> None:
                self.params = {"serial": serial}
                assert given["supports_check_mode"] is True

            def exit_json(self, **result: Any) -> None:
                told.update(result)
                raise Ended

            fail_json = exit_json

        def discover(_self: Sed) -> Discovery | None:
            if isinstance(says, DriveFailed):
                raise says
            return parse(recorded(says)) if says else None

        monkeypatch.setattr(module, "AnsibleModule", Fake)
        monkeypatch.setattr(Sed, "discover", discover)
        with pytest.raises(Ended):
            module.main()
        return told

    run.module = module  # type: ignore[attr-defined]
    return run


def _returns(facts: Any) -> dict[str, Any]:
    module: ModuleType = facts.module
    found: dict[str, Any] = yaml.safe_load(module.RETURN)
    return found


def test_what_is_returned_is_documented(facts: Callable[..., dict[str, Any]]) -> None:
    told, documented = facts("crucial-mx500"), _returns(facts)
    assert told.pop("changed") is False
    assert set(told) == set(documented)
    assert set(told["discovery"]) == set(documented["discovery"]["contains"]) == {f.name for f in fields(Discovery)}
    assert set(documented["kind"]["choices"]) == {str(kind) for kind in Kind}
    assert (told["kind"], told["device"], told["size_bytes"]) == ("owned", "/dev/vdb", 8 << 30)


def test_a_disk_that_is_no_drive_has_no_discovery(facts: Callable[..., dict[str, Any]]) -> None:
    told = facts(None)
    assert "discovery" not in told
    assert (told["kind"], told["why"]) == ("unsupported", "no self-encrypting drive")


@pytest.mark.parametrize(("says", "serial", "code"), [
    (DriveFailed("/dev/vdb: Input/output error", "dmesg | tail"), "DATA1", 48), (None, "OTHER", 22),
])  # fmt: skip
def test_failures_are_told_with_what_to_do(
    facts: Callable[..., dict[str, Any]], says: DriveFailed | None, serial: str, code: int
) -> None:
    told = facts(says, serial)
    assert told["exit_code"] == code
    assert told["msg"]
    assert told["hint"]
    assert "kind" not in told
