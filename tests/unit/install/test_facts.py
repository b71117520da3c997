"""What a laptop makes of a host's facts before it carries anything there."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast

import pytest

from bundler.bundle.read import FolderSource
from bundler.bundle.trustfolder import TrustFolder
from bundler.install.remote.carry import load_cargo
from bundler.install.remote.host import Order, ask_facts
from bundler.install.remote.inventory import InventoryHost
from bundler.install.remote.link import Link
from bundler.install.state import State
from custody.errors import TrustRejected
from custody.report import SilentReporter
from custody.trust.envelope import Envelope
from custody.trust.revocations import PAYLOAD_TYPE, Revocations
from custody.trust.verify import read_trust
from tests.bundles import Made, make
from tests.carried import lay_down


class _Told:
    """The other end of the wire: says what a host would say."""

    def __init__(self, state: State | None, *more: str) -> None:
        lines = ["uid=0", "free_bytes=1000", *more]
        if state is not None:
            lines.append("state=" + base64.b64encode(json.dumps(state.model_dump(mode="json")).encode()).decode())
        self._said = "\n".join(lines).encode()

    def run(self, *words: str) -> bytes:
        return self._said


def order(made: Made, folder: Path) -> Order:
    site = folder / "site.yml"
    site.write_text("x")
    carried, start = lay_down(made.folder, made.fingerprint, folder / "carry")
    cargo = load_cargo(carried, made.fingerprint, start, SilentReporter())
    host = InventoryHost(name="a", address="10.0.0.1", key=Path("/root/.ssh/site"), site=site)
    return Order(host, cargo, made.fingerprint, 1)


def remembered(made: Made) -> State:
    return State().with_trust(read_trust(FolderSource(made.folder), made.fingerprint))


def ask(state: State | None, wanted: Order, *more: str) -> Any:
    return ask_facts(cast(Link, _Told(state, *more)), wanted)


def test_a_host_that_remembers_nothing_believes_the_paper(tmp_path: Path) -> None:
    assert ask(None, order(make(tmp_path), tmp_path)).free_bytes == 1000


def test_a_newer_root_on_the_paper_is_followed_from_the_one_that_the_host_believes(tmp_path: Path) -> None:
    made = make(tmp_path)
    before = remembered(made)
    here = TrustFolder(made.trust)
    here.rotate((), (), {"root": 1})
    for key in (made.builder, made.approver):
        here.sign(key)
    for name, data in here.files().items():
        (made.folder / "carrier/trust" / name).write_bytes(data)
    newer = Made(made.folder, made.trust, here.trust().root.fingerprint, made.builder, made.approver)
    assert newer.fingerprint != made.fingerprint
    assert ask(before, order(newer, tmp_path)).running == ""


def test_a_host_that_believes_strangers_is_left_alone(tmp_path: Path) -> None:
    strangers = remembered(make(tmp_path / "strangers"))
    with pytest.raises(TrustRejected, match="and the other one is believed"):
        ask(strangers, order(make(tmp_path), tmp_path))


def test_a_host_with_the_bundle_gets_a_newer_list_of_revocations(tmp_path: Path) -> None:
    made = make(tmp_path)
    wanted = order(made, tmp_path)
    state = remembered(made).model_copy(update={"release": wanted.cargo.release})
    there = f"statement={wanted.cargo.statement}", f"site={wanted.site_digest}"
    assert ask(state, wanted, *there).installed
    listed = Revocations(1, {"ab" * 32: "lost"})
    envelope = Envelope(PAYLOAD_TYPE, listed.payload(), {}).signed_by(made.builder).signed_by(made.approver)
    trust = made.folder / "carrier/trust"
    (trust / "revocations.json").write_bytes(envelope.dump())
    (trust / "revocations.flat").write_bytes(listed.flat())
    (tmp_path / "newer").mkdir()
    assert not ask(state, order(made, tmp_path / "newer"), *there).installed
