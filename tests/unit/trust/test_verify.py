"""Verification in this process, case by case; `tests/attack` runs the commands on the same kinds of lies."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundler.bundle.read import FolderSource
from bundler.bundle.sign import sign_bundle
from bundler.bundle.trustfolder import TrustFolder
from custody.errors import AirgapError, BundleMalformed, DigestMismatch, SignatureRejected, TrustRejected
from custody.report import SilentReporter
from custody.trust import canonical, statement
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.verify import VerifiedBundle, read_trust, verify_bundle, verify_statement, verify_unsigned
from tests import bundles

#: Beside the usual: a long file that has no leaf file, and one that ends where a leaf ends.
PAYLOAD = {
    **bundles.PAYLOAD,
    "upstream/long.txt": b"0123456789abcdef" * ((1 << 16) + 1),
    "data/files/mib": bytes(1 << 20),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bundles.Made:
    return bundles.make(tmp_path_factory.mktemp("good"), PAYLOAD)


@pytest.fixture
def folder(made: bundles.Made, tmp_path: Path) -> Path:
    shutil.copytree(made.folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def verify(folder: Path, made: bundles.Made) -> VerifiedBundle:
    source = FolderSource(folder)
    return verify_bundle(source, read_trust(source, made.fingerprint), SilentReporter())


def test_a_good_bundle_is_accepted_and_its_reader_yields_what_was_signed(folder: Path, made: bundles.Made) -> None:
    found = verify(folder, made)
    assert (found.builders, found.approvers) == (("alice",), ("bob",))
    assert found.offer.identity.id == "small-1"
    assert found.trust.root.fingerprint == made.fingerprint
    model = found.entry("data/models/words.gguf")
    assert b"".join(found.chunks(model)) == bundles.MODEL
    assert len(found.leaves(model)) == 4
    assert found.leaves(found.entry("data/files/empty")) == []
    long = found.entry("upstream/long.txt")
    parts = [PAYLOAD["upstream/long.txt"][i : i + (1 << 20)] for i in (0, 1 << 20)]
    assert found.leaves(long) == [hashlib.sha256(part).digest() for part in parts]
    assert found.read("data/models/words.gguf") == bundles.MODEL
    assert found.read("data/files/readme.txt", 6) == b"hello\n"
    assert b"".join(found.chunks(long)) == PAYLOAD["upstream/long.txt"]
    assert found.read("data/files/readme.txt") == b"hello\n"
    assert [entry.path for entry in found.entries("data/files/")] == [
        "data/files/empty",
        "data/files/mib",
        "data/files/readme.txt",
    ]
    with pytest.raises(BundleMalformed, match="at most 3 expected"):
        found.read("data/files/readme.txt", 3)
    with pytest.raises(BundleMalformed, match="names no such file"):
        found.entry("data/files/none")
    with pytest.raises(TypeError, match=r"only custody\.trust\.verify"):
        VerifiedBundle(found.statement, found.trust, found.builders, found.approvers, found.source, object())


def test_other_bits_of_a_mode_mean_nothing(folder: Path, made: bundles.Made) -> None:
    (folder / "sealed/data/files/readme.txt").chmod(0o777)
    verify(folder, made)


class Watching(SilentReporter):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.done: list[int] = []

    @contextmanager
    def meter(self, label: str, total_bytes: int) -> Iterator[Watching]:
        self.told.append((label, total_bytes))
        yield self

    def advance(self, size_bytes: int) -> None:
        self.done.append(size_bytes)


def test_progress_is_that_of_every_byte(folder: Path, made: bundles.Made) -> None:
    source, watching = FolderSource(folder), Watching()
    found = verify_bundle(source, read_trust(source, made.fingerprint), watching)
    total = sum(entry.size_bytes for entry in found.entries())
    assert watching.told == [("verify", total)]
    assert sum(watching.done) == total


def test_a_bundle_of_profile_cnsa_is_compared_by_sha384(tmp_path: Path) -> None:
    made = bundles.make(tmp_path / "cnsa", PAYLOAD, profile="cnsa")
    found = verify(made.folder, made)
    model, long = found.entry("data/models/words.gguf"), found.entry("upstream/long.txt")
    assert (found.statement.sums_name, model.algorithm) == ("SHA384SUMS", "sha384")
    assert {len(leaf) for entry in (model, long) for leaf in found.leaves(entry)} == {48}
    assert b"".join(found.chunks(model)) == bundles.MODEL
    assert len(found.offer.statement_digest) == 96
    _same_length("sealed/upstream/long.txt")(made.folder)
    with pytest.raises(DigestMismatch, match=r"long\.txt: expected sha384"):
        verify(made.folder, made)


def test_a_root_vouches_for_its_own_digest_alone(made: bundles.Made, tmp_path: Path) -> None:
    other = bundles.sealed(tmp_path / "other", payload=PAYLOAD, digest="sha384")
    for key in (made.builder, made.approver):
        sign_bundle(other, key, made.trust, SilentReporter())
    with pytest.raises(TrustRejected, match="profile p384: expected digest sha256, found sha384"):
        verify(other, made)


def test_facts_are_those_of_the_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(statement, "facts", lambda *_: b"version=9\n")
        made = bundles.make(tmp_path)
    with pytest.raises(BundleMalformed, match="does not say what the Statement says"):
        verify(made.folder, made)


def test_a_root_lies_under_its_own_number(tmp_path: Path) -> None:
    made = bundles.make(tmp_path)
    trust = TrustFolder(made.trust)
    trust.rotate((), (), {"root": 1})
    for key in (made.builder, made.approver):
        trust.sign(key)
    pinned = trust.newest_root()[0].fingerprint
    folder = bundles.sealed(tmp_path / "second", 2)
    for key in (made.builder, made.approver):
        sign_bundle(folder, key, made.trust, SilentReporter())
    source = FolderSource(folder)
    verify_statement(source, read_trust(source, pinned))
    for kind in ("json", "flat"):
        shutil.copy(folder / f"carrier/trust/2.root.{kind}", folder / f"carrier/trust/1.root.{kind}")
    with pytest.raises(TrustRejected, match=r"1\.root\.json: expected version 1, found 2"):
        read_trust(source, pinned)


@pytest.mark.parametrize("name", ["9.root.flat", "revocations.flat"])
def test_a_flat_twin_has_its_document_beside_it(folder: Path, made: bundles.Made, name: str) -> None:
    (folder / "carrier/trust" / name).write_text("x")
    with pytest.raises(BundleMalformed, match=rf"{name}: the twin of nothing"):
        verify(folder, made)


def test_no_document_is_setuid(folder: Path, made: bundles.Made) -> None:
    (folder / "carrier/statement.json").chmod(0o777)  # as some file systems have all their files
    verify(folder, made)
    (folder / "carrier/statement.json").chmod(0o4644)
    with pytest.raises(BundleMalformed, match=r"statement\.json: setuid"):
        verify(folder, made)


def test_a_fingerprint_of_an_odd_length_is_no_fingerprint(folder: Path) -> None:
    with pytest.raises(TrustRejected, match="expected 64 or 96"):
        read_trust(FolderSource(folder), "0" * 65)


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def _longer(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.write(b"x")

    return harm


def _link(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return harm


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _same_length(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return harm


def _envelope(change: Callable[[Envelope], Envelope]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / "carrier/statement.dsse.json"
        path.write_bytes(change(Envelope.parse(path.read_bytes(), "envelope")).dump())

    return harm


def _stray_signature(folder: Path) -> None:
    (folder / "carrier/sig" / f"{'0' * 64}.sig").write_bytes(b"x")


def _other_signature(folder: Path) -> None:
    first = min((folder / "carrier/sig").iterdir())
    first.write_bytes(b"x")


@pytest.mark.parametrize(
    ("harm", "kind", "reason"),
    [
        (_write("carrier/notes.txt", b"x"), BundleMalformed, "notes.txt: not a file that may lie here"),
        (_write("carrier/statement.json", b"{}"), SignatureRejected, "differs from the payload"),
        (_write("carrier/trust/1.root.flat", b"x"), BundleMalformed, "not the flat twin"),
        (_write("sealed/extra", b"x"), BundleMalformed, "extra, nobody signed it"),
        (_write("sealed/SHA256SUMS", b"x"), DigestMismatch, "SHA256SUMS"),
        (_remove("sealed/data/files/readme.txt"), BundleMalformed, "readme.txt: missing"),
        (_remove("carrier/statement.dsse.json"), BundleMalformed, "No such file"),
        (_link("sealed/data/files/readme.txt"), BundleMalformed, "expected a regular file, found a link"),
        (_link("carrier/statement.json"), BundleMalformed, "statement.json"),
        (_longer("sealed/data/files/readme.txt"), BundleMalformed, "expected 6 bytes, found 7"),
        (lambda f: (f / "sealed/data/files/readme.txt").chmod(0o4755), BundleMalformed, "readme.txt: setuid"),
        (_same_length("sealed/data/models/words.gguf"), DigestMismatch, "leaf 3 of 4"),
        (_same_length("sealed/leaves/models/words.gguf.leaves"), DigestMismatch, "words.gguf.leaves: leaf 0 of 1"),
        (_same_length("sealed/upstream/long.txt"), DigestMismatch, "upstream/long.txt: expected sha256"),
        (_envelope(lambda e: Envelope("text/plain", e.payload, e.signatures)), SignatureRejected, "not a Statement's"),
        (_envelope(lambda e: Envelope(e.payload_type, e.payload, {})), SignatureRejected, r"1 builder\(s\), found 0"),
        (_envelope(lambda e: Envelope(e.payload_type, b"{}", e.signatures)), SignatureRejected, "is false"),
        (_stray_signature, SignatureRejected, "is not in statement.dsse.json"),
        (_other_signature, SignatureRejected, "differs from the signature"),
    ],
)
def test_refuses(
    folder: Path, made: bundles.Made, harm: Callable[[Path], None], kind: type[AirgapError], reason: str
) -> None:
    harm(folder)
    with pytest.raises(kind, match=reason):
        verify(folder, made)


def test_a_file_that_grows_between_two_looks_is_refused(folder: Path, made: bundles.Made) -> None:
    source = FolderSource(folder)
    found = verify_statement(source, read_trust(source, made.fingerprint))
    _longer("sealed/data/files/mib")(folder)
    with pytest.raises(DigestMismatch, match="longer than the 1048576 bytes"):
        found.read("data/files/mib")
    _same_length("sealed/leaves/models/words.gguf.leaves")(folder)
    with pytest.raises(DigestMismatch, match=r"expected the leaves of data/models/words\.gguf with root"):
        found.leaves(found.entry("data/models/words.gguf"))
    _longer("sealed/leaves/models/words.gguf.leaves")(folder)
    with pytest.raises(DigestMismatch, match="found broken leaves"):
        found.leaves(found.entry("data/models/words.gguf"))


def test_a_signed_list_that_is_not_the_statements_is_refused(folder: Path, made: bundles.Made, tmp_path: Path) -> None:
    """Builder and approver signed a Statement whose list names other files: both were deceived alike."""
    path = folder / "carrier/statement.json"
    content = json.loads(path.read_bytes())
    content["predicate"]["files"] = content["predicate"]["files"][1:]
    path.write_bytes(canonical.dump(content))
    _resign(folder, made)
    with pytest.raises(BundleMalformed, match="does not list the files of the Statement"):
        verify(folder, made)


def test_a_huge_file_without_leaves_is_not_read(folder: Path, made: bundles.Made) -> None:
    path = folder / "carrier/statement.json"
    content = json.loads(path.read_bytes())
    for entry in content["predicate"]["files"]:
        if entry["path"] == "upstream/long.txt":
            entry["size_bytes"] = 1 << 40
    path.write_bytes(canonical.dump(content))
    os.truncate(folder / "sealed/upstream/long.txt", 1 << 40)
    found = statement.parse(path.read_bytes(), "statement")
    with pytest.raises(BundleMalformed, match="at most"):
        verify_unsigned(FolderSource(folder), found, SilentReporter())


def _resign(folder: Path, made: bundles.Made) -> None:
    payload = (folder / "carrier/statement.json").read_bytes()
    envelope = Envelope(statement.PAYLOAD_TYPE, payload, {})
    for key in (made.builder, made.approver):
        envelope = envelope.signed_by(key)
        (folder / "carrier/sig" / f"{key.public.keyid}.sig").write_bytes(envelope.signatures[key.public.keyid])
    (folder / "carrier/statement.dsse.json").write_bytes(envelope.dump())


def test_flat_twin_of_a_list_is_compared(made: bundles.Made, tmp_path: Path) -> None:
    trust = TrustFolder(made.trust)
    trust.revoke({}, {"0" * 64: "nonsense"})
    for key in (made.builder, made.approver):
        trust.sign(key)
    bundle = bundles.sealed(tmp_path / "bundle", 2)
    for key in (made.builder, made.approver):
        sign_bundle(bundle, key, made.trust, SilentReporter())
    assert verify(bundle, made).trust.revocations.statements == {"0" * 64: "nonsense"}
    (bundle / "carrier/trust/revocations.flat").write_bytes(b"airgap-revocations 1\nnumber 1\n")
    with pytest.raises(BundleMalformed, match="not the flat twin of revocations"):
        verify(bundle, made)


def test_a_remembered_root_that_is_newer_than_those_carried_judges(tmp_path: Path) -> None:
    own = bundles.make(tmp_path / "own", PAYLOAD)
    trust = TrustFolder(own.trust)
    trust.rotate((), (), {})
    for key in (own.builder, own.approver):
        trust.sign(key)
    newer = read_trust(FolderSource(own.folder), own.fingerprint, trust.trust().kept)
    assert newer.root.version == 2


KEY = PrivateKey.generate()
GOOD = Envelope("text/plain", b"x", {}).signed_by(KEY)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"payload": "eA==", "payloadType": "t", "signatures": [], "more": 1}, "expected payload"),
        ({"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "0" * 64, "sig": "eA=="}] * 65}, "more than"),
        ({"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "0" * 64}]}, "a signature has a keyid"),
        ({"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "AB", "sig": "eA=="}]}, "a signature has"),
        ({"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "0" * 64, "sig": "eA=="}] * 2}, "two signat"),
        ({"payload": "eB==", "payloadType": "t", "signatures": []}, "canonical spelling"),
        ({"payload": "e", "payloadType": "t", "signatures": []}, "base64"),
        ({"payload": 1, "payloadType": "t", "signatures": []}, "not a DSSE envelope"),
        ([], "not a DSSE envelope"),
    ],
)
def test_other_envelopes_are_refused(content: object, reason: str) -> None:
    with pytest.raises(BundleMalformed, match=reason):
        Envelope.parse(canonical.dump(content), "envelope")


def test_signatures_of_strangers_are_passed_over_and_false_ones_refuse() -> None:
    keys = {KEY.public.keyid: KEY.public}
    assert GOOD.signed_by(PrivateKey.generate()).signers(keys, "it") == {KEY.public.keyid}
    with pytest.raises(SignatureRejected, match="is false"):
        Envelope("text/plain", b"y", GOOD.signatures).signers(keys, "it")
    assert base64.b64encode(GOOD.signatures[KEY.public.keyid]).decode() in GOOD.dump().decode()


def test_documents_over_their_limit_are_not_parsed() -> None:
    with pytest.raises(BundleMalformed, match="at most 2 expected"):
        canonical.parse(b"[1]", "it", 2)
    assert canonical.parse(b"[1]", "it", 3) == [1]


@pytest.mark.parametrize(("data", "at"), [(b"[1]\n", 3), (b"[1, 2]", 3), (b" [1]", 0), (b"[1,2 ]", 4)])
def test_another_spelling_is_told_by_its_first_byte(data: bytes, at: int) -> None:
    with pytest.raises(BundleMalformed, match=rf"first at byte {at}$"):
        canonical.parse(data, "it", 100)


def test_an_envelope_holds_sixty_four_signatures() -> None:
    signatures = {f"{number:064x}": b"x" for number in range(64)}
    assert Envelope.parse(Envelope("t", b"x", signatures).dump(), "it").signatures == signatures
    with pytest.raises(BundleMalformed, match="more than 64 signatures"):
        Envelope.parse(Envelope("t", b"x", {**signatures, "f" * 64: b"x"}).dump(), "it")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["predicate"]["files"].reverse(), "not sorted"),
        (lambda c: c["predicate"].pop("bundle"), "predicate.bundle"),
        (lambda c: c["subject"].append(c["subject"][0]), "subject"),
        (lambda c: c["predicate"]["files"][0].update(mode="4755"), "mode"),
        (lambda c: c["predicate"]["files"][0].update(path="../x"), "not a path"),
        (lambda c: c["predicate"]["bundle"].update(version=0), "version"),
        (lambda c: c["predicate"]["bundle"].update(version="1"), "version"),
        (lambda c: c.update(more=1), "more"),
        (lambda c: c["predicate"]["bundle"].update(digest="sha384"), "expected sha384 and SHA384SUMS throughout"),
        (lambda c: c["predicate"]["files"][0].update(sha384="0" * 96), "expected sha256 and SHA256SUMS throughout"),
        (lambda c: c["predicate"]["files"][0].update(leaf_root="0" * 96), "expected sha256"),
        (lambda c: c["subject"][0].update(name="SHA384SUMS"), "expected sha256"),
        (lambda c: c["subject"][0].update(digest={"sha384": "0" * 96}), "expected sha256"),
        (lambda c: c["subject"][0].update(digest={"sha256": "0" * 96}), "expected sha256"),
        (lambda c: c["subject"][0]["digest"].update(sha384="0" * 96), "digest"),
    ],
)
def test_other_statements_are_refused(
    made: bundles.Made, change: Callable[[dict[str, object]], object], reason: str
) -> None:
    content = json.loads((made.folder / "carrier/statement.json").read_bytes())
    change(content)
    with pytest.raises(BundleMalformed, match=reason):
        statement.parse(canonical.dump(content), "statement")
