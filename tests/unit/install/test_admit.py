"""What a host lets in depends on what it remembers, and what it remembers does not depend on what it refuses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bundler.bundle.order import sign_order
from bundler.bundle.read import FolderSource
from bundler.bundle.sign import sign_bundle
from bundler.bundle.trustfolder import TrustFolder, statement_digest
from bundler.install import paths, state
from bundler.install.admit import Admitted, Terms, admit
from custody.errors import (
    AirgapError,
    BundleMalformed,
    BundleRevoked,
    EnvironmentProblem,
    InputInvalid,
    RolledBack,
    SignatureRejected,
    TrustRejected,
)
from custody.report import SilentReporter
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.root import Person, Root
from tests import bundles

ALICE, BOB, CAROL, DORA = (PrivateKey.generate() for _ in range(4))
PERSONS = (
    Person("alice", ("builder", "root"), (ALICE.public,)),
    Person("bob", ("approver", "root"), (BOB.public,)),
    Person("carol", ("recovery", "root"), (CAROL.public,)),
    Person("dora", ("builder",), (DORA.public,)),
)
PAYLOAD = {"data/files/readme.txt": b"hello\n"}


class Site:
    """A trust folder with three root persons, and a host that has heard of its fingerprint."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trust = folder, TrustFolder(folder / "trust")
        root = Root(1, PERSONS, {"root": 2, "builder": 1, "approver": 1, "recovery": 1})
        self.fingerprint = bundles.make_trust(folder / "trust", root, [ALICE, BOB])

    def bundle(self, name: str, version: int, *signers: PrivateKey, **header: Any) -> Path:
        folder = bundles.sealed(self.folder / name, version, PAYLOAD, **header)
        for key in signers or (ALICE, BOB):
            sign_bundle(folder, key, self.folder / "trust", SilentReporter())
        return folder

    def admit(self, bundle: Path, minimum: int | None = None, order: Path | None = None) -> Admitted:
        return admit(FolderSource(bundle), Terms(self.fingerprint, minimum, order), remember=True)

    def install(self, bundle: Path, minimum: int | None = None, order: Path | None = None) -> None:
        """As `airgap install` does when the release has become healthy."""
        admitted = self.admit(bundle, minimum, order)
        offer, used = admitted.bundle.offer, admitted.used_order
        state.change(lambda known: known.with_release(offer, bundle.name, used))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(paths, "STATE", tmp_path / "state")
    return Site(tmp_path)


def refused(site: Site, bundle: Path, kind: type[AirgapError], **terms: Any) -> str:
    """Why a bundle is refused; version and epoch that were accepted stay as they were."""
    before = state.load_state().accepted
    with pytest.raises(kind) as caught:
        site.admit(bundle, **terms)
    assert state.load_state().accepted == before
    return caught.value.message


def test_a_host_that_remembers_nothing_wants_the_papers_version(site: Site) -> None:
    bundle = site.bundle("b3", 3)
    assert "lowest version" in refused(site, bundle, InputInvalid)
    assert "expected version 4" in refused(site, bundle, RolledBack, minimum=4)
    site.install(bundle, minimum=3)
    site.admit(bundle)  # the same again needs no paper
    assert "expected version 3" in refused(site, site.bundle("b2", 2), RolledBack)


def test_a_half_signed_newer_release_does_not_stop_the_one_that_runs(site: Site) -> None:
    site.install(running := site.bundle("b1", 1), minimum=1)
    half = site.bundle("b2", 2, ALICE)
    assert "approver" in refused(site, half, SignatureRejected)
    site.admit(running)


def test_a_broken_payload_does_not_hide_a_revocation(site: Site) -> None:
    running = site.bundle("b1", 1)
    site.install(running, minimum=1)
    site.trust.revoke({ALICE.public.keyid: "token lost"}, {})
    for key in (BOB, CAROL):
        site.trust.sign(key)
    broken = site.bundle("b2", 2, DORA, BOB)
    (broken / "sealed/data/files/readme.txt").unlink()
    assert "readme.txt: missing" in refused(site, broken, BundleMalformed)
    assert "is revoked" in refused(site, running, SignatureRejected)  # the list came with the broken medium
    again = site.bundle("b3", 3, DORA, BOB)
    for name in ("revocations.json", "revocations.flat"):
        (again / "carrier/trust" / name).unlink()
    site.install(again)  # taken away from this one, and remembered


def test_a_revoked_bundle_is_refused_by_name(site: Site) -> None:
    bad = site.bundle("b1", 1)
    site.trust.revoke({}, {statement_digest(bad): "answers nonsense"})
    for key in (BOB, CAROL):
        site.trust.sign(key)
    good = site.bundle("b2", 2)
    site.install(good, minimum=1)
    assert "answers nonsense" in refused(site, bad, BundleRevoked)


def test_a_medium_without_the_list_that_it_needs_is_refused(site: Site) -> None:
    assert "expected revocations with number 1" in refused(
        site, site.bundle("b1", 1, lowest_revocation=1), TrustRejected, minimum=1
    )


def test_a_rotation_is_followed_and_remembered(site: Site) -> None:
    site.install(site.bundle("b1", 1), minimum=1)
    eve = PrivateKey.generate()
    site.trust.rotate((Person("eve", ("builder", "root"), (eve.public,)),), ("alice",), {})
    for key in (ALICE, BOB, eve):
        site.trust.sign(key)
    site.install(site.bundle("b2", 2, eve, BOB))
    remembered = state.load_state()
    assert len(remembered.root_fingerprints) == 2
    assert remembered.root_fingerprint != site.fingerprint
    old = site.bundle("b3", 3, DORA, BOB)
    for name in ("2.root.json", "2.root.flat"):
        (old / "carrier/trust" / name).unlink()
    site.admit(old)  # the host's own root is newer, and dora is in it too
    with pytest.raises(TrustRejected, match="no person"):
        site.bundle("b4", 4, ALICE, BOB)


