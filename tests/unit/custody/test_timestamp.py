"""RFC 3161 tokens of a local `openssl ts` authority: openssl reads our requests, we judge its answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bundler.cli import main
from custody import errors, timestamp
from custody.ledger import record
from custody.ledger.event import parse
from custody.ledger.view import View
from tests.unit.cli.test_tree import printed

_CONFIG = """\
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
[tsa]
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[tsa_default]
serial = serial
signer_digest = sha512
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


class Authority:
    """A root and a signer for time, in a folder."""

    def __init__(self, folder: Path, *, usage: str = "tsa") -> None:
        folder.mkdir()
        self.folder, self.root = folder, folder / "ca.pem"
        (folder / "ts.cnf").write_text(_CONFIG)
        (folder / "serial").write_text("01\n")
        new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes"]
        openssl(folder, *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=time root", "-config",
                "/dev/null", "-days", "2", "-addext", "basicConstraints=critical,CA:true")  # fmt: skip
        openssl(folder, *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=time 1", "-config", "/dev/null")
        openssl(folder, "x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                "-out", "tsa.pem", "-extfile", "ts.cnf", "-extensions", usage, "-set_serial", "7")  # fmt: skip

    def answer(self, request: Path, out: Path) -> Path:
        openssl(self.folder, "ts", "-reply", "-config", "ts.cnf", "-section", "tsa_default", "-queryfile", str(request),
                "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", str(out))  # fmt: skip
        return out


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "tsa")


@pytest.fixture
def answered(authority: Authority, tmp_path: Path) -> Path:
    """A file with the authority's answer beside it."""
    file = tmp_path / "a.checkpoint"
    file.write_bytes(b"origin\n1\nroot\n")
    (tmp_path / "a.tsq").write_bytes(timestamp.request(file.read_bytes()))
    authority.answer(tmp_path / "a.tsq", tmp_path / "answer")
    return file


def test_openssl_reads_the_request(answered: Path) -> None:
    done = subprocess.run(
        ["openssl", "ts", "-query", "-in", answered.with_name("a.tsq"), "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Hash Algorithm: sha512" in done.stdout
    assert "Certificate required: yes" in done.stdout


def test_an_answer_holds_for_its_bytes_and_authority_alone(
    authority: Authority, answered: Path, tmp_path: Path
) -> None:
    answer, root, data = (tmp_path / "answer").read_bytes(), authority.root.read_bytes(), answered.read_bytes()
    token = timestamp.verify(answer, data, root, "answer")
    assert (token.authority, token.serial > 1) == ("CN=time 1", True)
    other = Authority(tmp_path / "other")
    with pytest.raises(errors.SignatureRejected, match="Mismatch") as refused:
        timestamp.verify(answer, data + b"x", root, "answer")
    assert "it is over another file" in refused.value.hint
    with pytest.raises(errors.SignatureRejected) as refused:
        timestamp.verify(answer, data, other.root.read_bytes(), "answer")
    assert refused.value.hint == "ask the authority again"
    changed = bytearray(answer)
    changed[-20] ^= 1
    with pytest.raises(errors.SignatureRejected):
        timestamp.verify(bytes(changed), data, root, "answer")
    for bad in (b"", b"0", answer[:-1], bytes(timestamp.LIMIT_BYTES + 1)):
        with pytest.raises(errors.BundleMalformed):
            timestamp.verify(bad, data, root, "answer")
    with pytest.raises(errors.InputInvalid):
        timestamp.verify(answer, data, b"no certificate", "answer")


def test_the_commands_carry_a_token_into_the_ledger(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger, file = tmp_path / "ledger", tmp_path / "b.checkpoint"
    monkeypatch.setattr(record, "default_folder", lambda: ledger)
    record.begin(ledger, "site-7.example/custody")
    file.write_bytes((ledger / "checkpoint").read_bytes())
    printed(["timestamp", str(file), "--request", str(tmp_path / "b.tsq")], capfd)
    authority.answer(tmp_path / "b.tsq", tmp_path / "answer")
    attach = ["timestamp", str(file), "--attach", str(tmp_path / "answer"), "--authority", str(authority.root)]
    assert "verdict:   holds" in printed(attach, capfd)
    verify = ["timestamp", str(file), "--verify", "--authority", str(authority.root), "--json"]
    assert '"verdict": "holds"' in printed(verify, capfd)
    openssl(tmp_path, "ts", "-verify", "-data", str(file), "-in", str(file) + ".tsr", "-CAfile", str(authority.root))
    assert parse(View(ledger).entry(1))["event"] == "timestamped"
    file.write_bytes(b"other\n")
    with pytest.raises(SystemExit) as stop:
        main(verify)
    assert stop.value.code == errors.SignatureRejected.exit_code
