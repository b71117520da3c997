"""What is run to make, open and close the volume; the passphrase goes through standard input and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.drive import luks, volume
from appliance.drive.pending import Known, Pending
from custody.errors import AlreadyRunning, DriveFailed, ProgramFailed, SecretRefused, TargetRefused
from tests.unit.appliance.conftest import Programs
from tests.unit.appliance.drive.test_disks import DATA, OPENED, OURS, header, lsblk

PASSPHRASE = "correct horse"
VOLUME = volume.Volume("DATA1", "airgap-data", Path("/srv/airgap"))


@pytest.fixture
def host(programs: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A host with a blank disk and nothing open or mounted; opening and mounting are remembered."""
    state = {"open": False, "mounted": False}
    canned = programs(
        "appliance.drive.disks",
        "appliance.drive.luks",
        "appliance.drive.volume",
        answers={"lsblk": lsblk(DATA), "blkid": (2, ""), "cryptsetup luksDump": (0, header())},
    )
    ordinary = canned.run

    def run(argv: Any, **others: Any) -> Any:
        done = ordinary(argv, **others)
        words = [str(word) for word in argv[:2]]
        if done.returncode == 0:
            state["open"] = {"cryptsetup open": True, "cryptsetup close": False}.get(" ".join(words), state["open"])
            verbs = {"systemctl start": True, "systemctl stop": False}
            state["mounted"] = verbs.get(" ".join(words), state["mounted"])
        return done

    monkeypatch.setattr("appliance.drive.volume.run", run)
    monkeypatch.setattr("appliance.drive.luks.run", run)
    monkeypatch.setattr("appliance.drive.sed.Sed.discover", lambda _self: None)
    monkeypatch.setattr(volume.Volume, "is_open", property(lambda _self: state["open"]))
    monkeypatch.setattr(volume.Volume, "is_mounted", property(lambda _self: state["mounted"]))
    return canned


def test_a_blank_disk_is_formatted_opened_and_mounted(host: Programs) -> None:
    done = volume.prepare(VOLUME, PASSPHRASE, [])
    assert [line.rsplit(": ", 1)[1] for line in done] == ["formatted, luks", "opened", "ext4 made", "mounted"]
    (made,) = [line for line in host.calls if "luksFormat" in line]
    assert Pending("DATA1").volume is Known.MADE
    for words in ("--type luks2", "--cipher aes-xts-plain64", "--pbkdf argon2id", "--pbkdf-memory 262144", "/dev/vdb"):
        assert words in made
    assert host.called("mkfs.ext4 -q -F -L airgap-data -m 0 /dev/mapper/airgap-data")
    assert host.called("systemctl start srv-airgap.mount")


def test_the_passphrase_is_in_no_argument(host: Programs) -> None:
    volume.prepare(VOLUME, PASSPHRASE, [])
    assert not any("horse" in line for line in host.calls)
    given = [line for line, secrets in host.handed.items() if secrets == [PASSPHRASE.encode()]]
    assert not any(host.inputs.values())
    assert [line.split()[1] for line in given] == ["luksFormat", "open"]


def test_our_volume_is_opened_and_not_formatted(host: Programs) -> None:
    host.answers["blkid"] = (0, OURS)
    done = volume.prepare(VOLUME, PASSPHRASE, [])
    assert [line.rsplit(": ", 1)[1] for line in done] == ["opened", "mounted"]
    assert not host.called("cryptsetup luksFormat")
    assert not host.called("mkfs")


def test_a_second_time_does_nothing(host: Programs) -> None:
    volume.prepare(VOLUME, PASSPHRASE, [])
    host.answers |= {"blkid": (0, OURS), "lsblk": lsblk({**DATA, "children": [OPENED]})}
    assert volume.prepare(VOLUME, PASSPHRASE, []) == []


def test_a_dry_run_touches_nothing(host: Programs) -> None:
    done = volume.prepare(VOLUME, PASSPHRASE, [], dry_run=True)
    assert [line.rsplit(": ", 1)[1] for line in done] == ["formatted, luks", "opened", "mounted"]
    assert {line.split()[0] for line in host.calls} == {"lsblk", "blkid"}


