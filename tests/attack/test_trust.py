"""Lies about who vouches: roots, revocations, signatures, the Statement and its list; all are told to all judges.

Some are told by outsiders, who hold no key. Others need signers who lie together (`Forger` signs anything): even they
get nothing past a reader that could be read in two ways.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from bundler.bundle.sign import sign_bundle
from bundler.bundle.trustfolder import TrustFolder, statement_digest
from custody.report import SilentReporter
from custody.trust import canonical, statement
from custody.trust import revocations as lists
from custody.trust import root as roots
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey, PublicKey
from custody.trust.leaves import tree_root
from custody.trust.profile import P384_SCHEME
from custody.trust.revocations import Revocations
from custody.trust.root import Person, Root
from tests import bundles
from tests.attack.judges import require_accepted, require_refused

ALICE, BOB, CAROL, DORA, BOB2, MALLORY = (PrivateKey.generate() for _ in range(6))
PEOPLE = (
    Person("alice", ("builder", "root"), (ALICE.public,)),
    Person("bob", ("approver", "root"), (BOB.public,)),
    Person("carol", ("root",), (CAROL.public,)),
)
DORA_ = Person("dora", ("builder", "root"), (DORA.public,))
THRESHOLDS = {"root": 2, "builder": 1, "approver": 1}
PAYLOAD = {"data/files/readme.txt": b"hello\n", "data/models/words.gguf": b"words"}


@dataclass(frozen=True)
class World:
    """A bundle under the third of three roots, with a list of revocations that has alice's old key on it.

    Attributes:
        fingerprints: of the roots, oldest first.
        other: another bundle of the same signers.
    """

    folder: Path
    other: Path
    fingerprints: tuple[str, ...]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Alice's key was lost: it is revoked in list 1, and root 2 has dora in her place; root 3 wants three persons."""
    folder = tmp_path_factory.mktemp("world")
    here = TrustFolder(folder / "trust")
    pinned = [bundles.make_trust(folder / "trust", Root(1, PEOPLE, THRESHOLDS), [ALICE, BOB, CAROL])]
    for add, remove, thresholds in (((DORA_,), ("alice",), {}), ((), (), {"root": 3})):
        here.rotate(add, remove, thresholds)
        for key in (BOB, CAROL, DORA):
            here.sign(key)
        pinned.append(here.newest_root()[0].fingerprint)
    (folder / "trust/revocations.json").write_bytes(_listed(LOST, BOB, CAROL, DORA))
    made = []
    for version in (1, 2):
        bundle = bundles.sealed(folder / f"bundle-{version}", version, PAYLOAD, lowest_revocation=1)
        for key in (DORA, BOB):
            sign_bundle(bundle, key, folder / "trust", SilentReporter())
        made.append(bundle)
    return World(made[0], made[1], tuple(pinned))


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    shutil.copytree(world.folder, tmp_path / "bundle")
    return tmp_path / "bundle"


LOST = Revocations(1, {ALICE.public.keyid: "token lost"})


def _listed(content: Revocations, *keys: PrivateKey) -> bytes:
    return _enveloped(lists.PAYLOAD_TYPE, content.payload(), *keys)


def _enveloped(kind: str, payload: bytes, *keys: PrivateKey) -> bytes:
    envelope = Envelope(kind, payload, {})
    for key in keys:
        envelope = envelope.signed_by(key)
    return envelope.dump()


def _read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "carrier" / name).read_bytes())
    return content


def _put(folder: Path, name: str, data: bytes | dict[str, Any]) -> None:
    (folder / "carrier" / name).write_bytes(data if isinstance(data, bytes) else canonical.dump(data))


def _flipped(text: str, byte: int = 20) -> str:
    data = bytearray(base64.b64decode(text))
    data[byte] ^= 1
    return base64.b64encode(data).decode()


DSSE = "statement.dsse.json"


def _signatures(change: Callable[[list[dict[str, str]]], object], name: str = DSSE) -> Callable[[Path], None]:
    """Change the signatures of an envelope; the files in `sig/` follow, as an attacker would have it."""

    def harm(folder: Path) -> None:
        content = _read(folder, name)
        change(content["signatures"])
        _put(folder, name, content)
        for file in (folder / "carrier/sig").iterdir() if name == DSSE else ():
            file.unlink()
        for entry in content["signatures"] if name == DSSE else ():
            data = base64.b64decode(entry["sig"].replace("*", "A") + "==", validate=False)
            (folder / f"carrier/sig/{entry['keyid']}.sig").write_bytes(data)
        if not any((folder / "carrier/sig").iterdir()):
            (folder / "carrier/sig").rmdir()

    return harm


