"""Upstream's proofs, re-checked from a bundle: each link of the chain can break, and is then named."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.bundle import openpgp
from bundler.bundle.distribution import Signed, split_release
from bundler.bundle.openpgp import signers
from bundler.bundle.read import FolderSource
from bundler.bundle.upstream import Proof, Verdict, check_upstream
from bundler.cli import cli
from custody import _run
from custody.errors import EnvironmentProblem, IntegrityFailure, ProgramMissing, SignatureRejected
from custody.trust.verify import read_trust, verify_statement
from tests.bundles import Made
from tests.unit.collect.conftest import gpg, signing_home  # noqa: F401 -- a fixture

from .rich import Rich, rich, sha256, signed

Sign = Callable[[bytes], bytes]
INRELEASE = "data/apt/debian/dists/trixie/InRelease"
PACKAGES = "data/apt/debian/dists/trixie/main/binary-amd64/Packages.xz"
OPENSSL = "data/apt/debian/pool/main/o/openssl/openssl_3.5.1-1+deb13u1_amd64.deb"
BUILT = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"


@pytest.fixture
def sign(signing_home: Path, tmp_path: Path) -> Sign:  # noqa: F811
    """Makes an InRelease with the archive's key."""

    def made(text: bytes) -> bytes:
        plain, out = tmp_path / "Release", tmp_path / "InRelease"
        plain.write_bytes(text)
        gpg(signing_home, "--yes", "--clear-sign", "--digest-algo", "SHA256", "-o", out, plain)
        return out.read_bytes()

    return made


@pytest.fixture
def keyring(signing_home: Path, tmp_path: Path) -> Path:  # noqa: F811
    path = tmp_path / "keyring.gpg"
    path.write_bytes(gpg(signing_home, "--export"))
    return path


def check(made: Made, keyring: Path) -> dict[str, Proof]:
    source = FolderSource(made.folder)
    proofs = check_upstream(verify_statement(source, read_trust(source, made.fingerprint)), keyring)
    assert len({proof.what for proof in proofs}) == len(proofs)
    return {proof.what: proof for proof in proofs}


def refused(made: Made, keyring: Path) -> dict[str, str]:
    return {what: proof.found for what, proof in check(made, keyring).items() if proof.verdict is Verdict.REFUSED}


