"""Which drives an installation stops at, before anything is changed."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bundler.install.preflight.disk import _LIST_DRIVES, judge_drive
from bundler.install.site import SecretReference, Storage
from custody._run import run
from custody.trust.keys import PrivateKey

KEY = base64.b64encode(PrivateKey.generate().public.der).decode()
SECRET = SecretReference(file=Path("/run/site/passphrase"))
FACTORY: dict[str, Any] = {
    "serial": "DATA1", "kind": "factory", "why": "as it leaves the factory", "remedy": "", "failed": False,
    "volume": "", "discovery": {"locked": False},
}  # fmt: skip
OWNED = {**FACTORY, "kind": "owned", "why": "owned, locked", "remedy": "revert", "discovery": {"locked": True}}
OPEN = {**OWNED, "discovery": {"locked": False}}
BLOCKED = {**FACTORY, "kind": "sid-blocked", "why": "blocked", "remedy": "the BIOS"}
PLAIN = {**FACTORY, "kind": "unsupported", "why": "no self-encrypting drive", "remedy": "another", "discovery": None}
PYRITE = {**FACTORY, "kind": "pyrite", "why": "does not encrypt", "remedy": "another"}


def storage(mode: str, **more: Any) -> Storage:
    """A site's wish."""
    key = {"escrow_key": KEY} if mode.startswith("opal") else {}
    return Storage.model_validate({"data_disk_serial": "DATA1", "passphrase": SECRET, "mode": mode, **key, **more})


@pytest.mark.parametrize(
    ("mode", "more", "row", "begun"),
    [
        ("auto", {}, PLAIN, False),
        ("auto", {}, PYRITE, False),
        ("auto", {"escrow_key": KEY}, FACTORY, False),
        ("opal+luks", {}, FACTORY, False),
        ("opal", {}, FACTORY, False),
        ("luks", {}, FACTORY, False),
        ("luks", {}, OPEN, False),
        ("luks", {}, BLOCKED, False),
        ("opal+luks", {"owned_pin": SECRET}, OWNED, False),
        ("opal+luks", {}, OWNED, True),
        ("auto", {}, {**OWNED, "volume": "opal"}, False),
        ("luks", {}, {**PLAIN, "volume": "luks"}, False),
    ],
)
def test_these_go_on(mode: str, more: dict[str, Any], row: dict[str, Any], begun: bool) -> None:
    assert list(judge_drive(storage(mode, **more), row, begun=begun)) == []


@pytest.mark.parametrize(
    ("mode", "more", "row", "what", "found"),
    [
        ("auto", {}, FACTORY, "storage.escrow_key", "none"),
        ("auto", {"escrow_key": KEY}, OWNED, "drive DATA1", "owned, locked"),
        ("auto", {"escrow_key": KEY}, BLOCKED, "drive DATA1", "blocked"),
        ("opal+luks", {"owned_pin": SECRET}, BLOCKED, "drive DATA1", "blocked"),
        ("opal+luks", {}, PLAIN, "drive DATA1", "no self-encrypting drive"),
        ("opal", {}, PYRITE, "drive DATA1", "does not encrypt"),
        ("luks", {}, OWNED, "drive DATA1", "owned, locked"),
        ("opal", {}, {**OWNED, "volume": "opal+luks"}, "drive DATA1", "one of mode opal+luks"),
        ("auto", {}, {**PLAIN, "failed": True, "why": "no answer"}, "drive DATA1", "no answer"),
    ],
)
def test_these_stop_it(mode: str, more: dict[str, Any], row: dict[str, Any], what: str, found: str) -> None:
    (finding,) = judge_drive(storage(mode, **more), row, begun=False)
    assert (finding.what, finding.found, finding.stops) == (what, found, True)
    assert finding.remedy


def test_the_command_tells_what_is_read_here() -> None:
    """Of this machine's own disks."""
    listing = json.loads(run([sys.executable, "-c", _LIST_DRIVES], env={"PYTHONPATH": str(Path.cwd())}).stdout)
    assert listing["schema"] == "airgap.drives/1"
    for row in listing["drives"]:
        assert set(FACTORY) <= set(row)