def _swap(entries: list[dict[str, str]]) -> None:
    entries[0]["sig"], entries[1]["sig"] = entries[1]["sig"], entries[0]["sig"]


def _other_spelling(entries: list[dict[str, str]]) -> None:
    """Base64 whose last, unused bits are set: the same bytes in another spelling."""
    data = base64.b64decode(entries[0]["sig"])
    entries[0]["sig"] = base64.b64encode(data + b"\0" * (-(len(data) + 1) % 3)).decode()[:-2] + "B="


def _cut(entries: list[dict[str, str]]) -> None:
    entries[0]["sig"] = base64.b64encode(base64.b64decode(entries[0]["sig"])[:-4]).decode()


def _longest_and_more(folder: Path) -> None:
    """A byte after a signature of 104 bytes: openssl reads no more of the file than that, and would not see it."""
    data = (folder / "carrier/statement.json").read_bytes()
    while True:
        envelope = Envelope(statement.PAYLOAD_TYPE, data, {}).signed_by(DORA).signed_by(BOB)
        if len(envelope.signatures[BOB.public.keyid]) == 104:
            break
    longer = {**envelope.signatures, BOB.public.keyid: envelope.signatures[BOB.public.keyid] + b"x"}
    _put(folder, DSSE, Envelope(statement.PAYLOAD_TYPE, data, longer).dump())
    for keyid, signature in longer.items():
        _put(folder, f"sig/{keyid}.sig", signature)


def _under_another_id(entries: list[dict[str, str]]) -> None:
    """The one signature twice: under its key's id, and under the id of the same key compressed."""
    keep = next(entry for entry in entries if entry["keyid"] == DORA.public.keyid)
    other = {"keyid": hashlib.sha256(_compressed(DORA.public)).hexdigest(), "sig": keep["sig"]}
    entries[:] = sorted([keep, other], key=lambda entry: entry["keyid"])


def _replayed(world: World) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        content = _read(folder, DSSE)
        content["signatures"] = _read(world.other, DSSE)["signatures"]
        _put(folder, DSSE, content)
        shutil.copytree(world.other / "carrier/sig", folder / "carrier/sig", dirs_exist_ok=True)

    return harm


def _text(change: Callable[[bytes], bytes], name: str = DSSE) -> Callable[[Path], None]:
    return lambda folder: _put(folder, name, change((folder / "carrier" / name).read_bytes()))


