"""What is run to make, open and close the volume; the passphrase goes through standard input and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.drive import luks, volume
from custody.errors import SecretRefused, TargetRefused
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
    for words in ("--type luks2", "--cipher aes-xts-plain64", "--pbkdf argon2id", "--pbkdf-memory 262144", "/dev/vdb"):
        assert words in made
    assert host.called("mkfs.ext4 -q -L airgap-data -m 0 /dev/mapper/airgap-data")
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
