"""Epochs: made, handed to the auditor, erased."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from appliance import outgoing
from appliance.audit.book import Book
from appliance.audit.epoch import Epochs
from appliance.audit.escrow import compare
from appliance.audit.fields import Admitted
from appliance.audit.reserve import Reserve
from custody.errors import LedgerBroken, SecretRefused
from custody.ledger import origin
from custody.ledger.log import open_log
from custody.ledger.view import View
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey
from tests.unit.appliance.audit.conftest import ADMITTED, AUDITOR, ORIGIN, Process
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import printed


def epochs(folder: Path, length_s: float = 3600) -> Epochs:
    return Epochs(folder, ORIGIN, AUDITOR.public, length_s)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "epochs").iterdir())


def test_a_key_stays_until_the_next_and_is_erased_then(tmp_path: Path) -> None:
    first = epochs(tmp_path).current()
    assert epochs(tmp_path).current() == first
    second = epochs(tmp_path).make()
    assert (second.number, second.key != first.key) == (2, True)
    epochs(tmp_path).erase_old(second)
    assert names(tmp_path) == ["000001.cms", "000002.cms", "000002.key"]
    assert (tmp_path / "epochs/000002.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "epochs/000002.key").unlink()
    assert epochs(tmp_path).current().number == 3


def test_a_key_without_its_escrow_is_not_used(tmp_path: Path) -> None:
    """A crash between the two files: nothing was hidden with it yet."""
    epochs(tmp_path).current()
    (tmp_path / "epochs/000001.cms").unlink()
    assert epochs(tmp_path).current().number == 2


def test_a_copy_that_was_damaged_ends_its_epoch_and_its_digest_is_told_to_nobody(tmp_path: Path) -> None:
    first = epochs(tmp_path).current()
    (tmp_path / "epochs/000001.cms").write_bytes(b"damaged")
    second = epochs(tmp_path).current()
    assert second.number == 2
    assert epochs(tmp_path).current() == second
    assert first.escrow_sha256 in (tmp_path / "epochs/000001.key").read_text()


def test_a_broken_or_foreign_key_is_refused_without_its_words(tmp_path: Path) -> None:
    key = epochs(tmp_path).current().key.hex()
    file = tmp_path / "epochs/000001.key"
    file.write_text(file.read_text().replace(ORIGIN, "elsewhere"))
    with pytest.raises(SecretRefused) as refused:
        epochs(tmp_path).current()
    assert key not in str(refused.value)
    file.chmod(0o644)
    with pytest.raises(SecretRefused, match="0644"):
        epochs(tmp_path).current()


def test_a_clock_that_goes_back_begins_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = epochs(tmp_path).current()
    assert not epochs(tmp_path).is_due(epoch)
    monkeypatch.setattr(time, "time", lambda: epoch.begun_s - 10)
    assert epochs(tmp_path).is_due(epoch)


def test_the_book_changes_keys_when_the_time_has_come(tmp_path: Path) -> None:
    origin.make(tmp_path, ORIGIN)
    record = Admitted.model_validate(ADMITTED)
    with open_log(tmp_path) as log:
        book = Book(log, epochs(tmp_path, 0.5), Reserve(tmp_path, 4096), SilentReporter())
        hmacs = set()
        for _ in range(4):
            (seq,) = book.write([record])
            assert isinstance(seq, int)
            hmacs.add(json.loads(View(tmp_path).entry(seq))["prompt_hmac"])
            time.sleep(0.6)
            book.sign()
        book.close()
    kinds = [json.loads(entry)["kind"] for _seq, entry in View(tmp_path).entries()]
    assert kinds.count("epoch") >= 2
    assert len(hmacs) >= 3, "one text, another HMAC in every epoch"
    assert len([name for name in names(tmp_path) if name.endswith(".key")]) == 1


def test_a_swapped_copy_for_the_auditor_is_found(
    process: Process, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ["--log", str(process.folder)]
    process.start().gateway().close()
    process.end()
    assert "epochs:" not in printed(["audit", "verify", *log], capfd)
    copy = process.folder / "epochs/000001.cms"
    right = copy.read_bytes()
    copy.write_bytes(outgoing.encrypt(b"{}", PrivateKey.generate().public))
    for words in (["verify"], ["export", str(tmp_path / "out")]):
        code, said = refused(["audit", *words, *log], capfd)
        assert (code, "000001.cms: expected the auditor's copy" in said) == (LedgerBroken.exit_code, True)
    assert (tmp_path / "out/epochs/000001.cms").read_bytes() == copy.read_bytes(), "evidence is not held back"
    assert (tmp_path / "out/checkpoint").exists()
    process.start().gateway().close()
    process.end()
    copy.write_bytes(right)
    assert "verdict:   intact, complete" in printed(["audit", "verify", *log], capfd)
    assert "2 epochs" in printed(["audit", "export", str(tmp_path / "out-2"), *log], capfd)


def test_two_copies_of_one_epoch_are_found(process: Process, capfd: pytest.CaptureFixture[str]) -> None:
    """An older key file does not say the digest of its copy: the one that lies there is believed."""
    log = ["--log", str(process.folder)]
    process.start().gateway().close()
    process.end()
    key, copy = (process.folder / f"epochs/000001.{name}" for name in ("key", "cms"))
    content = json.loads(key.read_text())
    del content["escrow_sha256"]
    key.write_text(json.dumps(content))
    right = copy.read_bytes()
    copy.write_bytes(outgoing.encrypt(b"{}", PrivateKey.generate().public))
    process.start().gateway().close()
    process.end()
    copy.write_bytes(right)
    code, said = refused(["audit", "verify", *log], capfd)
    assert (code, "epoch 1 has two copies for the auditor by entries 0 and 2" in said) == (19, True)


def test_a_missing_copy_for_the_auditor_is_told(
    process: Process, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ["--log", str(process.folder)]
    process.start().gateway().close()
    process.end()
    (process.folder / "epochs/000001.cms").unlink()
    said = printed(["audit", "verify", *log], capfd)
    assert "epochs:    1 of 1 copies for the auditor are not here: 1\n" in said
    found = json.loads(printed(["audit", "verify", "--json", *log], capfd))
    assert (found["intact"], found["epochs"], found["epochs_missing"]) == (True, 1, [1])
    assert ", 0 epochs" in printed(["audit", "export", str(tmp_path / "out"), *log], capfd)
    assert compare(View(process.folder)) == {1: False}