def _remove(*names: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for name in names:
            (folder / "carrier" / name).unlink()

    return harm


def _only_root(number: int) -> Callable[[Path], None]:
    gone = {1, 2, 3} - {number}
    return _remove(*(f"trust/{n}.root.{kind}" for n in gone for kind in ("json", "flat")))


def _copied(source: str, target: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for kind in ("json", "flat"):
            shutil.copy(folder / f"carrier/{source}.{kind}", folder / f"carrier/{target}.{kind}")

    return harm


def _without(*keys: PrivateKey) -> Callable[[list[dict[str, str]]], None]:
    ids = {key.public.keyid for key in keys}

    def change(entries: list[dict[str, str]]) -> None:
        entries[:] = [entry for entry in entries if entry["keyid"] not in ids]

    return change


def _signed_by(*keys: PrivateKey) -> Callable[[Path], None]:
    """The Statement, signed by others."""

    def harm(folder: Path) -> None:
        _sign_statement(folder, (folder / "carrier/statement.json").read_bytes(), keys)

    return harm


def _sign_statement(folder: Path, data: bytes, keys: Iterable[PrivateKey]) -> None:
    _put(folder, "statement.json", data)
    envelope = Envelope(statement.PAYLOAD_TYPE, data, {})
    for file in (folder / "carrier/sig").iterdir():
        file.unlink()
    for key in keys:
        envelope = envelope.signed_by(key)
    _put(folder, DSSE, envelope.dump())
    for keyid, signature in envelope.signatures.items():
        _put(folder, f"sig/{keyid}.sig", signature)


def _list(content: Revocations, *keys: PrivateKey) -> Callable[[Path], None]:
    """Another list of revocations, with its flat twin."""

    def harm(folder: Path) -> None:
        _put(folder, "trust/revocations.json", _listed(content, *keys))
        _put(folder, "trust/revocations.flat", content.flat())

    return harm


def _revoke_statement(folder: Path) -> None:
    content = Revocations(2, LOST.keys, {statement_digest(folder): "answers nonsense"})
    _list(content, BOB, CAROL, DORA)(folder)


def _revoke_bob(folder: Path) -> None:
    """Bob's key goes on the list; enough of the others sign it under a root that needs two."""
    eve = PrivateKey.generate()
    people = (Person("bob", ("approver", "root"), (BOB.public,)), DORA_, Person("eve", ("root",), (eve.public,)))
    root = Root(4, people, THRESHOLDS)
    _put(folder, "trust/4.root.json", _enveloped(roots.PAYLOAD_TYPE, root.payload(), BOB, CAROL, DORA))
    _put(folder, "trust/4.root.flat", root.flat())
    _list(Revocations(2, {**LOST.keys, BOB.public.keyid: "gone"}), DORA, eve)(folder)


def _list_zero(folder: Path) -> None:
    content = json.loads(LOST.payload())
    flat = LOST.flat().replace(b"number 1", b"number 0")
    payload = canonical.dump({**content, "number": 0, "flat_sha384": hashlib.sha384(flat).hexdigest()})
    _put(folder, "trust/revocations.json", _enveloped(lists.PAYLOAD_TYPE, payload, BOB, CAROL, DORA))
    _put(folder, "trust/revocations.flat", flat)


def _extra_field(folder: Path) -> None:
    content = json.loads(base64.b64decode(_read(folder, "trust/3.root.json")["payload"]))
    payload = canonical.dump({**content, "version": 4, "with": "more"})
    _put(folder, "trust/4.root.json", _enveloped(roots.PAYLOAD_TYPE, payload, BOB, CAROL, DORA))
    _put(folder, "trust/4.root.flat", (folder / "carrier/trust/3.root.flat").read_bytes())


def _wrong_kind_of_root(folder: Path) -> None:
    _put(folder, "trust/4.root.json", (folder / "carrier/trust/revocations.json").read_bytes())


def _sealed_of_another(world: World) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        shutil.rmtree(folder / "sealed")
        shutil.copytree(world.other / "sealed", folder / "sealed")

    return harm


Harm = Callable[[Path], None]
Case = tuple[str, Harm | Callable[[World], Harm], int, str, int]

# name of the case, harm, exit code of `airgap verify`, what its message names, exit code of the two scripts
SIGNATURES: list[Case] = [
    ("approver_stripped", _signatures(_without(BOB)), 12, "1 approver(s), found 0", 12),
    ("all_stripped", _signatures(_without(BOB, DORA)), 12, "1 builder(s), found 0", 12),
    ("swapped", _signatures(_swap), 12, "is false", 12),
    ("replayed", _replayed, 12, "is false", 12),
    ("truncated", _signatures(_cut), 12, "is false", 12),
    ("duplicated", _signatures(lambda x: x.append(x[0])), 13, "two signatures of key", 13),
    ("flipped", _signatures(lambda x: x[0].update(sig=_flipped(x[0]["sig"]))), 12, "is false", 12),
    ("trailing_byte", _longest_and_more, 12, "is false", 12),
    ("empty", _signatures(lambda x: x[0].update(sig="")), 12, "is false", 12),
    ("not_base64", _signatures(lambda x: x[0].update(sig="*" + x[0]["sig"][1:])), 13, "base64", 13),
    ("base64_in_another_spelling", _signatures(_other_spelling), 13, "canonical spelling", 13),
    ("one_key_under_two_ids", _signatures(_under_another_id), 12, "1 approver(s), found 0", 12),
    ("too_many", _signatures(lambda x: x.extend({"keyid": f"{n:064x}", "sig": "AA=="} for n in range(64))),
     13, "more than 64", 13),
    ("wrong_role", _signed_by(DORA, CAROL), 12, "1 approver(s), found 0", 12),
    ("person_of_an_old_root", _signed_by(ALICE, BOB), 12, "1 builder(s), found 0", 12),
    ("stranger", _signed_by(DORA, MALLORY), 12, "1 approver(s), found 0", 12),
    ("long_and_unknown", _signatures(lambda x: x.append({"keyid": "f" * 64, "sig": "A" * 12_000})),
     13, "more than 8192 bytes", 13),
    ("file_bit", lambda f: _put(f, f"sig/{BOB.public.keyid}.sig", b"x" * 103), 12, ".sig: differs", 12),
    ("file_missing", _remove(f"sig/{BOB.public.keyid}.sig"), 13, ".sig: No such file", 13),
    ("file_that_the_envelope_lacks", lambda f: _put(f, f"sig/{'0' * 64}.sig", b"x"), 12, "is not in statement", 12),
    ("envelope_with_a_blank", _text(lambda x: x.replace(b'","', b'", "')), 13, "not in canonical form", 13),
    ("envelope_with_a_newline", _text(lambda x: x + b"\n"), 13, "not in canonical form", 13),
    ("envelope_with_more", _text(lambda x: x[:-1] + b',"x":1}'), 13, "not a DSSE envelope", 13),
    ("envelope_of_another_kind", _text(lambda x: x.replace(b"in-toto", b"in-toti")), 12, "payload type", 13),
    ("statement_beside_it_differs", _text(lambda x: x + b" ", "statement.json"), 12, "statement.json: differs", 12),
]  # fmt: skip
ROOTS: list[Case] = [
    ("old_root_alone", _only_root(1), 14, "expected the fingerprint", 14),
    ("gap", _remove("trust/2.root.json", "trust/2.root.flat"), 14, "expected the fingerprint", 14),
    ("gap_after_the_pinned_one", _copied("trust/3.root", "trust/5.root"), 14, "4.root.json: missing", 14),
    ("renumbered", _copied("trust/3.root", "trust/4.root"), 14, "expected version 4, found 3", 14),
    ("without_the_old_threshold", _signatures(_without(BOB, CAROL), "trust/2.root.json"), 12, "judged by root 1", 12),
    ("without_the_new_threshold", _signatures(_without(DORA), "trust/3.root.json"), 12, "judged by root 3", 12),
    ("false_signature", _signatures(lambda x: x[0].update(sig=_flipped(x[0]["sig"])), "trust/2.root.json"),
     12, "is false", 12),
    ("flat_twin_differs", _text(lambda x: x.replace(b"root 3", b"root 1"), "trust/3.root.flat"), 13, "flat twin", 13),
    ("flat_twin_missing", _remove("trust/3.root.flat"), 13, "3.root.flat", 13),
    ("older_flat_twin_differs", _text(lambda x: x.replace(b"root 2", b"root 1"), "trust/1.root.flat"),
     13, "1.root.flat: not the flat twin", 13),
    ("older_flat_twin_missing", _remove("trust/1.root.flat"), 13, "1.root.flat", 13),
    ("flat_twin_of_nothing", lambda f: _put(f, "trust/77.root.flat", b"x"), 13, "77.root.flat: the twin of", 13),
    ("not_an_envelope", _text(lambda x: b"{}", "trust/3.root.json"), 13, "not a DSSE envelope", 13),
    ("empty_file", _text(lambda x: b"", "trust/3.root.json"), 13, "not canonical JSON", 13),
    ("too_long", _text(lambda x: x + b" " * (1 << 20), "trust/3.root.json"), 13, "more than", 13),
    ("unknown_field", _extra_field, 14, "4.root.json: unknown fields", 14),
    ("another_kind_of_payload", _wrong_kind_of_root, 13, "payload type", 13),
]  # fmt: skip
REVOCATIONS: list[Case] = [
    ("taken_away", _remove("trust/revocations.json", "trust/revocations.flat"), 14, "number 1 or higher, found 0", 14),
    ("unsigned", _signatures(lambda x: x.clear(), "trust/revocations.json"), 12, "found 0", 12),
    ("too_few", _list(LOST, BOB, CAROL), 12, "3 root(s), found 2", 12),
    ("signed_with_a_key_that_it_revokes",
     _list(Revocations(1, {**LOST.keys, BOB.public.keyid: "x"}), BOB, CAROL, DORA), 12, "3 root(s), found 2", 12),
    ("false_signature", _signatures(lambda x: x[0].update(sig=_flipped(x[0]["sig"])), "trust/revocations.json"),
     12, "is false", 12),
    ("flat_twin_differs", _text(lambda x: x.split(b"key")[0], "trust/revocations.flat"), 13, "flat twin", 13),
    ("flat_twin_missing", _remove("trust/revocations.flat"), 13, "revocations.flat", 13),
    ("number_zero", _list_zero, 14, "fields that contradict", 14),
    ("bundle_revoked", _revoke_statement, 17, "answers nonsense", 17),
    ("signer_revoked", _revoke_bob, 12, "is revoked", 12),
]  # fmt: skip
MIXED: list[Case] = [("sealed_of_another_release", _sealed_of_another, 11, "SHA256SUMS: expected sha256", 11)]
OUTSIDERS = [
    pytest.param(*case[1:], id=f"{kind}-{case[0]}")
    for kind, cases in (
        ("signature", SIGNATURES), ("root", ROOTS), ("revocations", REVOCATIONS), ("mixed", MIXED)
    )
    for case in cases
]  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 3])
def test_all_accept_from_any_root_on_the_way(world: World, number: int) -> None:
    done = require_accepted(world.folder, world.fingerprints[number - 1])
    assert "root 3, from the fingerprint" in done["check"].stdout
    assert "revocations 1: 1 keys, 0 bundles" in done["check"].stdout


