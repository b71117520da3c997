"""Signing in another room: what goes there and comes back, and what is refused on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.bundle import request as requests
from bundler.bundle.read import FolderSource
from bundler.bundle.request import (
    CarriedSignature,
    Opened,
    export_request,
    open_request,
    open_signature,
    sign_request,
)  # fmt: skip
from bundler.bundle.sign import read_base, sign_bundle
from bundler.bundle.trustfolder import TrustFolder
from custody.errors import BundleMalformed, DigestMismatch, InputInvalid, SignatureRejected, TrustRejected
from custody.report import SilentReporter
from custody.trust import canonical
from custody.trust.envelope import pae
from custody.trust.keys import PrivateKey
from custody.trust.root import Person, Root
from custody.trust.statement import PAYLOAD_TYPE
from custody.trust.verify import read_trust, verify_bundle
from tests.bundles import PAYLOAD, Made, make, make_trust, sealed

SILENT = SilentReporter()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    """One that nobody has signed."""
    return sealed(tmp_path / "bundle")


def exported(bundle: Path, made: Made, **options: Any) -> bytes:
    return export_request(bundle, made.trust, SILENT, **options).dump()


@pytest.fixture
def by_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "SMALL_BYTES", 0)


def signed(data: bytes, key: PrivateKey, number: str | None = None) -> bytes:
    return sign_request(open_request(data, "r"), key, number).dump()


def attach(bundle: Path, signature: bytes, trust: Path) -> str:
    return sign_bundle(bundle, open_signature(signature, "s", trust), trust, SILENT)


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    content = json.loads(data)
    change(content)
    return canonical.dump(content)


def test_two_signatures_from_another_room_make_a_bundle_that_verifies(made: Made, bundle: Path) -> None:
    for key, name in ((made.builder, "alice"), (made.approver, "bob")):
        assert attach(bundle, signed(exported(bundle, made), key), made.trust) == name
    source = FolderSource(bundle)
    verified = verify_bundle(source, read_trust(source, made.fingerprint), SILENT)
    assert (verified.builders, verified.approvers) == (("alice",), ("bob",))


def test_attached_is_just_as_signed_here(made: Made, bundle: Path, tmp_path: Path) -> None:
    here = sealed(tmp_path / "here")
    sign_bundle(here, made.builder, made.trust, SILENT)
    attach(bundle, signed(exported(bundle, made), made.builder), made.trust)

    def names(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in (folder / "carrier").rglob("*"))

    assert names(here) == names(bundle)


def test_a_whole_request_is_counted_again(made: Made, bundle: Path) -> None:
    opened = open_request(exported(bundle, made), "r")
    assert opened.statement is not None
    assert (bundle / "carrier/statement.json").read_bytes() == opened.statement.dump()
    text = "\n".join(opened.lines(None))
    assert "small-1 (channel test, version 1, security epoch 1)" in text
    assert "1 models, 3.1 MB" in text
    assert "counted here" in text


def test_a_request_by_digest_is_signed_only_with_the_number_of_a_second_machine(
    made: Made, bundle: Path, by_digest: None, tmp_path: Path
) -> None:
    data = exported(bundle, made)
    assert b"words.gguf" in data and len(data) < 4096
    opened = open_request(data, "r")
    assert opened.statement is None
    assert "every line above" in opened.lines(None)[-1]
    with pytest.raises(InputInvalid, match="found none"):
        sign_request(opened, made.builder, None)
    with pytest.raises(DigestMismatch, match="request: expected the digest 00"):
        sign_request(opened, made.builder, "0" * 64)
    second = shutil.copytree(bundle, tmp_path / "second")
    number = hashlib.sha256(exported(second, made)).hexdigest()
    assert attach(bundle, signed(data, made.builder, number), made.trust) == "alice"


def test_whole_carries_the_statement_however_large(made: Made, bundle: Path, by_digest: None) -> None:
    assert open_request(exported(bundle, made, whole=True), "r").statement is not None


def test_what_is_signed_is_the_digest_of_the_pae(made: Made, bundle: Path) -> None:
    payload = (bundle / "carrier/statement.json").read_bytes()
    request = export_request(bundle, made.trust, SILENT)
    assert request.pae_sha384 == hashlib.sha384(pae(PAYLOAD_TYPE, payload)).hexdigest()
    carried = open_signature(signed(request.dump(), made.builder), "s", made.trust)
    assert made.builder.public.verifies(carried.sign(pae(PAYLOAD_TYPE, payload)), pae(PAYLOAD_TYPE, payload))


def test_the_difference_to_a_base_is_shown_and_who_signed_the_base(made: Made, tmp_path: Path) -> None:
    payload = {**PAYLOAD, "data/files/readme.txt": b"other", "data/files/new.txt": b"new"}
    del payload["data/files/empty"]
    new = sealed(tmp_path / "new", 2, payload)
    request = export_request(new, made.trust, SILENT, base=made.folder)
    assert request.difference is not None
    assert (request.difference.new.paths, request.difference.new.size_bytes) == (("data/files/new.txt",), 3)
    assert request.difference.changed.paths == ("data/files/readme.txt", "lock.json")
    assert request.difference.gone.paths == ("data/files/empty",)
    assert request.difference.signed_by == ("alice (builder, root)", "bob (approver, root)")
    opened = open_request(request.dump(), "r")
    assert "who has signed, base and difference;" in opened.lines(None)[-1]
    # The other room may hold the base's envelope, and then finds the difference itself.
    base = read_base(made.folder / "carrier/statement.dsse.json", None)
    told = opened.lines(base)
    assert "who has signed;" in told[-1]
    assert "             data/files/new.txt" in told
    assert any(line.startswith("base:      small-1") and line.endswith("no --trust was given") for line in told)


def test_a_mode_alone_is_a_change(made: Made, tmp_path: Path) -> None:
    new = sealed(tmp_path / "new", 1)
    statement = read_base(new, None).statement
    files = tuple(
        entry.model_copy(update={"mode": "0755"}) if entry.path == "data/files/readme.txt" else entry
        for entry in statement.predicate.files
    )
    predicate = statement.predicate.model_copy(update={"files": files})
    other = statement.model_copy(update={"predicate": predicate})
    assert read_base(made.folder, None).against(other).changed.paths == ("data/files/readme.txt",)


def test_refuses_a_false_base(made: Made, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made.folder, tmp_path / "copy")
    envelope = copy / "carrier/statement.dsse.json"
    content = json.loads(envelope.read_bytes())
    first, second = content["signatures"]
    first["sig"] = second["sig"]
    envelope.write_bytes(canonical.dump(content))
    with pytest.raises(SignatureRejected, match="is false"):
        export_request(bundle, made.trust, SILENT, base=copy)


def test_export_refuses_bytes_that_differ_from_the_statement(made: Made, bundle: Path) -> None:
    (bundle / "sealed/data/files/readme.txt").write_bytes(b"jello\n")
    with pytest.raises(DigestMismatch, match=r"readme\.txt"):
        export_request(bundle, made.trust, SILENT)


def test_attach_refuses_the_signature_of_another_bundle(made: Made, bundle: Path, tmp_path: Path) -> None:
    other = sealed(tmp_path / "other", 2)
    with pytest.raises(SignatureRejected, match="is over sha384"):
        attach(bundle, signed(exported(other, made), made.builder), made.trust)
    assert not (bundle / "carrier/statement.dsse.json").exists()


def test_attach_refuses_a_false_signature_that_names_the_right_bundle(made: Made, bundle: Path) -> None:
    data = signed(exported(bundle, made), made.approver)

    def claim(content: dict[str, Any]) -> None:
        content["keyid"] = made.builder.public.keyid

    with pytest.raises(SignatureRejected, match="is false"):
        attach(bundle, changed(data, claim), made.trust)
    assert not (bundle / "carrier/statement.dsse.json").exists()


def test_attach_refuses_an_unknown_key(made: Made, bundle: Path) -> None:
    with pytest.raises(SignatureRejected, match="no person of"):
        attach(bundle, signed(exported(bundle, made), PrivateKey.generate()), made.trust)


def test_attach_refuses_a_revoked_key_and_one_without_the_role(bundle: Path, tmp_path: Path) -> None:
    alice, bob, carol = (PrivateKey.generate() for _ in range(3))
    persons = (
        Person("alice", ("root", "builder"), (alice.public,)),
        Person("bob", ("root", "approver"), (bob.public,)),
        Person("carol", ("root", "recovery"), (carol.public,)),
    )
    trust = tmp_path / "trust"
    root = Root(1, persons, {"root": 2, "builder": 1, "approver": 1})
    assert make_trust(trust, root, [alice, bob]) == root.fingerprint
    data = export_request(bundle, trust, SILENT).dump()
    with pytest.raises(TrustRejected, match="neither builder nor approver"):
        attach(bundle, signed(data, carol), trust)
    TrustFolder(trust).revoke({alice.public.keyid: "lost"}, {})
    for key in (bob, carol):
        TrustFolder(trust).sign(key)
    with pytest.raises(TrustRejected, match="revoked: lost"):
        attach(bundle, signed(data, alice), trust)
    assert not (bundle / "carrier/statement.dsse.json").exists()


def _other_version(content: dict[str, Any]) -> None:
    content["summary"]["bundle"]["version"] = 2


def _other_statement(content: dict[str, Any]) -> None:
    content["statement"] = content["statement"].replace("small", "large")


def _other_digest(content: dict[str, Any]) -> None:
    content["pae_sha384"] = "0" * 96


def _other_statement_digest(content: dict[str, Any]) -> None:
    content["statement_digest"] = "0" * 64


def _other_lock(content: dict[str, Any]) -> None:
    content["lock"] += " "


def _no_lock(content: dict[str, Any]) -> None:
    content["lock"] = None


def _unknown_field(content: dict[str, Any]) -> None:
    content["note"] = "please"


def _escape(content: dict[str, Any]) -> None:
    content["signed_by"] = ["\x1b[2Jalice"]


def _many_paths(content: dict[str, Any]) -> None:
    group = {"files": 1, "size_bytes": 1, "paths": ["x"] * 21}
    content["difference"] = {"base": "a", "base_digest": "0" * 64, "signed_by": [], "new": group}
    content["difference"] |= {"changed": group, "gone": group}


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (_other_version, BundleMalformed, "summary: is not that of the Statement"),
        (_other_statement, DigestMismatch, "pae_sha384"),
        (_other_digest, DigestMismatch, "pae_sha384"),
        (_other_statement_digest, DigestMismatch, "statement_digest"),
        (_other_lock, DigestMismatch, r"lock\.json"),
        (_no_lock, BundleMalformed, "Statement and lock, or neither"),
        (_unknown_field, BundleMalformed, "note"),
        (_escape, BundleMalformed, "signed_by"),
        (_many_paths, BundleMalformed, "paths"),
    ],
)
def test_the_other_room_refuses_a_changed_request(
    made: Made, bundle: Path, change: Callable[[dict[str, Any]], None], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        open_request(changed(exported(bundle, made), change), "r")


def test_the_other_room_refuses_a_changed_summary_by_its_number(made: Made, bundle: Path, by_digest: None) -> None:
    data = exported(bundle, made)
    opened = open_request(changed(data, _other_version), "r")
    with pytest.raises(DigestMismatch, match="request: expected the digest"):
        opened.require(hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("damage", [b" ", b"\n", b"{}"])
def test_refuses_what_is_not_canonical(made: Made, bundle: Path, damage: bytes) -> None:
    data = exported(bundle, made)
    with pytest.raises(BundleMalformed, match=r"not (in )?canonical"):
        open_request(data + damage, "r")
    with pytest.raises(BundleMalformed, match=r"not (in )?canonical"):
        open_signature(signed(data, made.builder) + damage, "s", made.trust)


def test_refuses_what_is_too_large(made: Made, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = exported(bundle, made)
    with pytest.raises(BundleMalformed, match="at most 8192"):
        open_signature(b" " * 8193, "s", made.trust)
    monkeypatch.setattr(requests, "LIMIT_BYTES", len(data) - 1)
    with pytest.raises(BundleMalformed, match="at most"):
        open_request(data, "r")
    with pytest.raises(InputInvalid, match="would be over"):
        export_request(bundle, made.trust, SILENT)


def test_refuses_a_signature_that_is_not_base64(made: Made, bundle: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["sig"] = "???"

    with pytest.raises(BundleMalformed, match="sig"):
        open_signature(changed(signed(exported(bundle, made), made.builder), spoil), "s", made.trust)


def test_a_carried_signature_signs_nothing_else(made: Made, bundle: Path) -> None:
    carried = open_signature(signed(exported(bundle, made), made.builder), "s", made.trust)
    with pytest.raises(SignatureRejected, match="is over sha384"):
        carried.sign(b"something else")
    assert isinstance(carried, CarriedSignature)


def test_compares_with_a_base_only_what_it_can_see(made: Made, bundle: Path, by_digest: None) -> None:
    opened: Opened = open_request(exported(bundle, made), "r")
    with pytest.raises(InputInvalid, match="no Statement to compare"):
        opened.lines(read_base(made.folder, None))