def test_a_foreign_disk_is_not_touched(host: Programs) -> None:
    host.answers["blkid"] = (0, "TYPE=ext4\n")
    with pytest.raises(TargetRefused, match="content"):
        volume.prepare(VOLUME, PASSPHRASE, [])
    assert {line.split()[0] for line in host.calls} == {"lsblk", "blkid"}


def test_a_mapper_of_another_disk_is_not_taken_for_ours(host: Programs) -> None:
    volume.prepare(VOLUME, PASSPHRASE, [])
    with pytest.raises(TargetRefused, match="another disk"):
        volume.prepare(VOLUME, PASSPHRASE, [])


def test_a_wrong_passphrase_is_the_operators_business(host: Programs) -> None:
    host.answers |= {"blkid": (0, OURS), "cryptsetup open": (2, "No key available with this passphrase.")}
    with pytest.raises(SecretRefused) as caught:
        volume.unlock(VOLUME, PASSPHRASE)
    assert caught.value.exit_code == 24
    assert "horse" not in str(caught.value)


def test_a_disk_on_which_a_volume_was_made_is_never_formatted_again(host: Programs) -> None:
    volume.prepare(VOLUME, PASSPHRASE, [])
    volume.lock(VOLUME)
    host.calls.clear()
    for dry_run in (True, False):
        with pytest.raises(TargetRefused, match="expected the volume that this host made") as caught:
            volume.prepare(VOLUME, PASSPHRASE, [], dry_run=dry_run)
        assert "recover-a-drive.md: The header is damaged" in caught.value.hint
    assert {line.split()[0] for line in host.calls} == {"lsblk", "blkid"}
    Pending("DATA1").forget()  # after a revert
    assert "formatted" in volume.prepare(VOLUME, PASSPHRASE, [])[0]


def test_a_damaged_file_system_is_not_made_anew(host: Programs) -> None:
    host.answers |= {"blkid --probe --output export /dev/vdb": (0, OURS)}
    with pytest.raises(DriveFailed, match="expected ext4, found nothing") as caught:
        volume.prepare(VOLUME, PASSPHRASE, [])
    assert "The file system has errors" in caught.value.hint
    assert not host.called("mkfs")


@pytest.mark.parametrize("killed_at", ["cryptsetup luksFormat", "cryptsetup open", "mkfs"])
def test_what_was_killed_before_it_held_anything_is_formatted_again(host: Programs, killed_at: str) -> None:
    host.answers[killed_at] = (1, "killed")
    with pytest.raises(ProgramFailed):
        volume.prepare(VOLUME, PASSPHRASE, [])
    del host.answers[killed_at]
    inside = [OPENED] if killed_at == "mkfs" else []
    host.answers |= {"blkid": (0, OURS), "lsblk": lsblk({**DATA, "children": inside})}
    with pytest.raises(TargetRefused, match="expected a volume that may hold data"):
        volume.unlock(VOLUME, PASSPHRASE)
    done = volume.prepare(VOLUME, PASSPHRASE, [])
    assert [line.rsplit(": ", 1)[1] for line in done] == ["formatted, luks", "opened", "ext4 made", "mounted"]
    host.answers["lsblk"] = lsblk({**DATA, "children": [OPENED]})
    assert volume.prepare(VOLUME, PASSPHRASE, []) == []


def test_a_wrong_passphrase_is_told_while_the_volume_is_open(host: Programs) -> None:
    volume.prepare(VOLUME, PASSPHRASE, [])
    host.answers |= {"blkid": (0, OURS), "lsblk": lsblk({**DATA, "children": [OPENED]})}
    host.answers["cryptsetup open --type luks2 --test-passphrase"] = (2, "")
    for dry_run in (True, False):
        with pytest.raises(SecretRefused, match="which is open already"):
            volume.prepare(VOLUME, PASSPHRASE, [], dry_run=dry_run)


def test_two_at_once_are_refused(host: Programs) -> None:
    with Pending("DATA1").alone(), pytest.raises(AlreadyRunning):
        volume.prepare(VOLUME, PASSPHRASE, [])
    assert not host.calls