def test_signatures_by_unknown_keys_are_passed_over(world: World, copy: Path) -> None:
    _signed_by(DORA, BOB, MALLORY)(copy)
    require_accepted(copy, world.fingerprints[0])


@pytest.mark.parametrize(("harm", "code", "named", "shell_code"), OUTSIDERS)
def test_refuses(
    world: World, copy: Path, request: pytest.FixtureRequest, harm: Any, code: int, named: str, shell_code: int
) -> None:
    (harm(world) if harm in (_replayed, _sealed_of_another) else harm)(copy)
    newest = "old_root_alone" in request.node.name or "root-gap]" in request.node.name
    require_refused(copy, world.fingerprints[1 if newest else 0], code, shell_code, named)


def test_roots_before_the_pinned_one_have_their_twins_too(world: World, copy: Path) -> None:
    require_accepted(copy, world.fingerprints[2])
    _text(lambda x: x.replace(b"root 2", b"root 1"), "trust/1.root.flat")(copy)
    require_refused(copy, world.fingerprints[2], 13, 13, "1.root.flat: not the flat twin")


# --- Signers who lie together ----------------------------------------------------------------------------------------


def _compressed(key: PublicKey) -> bytes:
    """The same key with a compressed point, which has another id."""
    public = load_der_public_key(key.der)
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return bytes.fromhex("3046301006072a8648ce3d020106052b81040022033200") + point


