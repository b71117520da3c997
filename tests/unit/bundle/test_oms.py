"""Signatures of models, judged by the real `model_signing`."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.bundle.oms import sign_models
from bundler.bundle.pkcs11uri import parse_uri
from bundler.bundle.read import FolderSource
from bundler.bundle.signer import open_signer
from bundler.bundle.token import make_token_key
from custody.errors import DigestMismatch, InputInvalid, TargetRefused
from custody.report import SilentReporter
from custody.trust.keys import Signer
from custody.trust.verify import VerifiedBundle, read_trust, verify_statement
from tests.bundles import PAYLOAD, Made, make
from tests.unit.bundle.conftest import Tokens

needs_model_signing = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("model_signing", "OpenSSL")),
    reason="model-signing and pyopenssl are not installed (extra: dev)",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


def verified(made: Made, folder: Path | None = None) -> VerifiedBundle:
    source = FolderSource(folder or made.folder)
    return verify_statement(source, read_trust(source, made.fingerprint))


def signed(made: Made, key: Signer, out: Path) -> tuple[Path, Path]:
    signature, public = sign_models(verified(made), key, out, SilentReporter())
    return signature, public


def judged(model: Path, signature: Path, public: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "model_signing", "verify", "key", model]
    command += ["--signature", signature, "--public_key", public]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@needs_model_signing
def test_model_signing_accepts_the_model_and_no_other(made: Made, tmp_path: Path) -> None:
    signature, public = signed(made, made.builder, tmp_path / "out")
    model = made.folder / "sealed/data/models/words.gguf"
    assert judged(model, signature, public) == (0, "Verification succeeded\n")
    changed = tmp_path / "words.gguf"
    changed.write_bytes(model.read_bytes()[:-1] + b"!")
    code, said = judged(changed, signature, public)
    assert (code != 0, "Hash mismatch" in said) == (True, True)


@needs_model_signing
def test_model_signing_refuses_another_key_and_a_changed_signature(made: Made, tmp_path: Path) -> None:
    signature, _ = signed(made, made.builder, tmp_path / "alice")
    other, others_key = signed(made, made.approver, tmp_path / "bob")
    model = made.folder / "sealed/data/models/words.gguf"
    code, said = judged(model, signature, others_key)
    assert (code != 0, "Key mismatch" in said) == (True, True)
    text = signature.read_text()
    mixed = tmp_path / "mixed.sig"
    theirs = other.read_text()
    start, end = (text.index(mark) for mark in ('"sig": "', '"\n   }\n  ]'))
    mixed.write_text(text[:start] + theirs[theirs.index('"sig": "') : theirs.index('"\n   }\n  ]')] + text[end:])
    code, _ = judged(model, mixed, tmp_path / "alice" / f"{made.builder.public.keyid}.pem")
    assert code != 0


@needs_model_signing
def test_model_signing_accepts_what_a_token_signed(made: Made, tokens: Tokens, tmp_path: Path) -> None:
    make_token_key(parse_uri("pkcs11:token=odd", tokens.module), "models", lambda prompt: tokens.pin)
    with open_signer("pkcs11:token=odd;object=models", tokens.module, lambda prompt: tokens.pin) as key:
        signature, public = signed(made, key, tmp_path / "out")
    assert judged(made.folder / "sealed/data/models/words.gguf", signature, public)[0] == 0


def test_refuses_to_sign_a_model_that_differs_from_the_statement(made: Made, tmp_path: Path) -> None:
    copy = shutil.copytree(made.folder, tmp_path / "copy")
    model = copy / "sealed/data/models/words.gguf"
    model.write_bytes(b"!" + model.read_bytes()[1:])
    with pytest.raises(DigestMismatch, match=r"words\.gguf: leaf 0"):
        sign_models(verified(made, copy), made.builder, tmp_path / "out", SilentReporter())
    assert not (tmp_path / "out").exists()


def test_never_overwrites_a_signature(made: Made, tmp_path: Path) -> None:
    signed(made, made.builder, tmp_path / "out")
    with pytest.raises(TargetRefused, match=r"words\.gguf\.sig: exists already"):
        signed(made, made.builder, tmp_path / "out")


def test_refuses_a_bundle_without_models(tmp_path: Path) -> None:
    bare = make(tmp_path, {path: data for path, data in PAYLOAD.items() if "models" not in path})
    with pytest.raises(InputInvalid, match="holds no models"):
        sign_models(verified(bare), bare.builder, tmp_path / "out", SilentReporter())
