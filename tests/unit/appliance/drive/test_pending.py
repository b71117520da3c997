"""What a killed change left: its passphrase opens it, and nothing else, and not under another name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.drive import pending
from appliance.drive.escrow import Secrets
from appliance.drive.pending import OWN, ROTATE, Change, Known, Pending
from custody.errors import AlreadyRunning, InputInvalid, SecretRefused

NEW = Secrets("SERIAL1", "Drive", "S" * 32, "A" * 32, "P" * 32, "new passphrase ü", "R-K")
OLD = replace(NEW, sid="O" * 32, admin="D" * 32, passphrase="old")
CHANGE = Change(ROTATE, 4, OLD, NEW)
PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "_COST", {"n": 2, "r": 8, "p": 1})


@pytest.fixture
def kept(tmp_path: Path) -> Pending:
    return Pending("SERIAL1", tmp_path / "drive")


@pytest.mark.parametrize("change", [CHANGE, Change(OWN, 1, None, NEW)])
def test_a_change_comes_back_whole(kept: Pending, change: Change) -> None:
    assert not kept.what
    kept.write(change, PASSPHRASE)
    assert kept.what == change.what
    assert kept.read(change.what, PASSPHRASE) == change
    file = kept.file(change.what)
    assert (file.stat().st_mode & 0o777, kept.folder.stat().st_mode & 0o777) == (0o600, 0o700)
    for secret in (NEW.sid, OLD.admin, NEW.recovery_key, PASSPHRASE):
        assert secret.encode() not in file.read_bytes()
    kept.end(change.what)
    assert not kept.what
    kept.end(change.what)


def test_guessing_costs_what_it_should() -> None:
    """RFC 7914 with 128 MiB: as shipped, not as these tests set it."""
    source = Path(pending.__file__).read_text()
    assert '_COST = {"n": 1 << 17, "r": 8, "p": 1}' in source


@pytest.mark.parametrize("passphrase", ["", "correct", "correct horse ", "Correct horse", "correct horse\n"])
def test_another_passphrase_opens_nothing(kept: Pending, passphrase: str) -> None:
    kept.write(CHANGE, PASSPHRASE)
    with pytest.raises(SecretRefused) as caught:
        kept.read(ROTATE, passphrase)
    assert PASSPHRASE not in str(caught.value)
    assert caught.value.hint


def test_a_flipped_bit_anywhere_is_seen(kept: Pending) -> None:
    kept.write(CHANGE, PASSPHRASE)
    file = kept.file(ROTATE)
    whole = file.read_bytes()
    for at in range(len(whole)):  # magic, salt, nonce, what is sealed, tag
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises((SecretRefused, InputInvalid)):
            kept.read(ROTATE, PASSPHRASE)
    file.write_bytes(whole)
    assert kept.read(ROTATE, PASSPHRASE) == CHANGE


def test_a_file_cut_off_or_lengthened_anywhere_is_refused(kept: Pending) -> None:
    kept.write(CHANGE, PASSPHRASE)
    file = kept.file(ROTATE)
    whole = file.read_bytes()
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"\0", whole * 2):
        file.write_bytes(data)
        with pytest.raises((SecretRefused, InputInvalid)):
            kept.read(ROTATE, PASSPHRASE)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=80), st.booleans())
def test_anything_else_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bool) -> None:
    kept = Pending("SERIAL1", tmp_path_factory.mktemp("drive"))
    kept.file(OWN).write_bytes((b"airgap-pending-1\n" if magic else b"") + data)
    with pytest.raises((SecretRefused, InputInvalid)):
        kept.read(OWN, PASSPHRASE)


@pytest.mark.parametrize(("written", "read"), [(OWN, ROTATE), (ROTATE, OWN)])
def test_a_renamed_change_is_not_another_one(kept: Pending, written: str, read: str) -> None:
    """Taking over formats: what was a rotation must never become that."""
    kept.write(replace(CHANGE, what=written), PASSPHRASE)
    kept.file(written).rename(kept.file(read))
    assert kept.what == read
    with pytest.raises(InputInvalid, match="renamed"):
        kept.read(read, PASSPHRASE)


def test_a_change_of_another_drive_is_not_this_ones(kept: Pending) -> None:
    kept.write(CHANGE, PASSPHRASE)
    other = Pending("SERIAL2", kept.folder)
    kept.file(ROTATE).rename(other.file(ROTATE))
    with pytest.raises(InputInvalid, match="of SERIAL2"):
        other.read(ROTATE, PASSPHRASE)


def test_two_writings_share_nothing(kept: Pending) -> None:
    kept.write(CHANGE, PASSPHRASE)
    first = kept.file(ROTATE).read_bytes()
    kept.write(CHANGE, PASSPHRASE)
    second = kept.file(ROTATE).read_bytes()
    head = len(b"airgap-pending-1\n")
    assert first[:head] == second[:head]
    assert first[head : head + 28] != second[head : head + 28]
    assert first[head + 28 :] != second[head + 28 :]


def test_how_far_a_volume_is_outlives_the_process_and_ends_with_the_drive(kept: Pending) -> None:
    assert kept.volume is Known.UNKNOWN
    for known in (Known.MAKING, Known.MADE):
        kept.note(known)
        assert Pending(kept.serial, kept.folder).volume is known
    kept.write(CHANGE, PASSPHRASE)
    kept.forget()
    assert (kept.volume, kept.what, list(kept.folder.iterdir())) == (Known.UNKNOWN, "", [])
    (kept.folder / "SERIAL1.volume").write_text("perhaps")
    with pytest.raises(InputInvalid, match="expected `making` or `made`"):
        _ = kept.volume


def test_an_ended_change_does_not_come_back_with_the_power(kept: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    kept.write(CHANGE, PASSPHRASE)
    monkeypatch.setattr("custody.atomic.sync_folder", synced.append)
    kept.end(OWN)
    assert kept.what == ROTATE and not synced
    kept.end(ROTATE)
    assert synced == [kept.folder]


def test_two_at_once_are_refused(kept: Pending) -> None:
    with kept.alone(), pytest.raises(AlreadyRunning, match="another airgap that changes drives"), kept.alone():
        raise AssertionError
    with kept.alone():
        pass