def _hybrid(key: PublicKey) -> bytes:
    return key.der[:23] + bytes([6 + (key.der[-1] & 1)]) + key.der[24:]


def _off_curve(key: PublicKey) -> bytes:
    return key.der[:-1] + bytes([key.der[-1] ^ 1])


People = tuple[tuple[str, tuple[str, ...], tuple[bytes, ...]], ...]
GOOD: People = (("bob", ("approver",), (BOB.public.der,)), ("dora", ("builder", "root"), (DORA.public.der,)))


def _raw_root(people: People, thresholds: dict[str, int]) -> tuple[bytes, bytes]:
    """Payload and flat twin of a root that `Root` would not make."""
    lines = [
        "airgap-root 1",
        "version 1",
        "profile p384",
        *(f"threshold {role} {n}" for role, n in sorted(thresholds.items())),
    ]
    persons = []
    for name, held, keys in sorted(people):
        lines += [f"role {name} {role}" for role in held]
        ids = sorted((hashlib.sha256(der).hexdigest(), base64.b64encode(der).decode()) for der in keys)
        lines += [f"key {name} {keyid} {text}" for keyid, text in ids]
        listed = [{"keyid": keyid, "scheme": P384_SCHEME, "public": text} for keyid, text in ids]
        persons.append({"name": name, "roles": list(held), "keys": listed})
    flat = ("\n".join(lines) + "\n").encode()
    content = {
        "_type": "airgap-root",
        "schema_version": 1,
        "version": 1,
        "profile": "p384",
        "thresholds": thresholds,
        "persons": persons,
    }
    return canonical.dump({**content, "flat_sha384": hashlib.sha384(flat).hexdigest()}), flat


def _other(index: int, change: Callable[[PublicKey], bytes]) -> People:
    people = list(GOOD)
    name, held, _ = people[index]
    people[index] = (name, held, (change(BOB.public if index == 0 else DORA.public),))
    return tuple(people)


ONE = {"root": 1, "builder": 1, "approver": 1}
VOID = [
    ("key_under_two_persons", (*GOOD, ("zoe", ("approver",), (BOB.public.der,))), ONE, "is under"),
    (
        "builder_is_approver",
        (GOOD[0], ("dora", ("approver", "builder", "root"), (DORA.public.der,))),
        ONE,
        "nobody may",
    ),
    ("compressed_key", _other(0, _compressed), ONE, "encoding"),
    ("hybrid_key", _other(0, _hybrid), ONE, "public key"),
    ("key_off_the_curve", _other(0, _off_curve), ONE, "public key"),
    ("no_threshold", GOOD, {"root": 1, "builder": 1}, "threshold for approver"),
    ("threshold_of_zero", GOOD, {**ONE, "approver": 0}, "threshold for approver"),
    ("threshold_out_of_reach", GOOD, {**ONE, "approver": 2}, "threshold for approver"),
    ("unknown_role", (*GOOD, ("zoe", ("owner",), (CAROL.public.der,))), ONE, "roles are some of"),
    ("odd_name", (*GOOD, ("Zoe", ("root",), (CAROL.public.der,))), ONE, "lower-case"),
    ("long_name", (*GOOD, ("z" * 33, ("root",), (CAROL.public.der,))), ONE, "lower-case"),
    ("one_name_twice", (*GOOD, ("bob", ("root",), ())), ONE, "persons"),
    ("roles_out_of_order", (GOOD[0], ("dora", ("root", "builder"), (DORA.public.der,))), ONE, "contradict each other"),
]


