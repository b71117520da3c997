"""Every judgement there is, and that no answer but a clear yes makes a drive one that is taken over."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.drive.discovery import CLASSES, Discovery
from appliance.drive.kinds import Kind, judge

NEW = Discovery(
    com_id=0x1000,
    classes=("Opal 2",),
    supported=True,
    activated=False,
    locked=False,
    encrypts=True,
    shadowed=False,
    sid_is_set=False,
    sid_blocked=False,
    sid_is_msid=True,
    removal_interrupted=False,
)


@pytest.mark.parametrize(
    ("found", "kind", "why", "remedy"),
    [
        (None, Kind.UNSUPPORTED, "no self-encrypting drive", "another drive"),
        (replace(NEW, classes=()), Kind.UNSUPPORTED, "no self-encrypting drive", "another drive"),
        (replace(NEW, classes=("Pyrite 1",)), Kind.PYRITE, "does not encrypt", "storage.mode: luks"),
        (replace(NEW, classes=("Opal 2", "Pyrite 2")), Kind.PYRITE, "does not encrypt", "storage.mode: luks"),
        (replace(NEW, classes=("Opal 1",)), Kind.UNSUPPORTED, "Opal 1, not Opal 2", "another drive"),
        (replace(NEW, classes=("Enterprise", "Ruby")), Kind.UNSUPPORTED, "Enterprise, Ruby, not", "another drive"),
        (replace(NEW, supported=False), Kind.UNSUPPORTED, "not Opal 2", "another drive"),
        (replace(NEW, encrypts=False), Kind.UNSUPPORTED, "does not encrypt", "another drive"),
        (replace(NEW, removal_interrupted=True), Kind.OWNED, "erasure was cut off", "again"),
        (replace(NEW, activated=True), Kind.OWNED, "owned", "airgap drive revert"),
        (replace(NEW, activated=True, locked=True), Kind.OWNED, "owned, locked", "airgap drive revert"),
        (replace(NEW, activated=True, shadowed=True), Kind.OWNED, "owned, shadow MBR on", "airgap drive revert"),
        (replace(NEW, sid_blocked=True), Kind.SID_BLOCKED, "BIOS blocked SID", "Block SID"),
        (replace(NEW, sid_blocked=True, sid_is_set=True), Kind.SID_BLOCKED, "BIOS blocked SID", "Block SID"),
        (replace(NEW, sid_is_set=True), Kind.OWNED, "SID has a PIN", "airgap drive revert"),
        (replace(NEW, sid_is_msid=False), Kind.OWNED, "first PIN is the maker's", "another drive"),
        (NEW, Kind.FACTORY, "leaves the factory", ""),
        (replace(NEW, sid_is_set=None, sid_blocked=None), Kind.FACTORY, "leaves the factory", ""),
        (replace(NEW, classes=("Opal 1", "Opal 2")), Kind.FACTORY, "leaves the factory", ""),
    ],
)
def test_judgements(found: Discovery | None, kind: Kind, why: str, remedy: str) -> None:
    judged = judge(found)
    assert judged.kind is kind
    assert why in judged.why
    assert remedy in judged.remedy
    assert bool(judged.remedy) is (kind is not Kind.FACTORY)


def test_an_owned_drive_is_owned_whatever_its_bios_does() -> None:
    for blocked, sid, locked in product((None, False, True), (None, False, True), (False, True)):
        found = replace(NEW, activated=True, sid_blocked=blocked, sid_is_set=sid, locked=locked)
        assert judge(found).kind is Kind.OWNED


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        Discovery,
        com_id=st.integers(0, 0xFFFF),
        classes=st.lists(st.sampled_from(list(CLASSES.values())), max_size=3, unique=True).map(tuple),
        sid_is_set=st.sampled_from([None, False, True]),
        sid_blocked=st.sampled_from([None, False, True]),
    )
)
def test_only_a_clear_yes_is_factory(found: Discovery) -> None:
    judged = judge(found)
    clear = (
        "Opal 2" in found.classes
        and not any("Pyrite" in name for name in found.classes)
        and (found.supported, found.encrypts, found.sid_is_msid) == (True, True, True)
        and not (found.activated or found.sid_is_set or found.sid_blocked or found.removal_interrupted)
    )
    assert (judged.kind is Kind.FACTORY) is clear
