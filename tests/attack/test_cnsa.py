"""Profile `cnsa`: everybody signs with P-384 and with ML-DSA-87, and SHA-384 is what every file is compared with.

The two scripts need openssl 3.5. Where the builder has an older one they run in the tree of the workstation's image.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.bundle.sign import sign_bundle
from bundler.bundle.trustfolder import TrustFolder
from custody.report import SilentReporter
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.profile import MLDSA_SCHEME, PROFILES, hexdigest
from custody.trust.root import Person, Root
from tests import bundles
from tests.attack import judges
from tests.attack.test_bundle import LEAVES, MODEL, README, flip
from tests.bundles import Made, make

DSSE = "carrier/statement.dsse.json"
SUMS = "sealed/SHA384SUMS"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One good bundle."""
    return make(tmp_path_factory.mktemp("cnsa"), profile="cnsa")


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    shutil.copytree(made.folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def _signatures(folder: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    envelope = Envelope.parse((folder / DSSE).read_bytes(), DSSE)
    changed = Envelope(envelope.payload_type, envelope.payload, change(dict(envelope.signatures)))
    (folder / DSSE).write_bytes(changed.dump())
    shutil.rmtree(folder / "carrier/sig")
    (folder / "carrier/sig").mkdir()
    for keyid, signature in changed.signatures.items():
        (folder / f"carrier/sig/{keyid}.sig").write_bytes(signature)


def _without(key: PrivateKey) -> Callable[[Path], None]:
    def change(signatures: dict[str, bytes]) -> dict[str, bytes]:
        return {keyid: signature for keyid, signature in signatures.items() if keyid != key.public.keyid}

    return lambda folder: _signatures(folder, change)


def _changed(key: PrivateKey, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def both(signatures: dict[str, bytes]) -> dict[str, bytes]:
        return {**signatures, key.public.keyid: change(signatures[key.public.keyid])}

    return lambda folder: _signatures(folder, both)


Harm = Callable[[Made], Callable[[Path], None]]
# name of the case, harm, exit code, what `airgap verify` names; the scripts give the same code
CASES: list[tuple[str, Harm, int, str]] = [
    ("without_ml_dsa", lambda m: _without(m.approver_more[0]), 12, "1 approver(s), found 0"),
    ("without_p384", lambda m: _without(m.builder), 12, "1 builder(s), found 0"),
    ("ml_dsa_flipped", lambda m: _changed(m.approver_more[0], lambda s: s[:99] + bytes([s[99] ^ 1]) + s[100:]),
     12, "is false"),
    ("ml_dsa_truncated", lambda m: _changed(m.approver_more[0], lambda s: s[:-1]), 12, "is false"),
    ("ml_dsa_longer", lambda m: _changed(m.approver_more[0], lambda s: s + b"x"), 12, "is false"),
    ("leaf_bit", lambda m: lambda f: flip(f / MODEL, 2_500_000), 11, "words.gguf: leaf 2 of 4"),
    ("small_file_bit", lambda m: lambda f: flip(f / README, 2), 11, "readme.txt"),
    ("leaf_file_bit", lambda m: lambda f: flip(f / LEAVES, 50), 11, "words.gguf.leaves"),
    ("list_bit", lambda m: lambda f: flip(f / SUMS, 3), 11, "sealed/SHA384SUMS"),
    ("list_missing", lambda m: lambda f: (f / SUMS).unlink(), 13, "SHA384SUMS"),
    ("another_list_beside_it", lambda m: lambda f: (f / "sealed/SHA256SUMS").touch(), 13, "SHA256SUMS: extra"),
]  # fmt: skip


def test_all_accept_a_good_bundle(made: Made, modern: Path | None) -> None:
    assert len(made.fingerprint) == 96
    done = judges.require_accepted(made.folder, made.fingerprint, modern)
    assert "builder:   alice" in done["verify"].stdout


@pytest.mark.parametrize(("name", "harm", "code", "named"), CASES, ids=[case[0] for case in CASES])
def test_refuses(made: Made, copy: Path, modern: Path | None, name: str, harm: Harm, code: int, named: str) -> None:
    harm(made)(copy)
    judges.require_refused(copy, made.fingerprint, code, code, named, in_models=name == "leaf_bit", modern=modern)


def test_refuses_a_fingerprint_of_the_other_digest(made: Made, modern: Path | None) -> None:
    payload = Envelope.parse((made.trust / "1.root.json").read_bytes(), "root").payload
    shorter = PROFILES["p384"].algorithm
    pinned = hexdigest(shorter, payload)
    judges.require_refused(made.folder, pinned, 14, 14, "expected the fingerprint", modern=modern)


def test_refuses_a_bundle_with_the_other_digest(tmp_path: Path, modern: Path | None) -> None:
    """Everybody who must has signed it, and yet: a root of profile cnsa vouches for SHA-384 alone."""
    good = make(tmp_path / "good", profile="cnsa")
    other = bundles.sealed(tmp_path / "other")
    for key in (good.builder, *good.builder_more, good.approver, *good.approver_more):
        sign_bundle(other, key, good.trust, SilentReporter())
    named = "profile cnsa: expected digest sha384, found sha256"
    judges.require_refused(other, good.fingerprint, 14, 13, named, modern=modern)


def test_a_root_of_the_old_profile_leads_to_cnsa(tmp_path: Path, modern: Path | None) -> None:
    """The site pinned a root of profile p384; its persons rotated to cnsa."""
    old = make(tmp_path / "old")
    more = [PrivateKey.generate(MLDSA_SCHEME) for _ in range(2)]
    persons = (
        Person("alice", ("root", "builder"), (old.builder.public, more[0].public)),
        Person("bob", ("root", "approver"), (old.approver.public, more[1].public)),
    )
    here = TrustFolder(old.trust)
    here.rotate(persons, (), {}, "cnsa")
    signers = (old.builder, old.approver, *more)
    for key in signers:
        here.sign(key)
    assert here.trust().root.profile is PROFILES["cnsa"]
    bundle = bundles.sealed(tmp_path / "new", 2, digest="sha384")
    for key in signers:
        sign_bundle(bundle, key, old.trust, SilentReporter())
    for pinned in (old.fingerprint, here.trust().root.fingerprint):
        judges.require_accepted(bundle, pinned, modern)


def test_scripts_without_ml_dsa_judge_nothing(made: Made, modern: Path | None) -> None:
    if modern is None:
        pytest.skip("this openssl has ML-DSA")
    for name in ("start", "check"):
        done = judges.judge(made.folder, made.fingerprint)[name]
        assert done.returncode == 41
        assert "has no ML-DSA-87" in done.stdout + done.stderr


def test_a_person_needs_both_keys(tmp_path: Path) -> None:
    p384 = [PrivateKey.generate() for _ in range(3)]
    with pytest.raises(Exception, match="threshold for builder is 1, and 0 persons"):
        Root(
            1,
            (
                Person("alice", ("root", "builder"), (p384[0].public, p384[1].public)),
                Person("bob", ("root", "approver"), bundles.publics("cnsa")),
            ),
            {"root": 1, "builder": 1, "approver": 1},
            PROFILES["cnsa"],
        )
    with pytest.raises(Exception, match="profile p384 knows no ml-dsa-87"):
        Root(1, (Person("bob", ("root",), bundles.publics("cnsa")),), {"root": 1})


def test_json_of_the_statement_has_both_digests(made: Made) -> None:
    content = json.loads((made.folder / "carrier/statement.json").read_bytes())
    entry = content["predicate"]["files"][0]
    assert (len(entry["sha256"]), len(entry["sha384"]), len(entry["leaf_root"])) == (64, 96, 96)
    listed = subprocess.run(
        ["sha384sum", "-c", "--strict", "--quiet", "SHA384SUMS"], cwd=made.folder / "sealed", check=False
    )
    assert listed.returncode == 0