class Forger:
    """Builder, approver and root persons who sign whatever is wanted."""

    def __init__(self, folder: Path, people: People = GOOD, thresholds: dict[str, int] = ONE) -> None:
        self.folder = folder
        (folder / "carrier/trust").mkdir(parents=True, exist_ok=True)
        (folder / "carrier/sig").mkdir(exist_ok=True)
        payload, flat = _raw_root(people, thresholds)
        self.fingerprint = hashlib.sha256(payload).hexdigest()
        _put(folder, "trust/1.root.json", _enveloped(roots.PAYLOAD_TYPE, payload, DORA))
        _put(folder, "trust/1.root.flat", flat)

    def sign(self, data: bytes, *keys: PrivateKey) -> None:
        """Sign bytes as if they were a Statement."""
        _sign_statement(self.folder, data, keys or (BOB, DORA))

    def list(self, sums: bytes, entries: list[tuple[str, str]] | None = None) -> None:
        """Sign a Statement over any `SHA256SUMS`; `entries` are (digest, path) for its files."""
        (self.folder / "sealed/SHA256SUMS").write_bytes(sums)
        content = json.loads((self.folder / "carrier/statement.json").read_bytes())
        content["subject"][0]["digest"]["sha256"] = hashlib.sha256(sums).hexdigest()
        files = content["predicate"]["files"]
        if entries is not None:
            content["predicate"]["files"] = [{**files[0], "path": path, "sha256": digest} for digest, path in entries]
        self.sign(canonical.dump(content))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unsigned bundle."""
    return bundles.sealed(tmp_path_factory.mktemp("plain") / "bundle", 1, PAYLOAD)


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(plain, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_all_accept_what_the_forger_signs_honestly(folder: Path) -> None:
    forger = Forger(folder)
    forger.sign((folder / "carrier/statement.json").read_bytes())
    require_accepted(folder, forger.fingerprint)


@pytest.mark.parametrize(("name", "people", "thresholds", "named"), VOID, ids=[f"void-{case[0]}" for case in VOID])
def test_refuses_a_void_root(
    folder: Path, name: str, people: People, thresholds: dict[str, int], named: str
) -> None:  # fmt: skip
    forger = Forger(folder, people, thresholds)
    forger.sign((folder / "carrier/statement.json").read_bytes())
    require_refused(folder, forger.fingerprint, 14, 14, named)


def test_refuses_two_keys_of_one_person(folder: Path) -> None:
    people = (("bob", ("approver",), (BOB.public.der, BOB2.public.der)), GOOD[1],
              ("carol", ("approver",), (CAROL.public.der,)))  # fmt: skip
    forger = Forger(folder, people, {**ONE, "approver": 2})
    data = (folder / "carrier/statement.json").read_bytes()
    forger.sign(data, BOB, BOB2, DORA)
    require_refused(folder, forger.fingerprint, 12, 12, "2 approver(s), found 1 (bob)")
    forger.sign(data, BOB, CAROL, DORA)
    require_accepted(folder, forger.fingerprint)


_DEEP = b'"sbom":[' + b"[" * 200_000 + b"]" * 200_000 + b","
STATEMENTS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("duplicate_keys", lambda x: x.replace(b'"version":1}', b'"version":1,"version":2}')),
    ("huge_number", lambda x: x.replace(b'"version":1}', b'"version":' + b"9" * 5000 + b"}")),
    ("negative_number", lambda x: x.replace(b'"version":1}', b'"version":-1}')),
    ("fraction", lambda x: x.replace(b'"version":1}', b'"version":1.5}')),
    ("deep_nesting", lambda x: x.replace(b'"sbom":[', _DEEP)),
    ("blank", lambda x: x.replace(b'"sbom":[', b'"sbom": [')),
    ("trailing_newline", lambda x: x + b"\n"),
    ("two_documents", lambda x: x + x),
    ("unknown_field", lambda x: x.replace(b',"target":', b',"spare":1,"target":')),
    ("sbom_of_another_name", lambda x: x.replace(b'{"path":"sbom/', b'{"path":"sbox/')),
    ("another_predicate", lambda x: x.replace(b"urn:airgap:bundle:v1", b"urn:airgap:bundle:v2")),
    ("another_subject", lambda x: x.replace(b'"name":"SHA256SUMS"', b'"name":"SHA512SUMS"')),
    ("two_subjects", lambda x: x[:-2] + b"," + x.split(b'"subject":[')[1][:-2] + b"]}"),
    ("not_utf8", lambda x: x.replace(b'"channel":"test"', b'"channel":"t\xff"')),
    ("nul_byte", lambda x: x.replace(b'"channel":"test"', b'"channel":"te\0t"')),
    ("empty", lambda x: b""),
    ("version_zero", lambda x: x.replace(b'"version":1}', b'"version":0}')),
    ("version_of_16_digits", lambda x: x.replace(b'"version":1}', b'"version":1000000000000000}')),
    ("base_is_a_text", lambda x: x.replace(b'"base":null,', b'"base":"other-1",')),
    ("text_not_ascii", lambda x: x.replace(b'"channel":"test"', '"channel":"t\u00e9st"'.encode())),
    ("text_empty", lambda x: x.replace(b'"channel":"test"', b'"channel":""')),
    ("text_with_a_quotation_mark", lambda x: x.replace(b'"channel":"test"', b'"channel":"t\\"t"')),
    ("field_left_out", lambda x: x.replace(b'"base":null,', b"")),
    ("empty_digest", lambda x: x.replace(b',"size_bytes"', b',"sha384":null,"size_bytes"', 1)),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=f"statement-{name}") for name, change in STATEMENTS])
def test_refuses_a_statement_that_reads_in_two_ways(folder: Path, change: Callable[[bytes], bytes]) -> None:
    forger = Forger(folder)
    forger.sign(change((folder / "carrier/statement.json").read_bytes()))
    require_refused(folder, forger.fingerprint, 13, 13, "statement.json")


@pytest.mark.parametrize("lie", [(b"version=1\n", b"version=9\n"), (b"=amd64", b"=arm64"), (b"base=", b"base=zz")])
def test_refuses_facts_that_the_statement_does_not_say(folder: Path, lie: tuple[bytes, bytes]) -> None:
    file = folder / "sealed/facts.txt"
    file.write_bytes(data := file.read_bytes().replace(*lie))
    digest = hashlib.sha256(data)
    content = json.loads((folder / "carrier/statement.json").read_bytes())
    files = content["predicate"]["files"]
    (entry,) = (entry for entry in files if entry["path"] == "facts.txt")
    root = tree_root([digest.digest()], "sha256").hex()
    entry.update(sha256=digest.hexdigest(), size_bytes=len(data), leaf_root=root)
    sums = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in files).encode()
    (folder / "sealed/SHA256SUMS").write_bytes(sums)
    content["subject"][0]["digest"]["sha256"] = hashlib.sha256(sums).hexdigest()
    forger = Forger(folder)
    forger.sign(canonical.dump(content))
    require_refused(folder, forger.fingerprint, 13, 13, "facts.txt: does not say what the Statement says")


def test_refuses_sizes_that_the_files_do_not_have(folder: Path) -> None:
    content = json.loads((folder / "carrier/statement.json").read_bytes())
    content["predicate"]["files"][0]["size_bytes"] += 1
    forger = Forger(folder)
    forger.sign(canonical.dump(content))
    require_refused(folder, forger.fingerprint, 13, 13, "bytes, found")


def test_refuses_a_root_that_says_something_else_than_its_twin(folder: Path) -> None:
    forger = Forger(folder)
    forger.sign((folder / "carrier/statement.json").read_bytes())
    content = json.loads(base64.b64decode(_read(folder, "trust/1.root.json")["payload"]))
    content["persons"][0]["name"] = "zed"
    payload = canonical.dump(content)
    _put(folder, "trust/1.root.json", _enveloped(roots.PAYLOAD_TYPE, payload, DORA))
    require_refused(folder, hashlib.sha256(payload).hexdigest(), 14, 14, "contradict each other")


LIES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("another_scheme", lambda x: x.replace(P384_SCHEME.encode(), b"ml-dsa-87", 1)),
    ("unknown_scheme", lambda x: x.replace(P384_SCHEME.encode(), b"rsa", 1)),
    ("persons_out_of_order", lambda x: re.sub(rb'("persons":\[)(\{.*?\]\}),(\{.*?\]\})', rb"\1\3,\2", x)),
    ("one_comma_more", lambda x: x.replace(b',"builder":1', b',,"builder":1')),
]


@pytest.mark.parametrize("lie", [each[1] for each in LIES], ids=[each[0] for each in LIES])
def test_refuses_an_unsigned_root_before_the_pinned_one(
    world: World, copy: Path, lie: Callable[[bytes], bytes]
) -> None:
    """Nobody's signature counts there, so anybody with the medium can write it; judges agree all the same."""
    before = base64.b64decode(_read(copy, "trust/1.root.json")["payload"])
    payload = lie(before)
    assert payload != before
    _put(copy, "trust/1.root.json", _enveloped(roots.PAYLOAD_TYPE, payload, MALLORY))
    require_refused(copy, world.fingerprints[2], 13 if b",," in payload else 14, 14, "1.root.json")


