"""Receipts and reports: signed, readable, and never markup from a bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from bundler.bundle.read import FolderSource
from bundler.bundle.receipt import PAYLOAD_TYPE, accepted, refused
from bundler.bundle.report import make_report
from bundler.bundle.sign import sign_bundle
from bundler.bundle.write import seal
from bundler.cli import main
from bundler.manifest.lock import Lock, dump_lock
from custody.errors import DigestMismatch
from custody.page import Page, html, pdf, size
from custody.report import SilentReporter
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from custody.trust.verify import VerifiedBundle, read_trust, verify_statement
from tests import bundles
from tests.bundles import MODEL, PAYLOAD, Made, make

KEY = PrivateKey.generate()
PASSPHRASE = "a passphrase for tests"
LICENCE = "Apache-2.0 <script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle whose lock names its model, with a licence that would like to be markup."""
    folder = tmp_path_factory.mktemp("made")
    plain = make(folder / "plain")
    zeros = "0" * 64
    model = {
        "name": "words-1b", "filename": "words.gguf", "origin": "https://models.example/words.gguf",
        "size_bytes": len(MODEL), "sha256": hashlib.sha256(MODEL).hexdigest(), "license": LICENCE,
        "label": "internal", "architecture": "llama", "context_tokens": 8192, "kv_bytes_per_token": 1024,
        "quantization": "Q8_0", "tokenizer": "gpt2", "chat_template_sha256": zeros,
    }  # fmt: skip
    lock = Lock.model_validate({**bundles.lock().model_dump(), "models": (model,)})
    staging = bundles.stage(folder / "staging", PAYLOAD)
    bundle = folder / "bundle"
    seal(staging, lock, hashlib.sha256(dump_lock(lock)).hexdigest(), {}, bundle, SilentReporter())
    for key in (plain.builder, plain.approver):
        sign_bundle(bundle, key, plain.trust, SilentReporter())
    return dataclasses.replace(plain, folder=bundle)


@pytest.fixture
def bundle(made: Made) -> VerifiedBundle:
    source = FolderSource(made.folder)
    return verify_statement(source, read_trust(source, made.fingerprint))


@pytest.fixture
def report(bundle: VerifiedBundle) -> Page:
    return make_report(bundle, accepted(bundle), as_host=False)


def verify(made: Made, folder: Path, *options: str) -> int:
    """`airgap verify` with a key in `folder`; returns the exit code."""
    key, secret = folder / "carol.key", folder / "secret"
    key.write_bytes(KEY.dump(PASSPHRASE.encode()))
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    command = ["verify", str(made.folder), "--fingerprint", made.fingerprint, *options]
    try:
        main([*command, "--receipt", str(folder / "r.json"), "--key", str(key), "--passphrase-file", str(secret)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_receipt_is_signed_and_says_what_was_found(made: Made, bundle: VerifiedBundle, tmp_path: Path) -> None:
    assert verify(made, tmp_path) == 0
    envelope = Envelope.parse((tmp_path / "r.json").read_bytes(), "r.json")
    assert envelope.payload_type == PAYLOAD_TYPE
    assert envelope.signers({KEY.public.keyid: KEY.public}, "r.json") == {KEY.public.keyid}
    content = json.loads(envelope.payload)
    assert (content["verdict"], content["bundle"], content["unread"]) == ("accepted", "small-1", 0)
    assert (content["builders"], content["approvers"]) == (["alice"], ["bob"])
    assert content["root_fingerprint"] == made.fingerprint
    statement = (made.folder / "carrier/statement.json").read_bytes()
    assert content["statement_digest"] == hashlib.sha256(statement).hexdigest()


def test_a_refusal_has_a_receipt_and_no_report(made: Made, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    wrong = dataclasses.replace(made, fingerprint="0" * 64)
    assert verify(wrong, tmp_path, "--report", str(page)) == 14
    content = json.loads(Envelope.parse((tmp_path / "r.json").read_bytes(), "r.json").payload)
    assert (content["verdict"], content["exit_code"], content["bundle"]) == ("refused", 14, None)
    assert made.fingerprint in content["reason"]
    assert not page.exists()


def test_a_receipt_of_a_bundle_without_statement(made: Made, tmp_path: Path) -> None:
    (tmp_path / "sealed").mkdir()
    (tmp_path / "carrier").mkdir()
    found = refused(FolderSource(tmp_path), made.fingerprint, DigestMismatch("x differs"))
    assert (found.statement_digest, found.exit_code) == (None, 11)


def test_models_that_were_not_read_are_said_to_be(bundle: VerifiedBundle) -> None:
    found = accepted(bundle, models_read=False)
    assert found.unread == 1
    made = make_report(bundle, found, as_host=True)
    assert "1 models were left to the installer" in made.summary
    assert [row[0] for row in made.sections[-1].rows] == ["target", "models"]


def test_a_page_shows_everything_and_runs_nothing(made: Made, report: Page) -> None:
    page = html.render(report).decode()
    groups = " ".join(made.fingerprint[i : i + 4] for i in range(0, 32, 4))
    for text in ("alice", "builder", "bob", "approver", "Accepted", groups, "words-1b", "Q8_0", "9 October 2025"):
        assert text in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    for outside in ("http://", "https://", "src=", "url("):
        assert outside not in page


def test_a_pdf_is_one_and_the_same(report: Page) -> None:
    first = pdf.render(report)
    assert first.startswith(b"%PDF-")
    assert pdf.render(report) == first


@pytest.mark.parametrize(
    ("size_bytes", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e9, "2.0 GB")]
)
def test_sizes(size_bytes: int, said: str) -> None:
    assert size(size_bytes) == said