def test_a_root_that_lacks_the_old_ones_signatures_is_refused(site: Site) -> None:
    site.install(site.bundle("b1", 1), minimum=1)
    eve, frank = PrivateKey.generate(), PrivateKey.generate()
    people = (
        Person("eve", ("builder", "root"), (eve.public,)),
        Person("frank", ("approver", "root"), (frank.public,)),
    )
    other = Site(site.folder / "other")
    other.trust.rotate(people, ("alice", "bob"), {})
    for key in (ALICE, BOB, eve, frank):
        other.trust.sign(key)
    forged = other.bundle("forged", 9, eve, frank)
    target = site.bundle("b2", 2)
    shutil.copy(forged / "carrier/trust/2.root.flat", target / "carrier/trust/2.root.flat")
    envelope = (forged / "carrier/trust/2.root.json").read_bytes()
    parsed = Envelope.parse(envelope, "2")
    stripped = Envelope(
        parsed.payload_type, parsed.payload, {k: v for k, v in parsed.signatures.items() if k != ALICE.public.keyid}
    )
    (target / "carrier/trust/2.root.json").write_bytes(stripped.dump())
    assert "judged by root 1" in refused(site, target, SignatureRejected)
    assert state.load_state().root_fingerprint == site.fingerprint


def test_an_order_leads_back_once(site: Site) -> None:
    older, newer = site.bundle("b1", 1), site.bundle("b2", 2)
    site.install(older, minimum=1)
    site.install(newer)
    assert "expected version 2" in refused(site, older, RolledBack)
    order = site.folder / "back.order"
    sign_order(site.folder / "trust", older, (2, 1), "2 answers nonsense", order, CAROL)
    site.install(older, order=order)
    assert state.load_state().version == 1
    site.install(newer)
    assert "used before" in refused(site, older, RolledBack, order=order)


def test_nobody_else_orders_a_way_back(site: Site) -> None:
    older, newer = site.bundle("b1", 1), site.bundle("b2", 2)
    site.install(newer, minimum=1)
    with pytest.raises(TrustRejected, match="recovery"):
        sign_order(site.folder / "trust", older, (2, 1), "x", site.folder / "o", ALICE)
    with pytest.raises(InputInvalid, match="is newer than version 1"):
        sign_order(site.folder / "trust", newer, (1, 1), "x", site.folder / "o", CAROL)
    (site.folder / "o").write_bytes(b"{}")
    assert "DSSE" in refused(site, older, BundleMalformed, order=site.folder / "o")
    assert "No such file" in refused(site, older, InputInvalid, order=site.folder / "none")


def test_an_order_over_epochs_is_used_up_too(site: Site) -> None:
    site.install(site.bundle("b1", 1, security_epoch=2), minimum=1)
    newer = site.bundle("b2", 2)
    order = site.folder / "back.order"
    sign_order(site.folder / "trust", newer, (1, 2), "epoch 2 was a mistake", order, CAROL)
    site.install(newer, order=order)
    assert len(state.load_state().used_orders) == 1


def test_another_bundle_of_the_same_version_is_refused(site: Site) -> None:
    bundle = site.bundle("b1", 1)
    site.install(bundle, minimum=1)
    other = site.bundle("c1", 1, security_epoch=2)
    assert "another Statement" in refused(site, other, RolledBack)
    site.admit(bundle)
    order = site.folder / "other.order"
    sign_order(site.folder / "trust", other, (1, 1), "the first was built wrong", order, CAROL)
    site.install(other, order=order)


def test_what_another_run_learned_meanwhile_is_not_forgotten(site: Site) -> None:
    newer, older = site.bundle("b2", 2), site.bundle("b1", 1)
    site.install(older, minimum=1)

    class Slow(FolderSource):
        """A medium that takes its time over the roots."""

        def carrier(self, path: str, limit_bytes: int) -> bytes:
            if path == "trust/1.root.json" and state.load_state().version == 1:
                site.install(newer)
            return super().carrier(path, limit_bytes)

    state.file().unlink()
    site.install(older, minimum=1)
    with pytest.raises(RolledBack, match="expected version 2"):
        admit(Slow(older), Terms(site.fingerprint), remember=True)
    assert state.load_state().version == 2


def test_a_pin_is_where_a_host_begins(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = site.bundle("b1", 1)
    state.pin("cd" * 32)
    with pytest.raises(TrustRejected, match="expected the fingerprint cdcd"):
        site.admit(bundle, 1)  # whatever fingerprint somebody was made to type
    monkeypatch.setattr(paths, "STATE", site.folder / "another-host")
    state.pin(site.fingerprint)
    site.install(bundle, minimum=1)


def test_broken_state_stops_and_is_not_overwritten(site: Site) -> None:
    bundle = site.bundle("b1", 1)
    site.install(bundle, minimum=1)
    state.file().write_text('{"schema_version": 1, "version": "many"}')
    with pytest.raises(EnvironmentProblem, match="broken"):
        site.admit(bundle, minimum=1)
    assert "many" in state.file().read_text()


def test_state_is_roots_alone(site: Site) -> None:
    site.install(site.bundle("b1", 1), minimum=1)
    assert state.file().stat().st_mode & 0o777 == 0o600
    assert os.listdir(state.file().parent) == ["state.json"]  # noqa: PTH208 -- names are what counts