def test_refuses_revocations_that_their_twin_keeps_to_itself(folder: Path) -> None:
    forger = Forger(folder)
    forger.sign((folder / "carrier/statement.json").read_bytes())
    content = {**json.loads(Revocations(1).payload()), "keys": {BOB.public.keyid: 'said "stolen", they\\say'}}
    _put(folder, "trust/revocations.json", _enveloped(lists.PAYLOAD_TYPE, canonical.dump(content), DORA))
    _put(folder, "trust/revocations.flat", Revocations(1).flat())
    require_refused(folder, forger.fingerprint, 14, 14, "contradict each other")
    odd = {BOB2.public.keyid: 'said "stolen", they\\say', "0" * 64: '","' + "1" * 64 + '":"'}
    bundles_ = {"2" * 96: '},"number":7,"schema_version":1,"statements":{', "3" * 64: "x"}
    _list(Revocations(1, odd, bundles_), DORA)(folder)
    assert "revocations 1: 2 keys, 2 bundles" in require_accepted(folder, forger.fingerprint)["check"].stdout


def test_refuses_a_hundred_megabytes_of_statement(folder: Path) -> None:
    forger = Forger(folder)
    forger.sign((folder / "carrier/statement.json").read_bytes())
    with (folder / "carrier/statement.dsse.json").open("r+b") as stream:
        stream.truncate(100_000_000)
    require_refused(folder, forger.fingerprint, 13, 13, "statement.dsse.json: more than")