def test_every_link_stands(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    proofs = check(signed(tmp_path, rich(sign)), keyring)
    assert {what: str(proof.verdict) for what, proof in proofs.items()} == {
        "debian trixie InRelease": "accepted",
        "debian trixie main/binary-amd64/Packages.xz": "accepted",
        "debian: packages: 3": "accepted",
        "wheels of an index: 3": "accepted",
        "wheels built here: 2": "accepted",
        "environment control": "accepted",
        "environment engine": "accepted",
        "models: 1": "not judged",
    }
    assert "of 2026-09-12, signed by " in proofs["debian trixie InRelease"].found


def test_refuses_inrelease_of_another_key(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    home = tmp_path / "mallory"
    home.mkdir(mode=0o700)
    gpg(home, "--quick-generate-key", "archive <archive@example.org>", "ed25519", "sign", "never")
    other = tmp_path / "other.gpg"
    other.write_bytes(gpg(home, "--export"))
    found = refused(signed(tmp_path, rich(sign)), other)
    assert "no signature that counts" in found.pop("debian trixie InRelease")
    # Nothing below a signature that does not stand is believed.
    assert set(found) == {
        f"debian {path.removeprefix('data/apt/debian/')}" for path in rich(sign).payload if "/pool/" in path
    }


def test_refuses_inrelease_that_was_changed(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(lambda text: sign(text).replace(b"Codename: trixie", b"Codename: trixif"))
    assert "debian trixie InRelease" in refused(signed(tmp_path, made), keyring)


def test_refuses_inrelease_with_text_around_what_was_signed(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(lambda text: b"Origin: Mallory\n" + sign(text))
    assert "nothing around it" in refused(signed(tmp_path, made), keyring)["debian trixie InRelease"]


def test_refuses_index_that_inrelease_does_not_name(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    text = lzma.decompress(made.payload[PACKAGES]).replace(sha256(made.payload[OPENSSL]).encode(), b"0" * 64)
    found = refused(signed(tmp_path, Rich(made.lock, {**made.payload, PACKAGES: lzma.compress(text)})), keyring)
    assert "InRelease expects sha256" in found["debian trixie main/binary-amd64/Packages.xz"]


def test_refuses_index_without_inrelease(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    payload = {path: data for path, data in made.payload.items() if path != INRELEASE}
    found = refused(signed(tmp_path, Rich(made.lock, payload)), keyring)
    assert found["debian dists/trixie/main/binary-amd64/Packages.xz"] == "no InRelease covers it"


def test_refuses_swapped_foreign_and_missing_package(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    payload = {**made.payload, OPENSSL: b"the package openssI", "data/apt/debian/pool/main/e/evil.deb": b"evil"}
    del payload["data/apt/debian/pool/main/c/ca-certificates/ca-certificates_20250419_all.deb"]
    found = refused(signed(tmp_path, Rich(made.lock, payload)), keyring)
    assert f"expected sha256 {sha256(made.payload[OPENSSL])} ({len(made.payload[OPENSSL])} bytes)" in found.pop(
        f"debian {OPENSSL[16:]}"
    )
    assert found == {
        "debian pool/main/e/evil.deb": "no believed index lists it",
        "debian pool/main/c/ca-certificates/ca-certificates_20250419_all.deb": "missing",
    }


def test_refuses_swapped_foreign_and_missing_wheel(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    payload = {**made.payload, "data/wheels/rich-15.0.0-py3-none-any.whl": b"swapped", "data/wheels/evil.whl": b"evil"}
    del payload["data/wheels/numpy-2.5.5-py3-none-any.whl"]
    found = refused(signed(tmp_path, Rich(made.lock, payload)), keyring)
    assert "expected sha256" in found.pop("rich-15.0.0-py3-none-any.whl")
    assert found == {
        "evil.whl": "neither locked nor built from its sources",
        "numpy-2.5.5-py3-none-any.whl": "missing",
    }


@pytest.mark.parametrize("how", ["gone", "of other bytes", "of another source", "no JSON", "of other shape"])
def test_refuses_built_wheel_whose_provenance_does_not_fit(tmp_path: Path, sign: Sign, keyring: Path, how: str) -> None:
    made, path = rich(sign), f"sbom/provenance/{BUILT}.json"
    data = made.payload[path]
    changed = {
        "gone": b"",
        "of other bytes": data.replace(sha256(made.payload[f"data/wheels/{BUILT}"]).encode(), b"0" * 64),
        "of another source": data.replace(b"8" * 64, b"0" * 64),
        "no JSON": b"{",
        "of other shape": b'{"subject":[]}',
    }[how]
    assert changed != data
    payload = {**made.payload, path: changed}
    if how == "gone":
        del payload[path]
    found = refused(signed(tmp_path, Rich(made.lock, payload)), keyring)
    assert found == {
        "llama-cpp-python 0.3.36": "built here, but no provenance fits",
        BUILT: "neither locked nor built from its sources",
        "environment engine": "other than the lock: llama-cpp-python",
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text.replace("rich==15.0.0", "rich==15.0.1"), "other than the lock: rich"),
        (lambda text: text + "evil\n", "other than the lock: a line of another form"),
        (lambda text: text.replace("--hash=sha256:", "--hash=sha256:0", 1), "other than the lock: "),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), "other than the lock: "),
        (None, "its requirements are missing"),
    ],
)
def test_refuses_requirements_other_than_the_lock(
    tmp_path: Path, sign: Sign, keyring: Path, change: Callable[[str], str] | None, found: str
) -> None:
    made, path = rich(sign), "data/wheels/control.txt"
    payload = dict(made.payload)
    if change:
        payload[path] = change(payload[path].decode()).encode()
        assert payload[path] != made.payload[path]
    else:
        del payload[path]
    wrong = refused(signed(tmp_path, Rich(made.lock, payload)), keyring)
    assert set(wrong) == {"environment control"} and wrong["environment control"].startswith(found)


def test_refuses_environment_that_no_lock_has(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    line = made.payload["data/wheels/control.txt"].splitlines(keepends=True)[0]
    payload = {**made.payload, "data/wheels/more.txt": line}
    assert set(refused(signed(tmp_path, Rich(made.lock, payload)), keyring)) == {"environment more"}


def test_refuses_model_other_than_the_lock(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    payload = {**made.payload, "data/models/words.gguf": b"GGUF", "data/models/more.gguf": b"GGUF"}
    found = refused(signed(tmp_path, Rich(made.lock, payload)), keyring)
    assert (set(found), found["more.gguf"]) == ({"words.gguf", "more.gguf"}, "not in the lock")


@pytest.mark.parametrize("program", ["sqv", "gpgv"])
def test_one_good_signature_is_enough_and_a_false_one_too_much(
    tmp_path: Path, sign: Sign, keyring: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which(program, path=_run.PATH):
        pytest.skip(f"needs {program}")
    if program == "gpgv":
        monkeypatch.setattr(openpgp, "_by_sqv", openpgp._by_gpgv)
    text = split_release(rich(sign).payload[INRELEASE], "InRelease")
    (fingerprint,) = signers(text, keyring, "InRelease")
    assert len(fingerprint) == 40
    false = Signed(text.text.replace(b"stable", b"stabel"), text.signature)
    with pytest.raises(SignatureRejected, match=f"{program} finds no signature that counts"):
        signers(false, keyring, "InRelease")


def test_a_weak_digest_an_expired_and_a_revoked_key_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gpgv says of them, word for word; it may still end well."""
    valid = "[GNUPG:] VALIDSIG {0} 2026-09-12 1789199778 0 4 0 1 {1} 01 {0}\n"
    key = "A" * 40
    (tmp_path / "gpgv").write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    (tmp_path / "gpgv").chmod(0o755)
    monkeypatch.setattr(_run, "PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "keyring").touch()
    if shutil.which("sqv", path=_run.PATH):
        monkeypatch.setattr(openpgp, "_by_sqv", openpgp._by_gpgv)
    text = Signed(b"text", b"signature")
    for said in (
        "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AA name\n" + valid.format(key, 2),
        "[GNUPG:] NEWSIG\n[GNUPG:] EXPKEYSIG AA name\n" + valid.format(key, 8),
        "[GNUPG:] NEWSIG\n[GNUPG:] REVKEYSIG AA name\n" + valid.format(key, 8),
        "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AA name\n[GNUPG:] NEWSIG\n" + valid.format(key, 8),
        "[GNUPG:] GOODSIG AA name\n" + valid.format(key, 8) + "[GNUPG:] BADSIG BB name\n",
    ):
        (tmp_path / "said").write_text(said)
        with pytest.raises(SignatureRejected):
            signers(text, tmp_path / "keyring", "InRelease")
    (tmp_path / "said").write_text(
        "[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG BB 1 8 01 1789199778 9 -\n[GNUPG:] NO_PUBKEY BB\n"
        "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AA name\n" + valid.format(key, 10)
    )
    assert signers(text, tmp_path / "keyring", "InRelease") == (key,)


def test_a_machine_without_program_or_keyring_is_told_what_to_install(
    tmp_path: Path, sign: Sign, keyring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = signed(tmp_path, rich(sign))
    with pytest.raises(EnvironmentProblem, match="no such keyring") as problem:
        check(made, tmp_path / "none.gpg")
    assert "debian-archive-keyring" in problem.value.hint
    empty = tmp_path / "bin"
    empty.mkdir()
    (empty / "setpriv").symlink_to("/usr/bin/setpriv")
    monkeypatch.setattr(_run, "PATH", str(empty))
    with pytest.raises(ProgramMissing, match="neither sqv nor gpgv") as missing:
        check(made, keyring)
    assert "apt-get install" in missing.value.hint


def test_verify_shows_a_table_of_80_columns_or_json(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = signed(tmp_path, rich(sign))
    arguments = [str(made.folder), "--fingerprint", made.fingerprint, "--upstream", "--keyring", str(keyring)]
    done = CliRunner().invoke(cli, ["verify", *arguments], catch_exceptions=False)
    assert max(map(len, done.stdout.splitlines()[4:])) <= 80
    assert "accepted   debian: packages: 3: each as a signed index lists it" in done.stdout
    assert done.stdout.endswith("verdict:   accepted\n")
    content = json.loads(CliRunner().invoke(cli, ["verify", *arguments, "--json"]).stdout)
    assert (content["schema"], content["verdict"], len(content["upstream"])) == ("airgap.verify/1", "accepted", 8)


def test_verify_ends_with_an_error_when_a_proof_is_refused(tmp_path: Path, sign: Sign, keyring: Path) -> None:
    made = rich(sign)
    bundle = signed(tmp_path, Rich(made.lock, {**made.payload, OPENSSL: b"another"}))
    arguments = [str(bundle.folder), "--fingerprint", bundle.fingerprint, "--upstream", "--keyring", str(keyring)]
    table = CliRunner().invoke(cli, ["verify", *arguments])
    assert isinstance(table.exception, IntegrityFailure) and "verdict:" not in table.stdout
    assert "refused    debian pool/main/o/openssl/" in table.stdout
    found = CliRunner().invoke(cli, ["verify", *arguments, "--json"])
    assert isinstance(found.exception, IntegrityFailure) and json.loads(found.stdout)["verdict"] == "refused"
    # Its signers vouched for it, so without the option it stands.
    assert CliRunner().invoke(cli, ["verify", *arguments[:3]]).exit_code == 0