@pytest.fixture
def locking(host: Programs, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | None]:
    """The host's disk encrypts; what its closed or opened range reads as."""
    opal = {"type": "hw-opal-crypt", "offset": "16777216", "encryption": "aes-xts-plain64", "opal_segment_number": 1}
    dump = header(segments={"0": opal}, config={"requirements": {"mandatory": ["opal"]}})
    host.answers |= {"blkid": (0, OURS), "cryptsetup luksDump": (0, dump)}
    block: dict[str, bytes | None] = {"16777216": None}
    monkeypatch.setattr("appliance.drive.sed.Sed.read", lambda _self, at, _length=4096: block[str(at)])
    return block


def test_locked_is_said_of_a_drive_that_refuses_to_be_read(host: Programs, locking: dict[str, bytes | None]) -> None:
    assert volume.lock(VOLUME) == []
    locking["16777216"] = bytes(4096)
    # Somebody was killed between the drive's command and the mapper's, or the drive does not lock.
    with pytest.raises(DriveFailed, match="refuse reads at byte 16777216") as caught:
        volume.lock(VOLUME)
    assert "airgap unlock, then airgap drive lock" in caught.value.hint
    assert volume.lock(VOLUME, dry_run=True) == []


def test_a_drive_that_lost_its_power_under_an_open_volume_is_opened_again(
    host: Programs, locking: dict[str, bytes | None]
) -> None:
    volume.unlock(VOLUME, PASSPHRASE)
    host.answers["lsblk"] = lsblk({**DATA, "children": [OPENED]})
    locking["16777216"] = bytes(4096)
    assert not volume.needs_unlocking(VOLUME)
    assert volume.unlock(VOLUME, PASSPHRASE) == []
    locking["16777216"] = None
    assert volume.needs_unlocking(VOLUME)
    host.calls.clear()
    would = volume.unlock(VOLUME, "", dry_run=True)
    assert not host.called("systemctl")
    assert volume.unlock(VOLUME, PASSPHRASE) == would
    changing = ("systemctl stop", "systemctl start", "cryptsetup open", "cryptsetup close")
    assert [line.split(" --")[0] for line in host.calls if line.startswith(changing)] == [
        "systemctl stop srv-airgap.mount",
        "cryptsetup close airgap-data",
        "cryptsetup open",
        "systemctl start srv-airgap.mount",
    ]


def test_unlock_formats_nothing(host: Programs) -> None:
    with pytest.raises(TargetRefused, match="found a blank disk"):
        volume.unlock(VOLUME, PASSPHRASE)
    assert not host.called("cryptsetup")


def test_unlock_and_lock_say_whether_there_was_anything_to_do(host: Programs) -> None:
    host.answers["blkid"] = (0, OURS)
    opened = volume.unlock(VOLUME, PASSPHRASE)
    assert [line.rsplit(": ", 1)[1] for line in opened] == ["opened as /dev/mapper/airgap-data", "mounted"]
    assert volume.unlock(VOLUME, PASSPHRASE) == []
    assert [line.split(": ")[0] for line in volume.lock(VOLUME)] == ["/srv/airgap", "/dev/mapper/airgap-data"]
    assert volume.lock(VOLUME) == []
    assert [line for line in host.calls if "stop" in line or "close" in line] == [
        "systemctl stop srv-airgap.mount",
        "cryptsetup close airgap-data",
    ]


def test_the_allow_list_of_headers_is_what_format_writes() -> None:
    assert (luks.CIPHER, luks.KDF, luks.MAX_MEMORY_KIB) == ("aes-xts-plain64", "argon2id", 262144)


def test_dry_runs_of_unlock_and_lock_say_the_same_and_do_nothing(host: Programs) -> None:
    host.answers["blkid"] = (0, OURS)
    would = volume.unlock(VOLUME, "", dry_run=True)
    assert not host.called("cryptsetup open")
    assert not host.called("systemctl")
    assert volume.unlock(VOLUME, PASSPHRASE) == would
    calls = list(host.calls)
    would = volume.lock(VOLUME, dry_run=True)
    assert host.calls == calls
    assert volume.lock(VOLUME) == would