EMPTY = hashlib.sha256(b"").hexdigest()
LISTS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("garbage_line", lambda x: x + b"garbage\n"),
    ("comment", lambda x: b"# checked\n" + x),
    ("standard_input", lambda x: x + f"{EMPTY}  -\n".encode()),
    ("one_blank", lambda x: x.replace(b"  data/files", b" data/files")),
    ("binary_mark", lambda x: x.replace(b"  data/files", b" *data/files")),
    ("tagged", lambda x: x + f"SHA256 (a) = {EMPTY}\n".encode()),
    ("escaped", lambda x: x + f"\\{EMPTY}  a\\nb\n".encode()),
    ("carriage_returns", lambda x: x.replace(b"\n", b"\r\n")),
    ("upper_case_digest", lambda x: x.split(b"  ")[0].upper() + x[64:]),
    ("short_digest", lambda x: x[1:]),
    ("no_last_newline", lambda x: x[:-1]),
    ("empty_line", lambda x: x + b"\n"),
    ("line_twice", lambda x: x + x.splitlines(keepends=True)[-1]),
    ("unsorted", lambda x: b"".join(reversed(x.splitlines(keepends=True)))),
    ("line_missing", lambda x: b"".join(x.splitlines(keepends=True)[1:])),
    ("empty_list", lambda x: b""),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=f"list-{name}") for name, change in LISTS])
def test_refuses_a_list_with_another_grammar(folder: Path, change: Callable[[bytes], bytes]) -> None:
    forger = Forger(folder)
    forger.list(change((folder / "sealed/SHA256SUMS").read_bytes()))
    require_refused(folder, forger.fingerprint, 13, 13, "sealed/SHA256SUMS")


NAMES = [
    ("traversal", ["data/../../x"]),
    ("absolute", ["/etc/shadow"]),
    ("dot", ["data/.x"]),
    ("option", ["-x"]),
    ("empty_component", ["data//x"]),
    ("ends_with_slash", ["data/x/"]),
    ("backslash", ["data\\x"]),
    ("blank", ["data/a b"]),
    ("not_ascii", ["data/caf\u00e9"]),
    ("line_break", ["data/a\nb"]),
    ("too_long", ["data/" + "a/" * 260 + "b"]),
    ("case_clash", ["data/Readme", "data/readme"]),
    ("file_and_folder", ["data/A", "data/a/b"]),
    ("twice", ["data/a", "data/a"]),
]


@pytest.mark.parametrize("paths", [pytest.param(paths, id=f"name-{name}") for name, paths in NAMES])
def test_refuses_names_that_no_bundle_has(folder: Path, paths: list[str]) -> None:
    forger = Forger(folder)
    entries = [(EMPTY, path) for path in paths]
    forger.list("".join(f"{digest}  {path}\n" for digest, path in entries).encode(), entries)
    words = {"data/Readme": "at most in case", "data/A": "is a file", "data/a": "at most in case"}
    require_refused(folder, forger.fingerprint, 13, 13, words.get(paths[0], "not a path that a bundle may hold"))
