"""A host's ssh key is pinned once, by somebody who vouched for it, and another one is refused."""

from __future__ import annotations

import os
from pathlib import Path

import paramiko
import pytest

from bundler.install.remote.inventory import InventoryHost
from bundler.install.remote.link import KeyLocked, load_key
from bundler.install.remote.pins import Pins
from custody._run import run
from custody.errors import EnvironmentProblem, HostKeyRejected, SecretRefused


def new_key(folder: Path, name: str, passphrase: str = "") -> Path:
    """A key pair by OpenSSH."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", folder / name])
    return folder / name


def host(host_key: str | None = None) -> InventoryHost:
    return InventoryHost(
        name="a", address="10.20.0.1", key=Path("/root/.ssh/site"), site=Path("a.yml"), host_key=host_key
    )


@pytest.fixture
def keys(tmp_path: Path) -> tuple[paramiko.PKey, paramiko.PKey]:
    return load_key(new_key(tmp_path, "one"), None), load_key(new_key(tmp_path, "two"), None)


def test_first_contact_is_told_apart_and_a_pinned_key_is_known(
    tmp_path: Path, keys: tuple[paramiko.PKey, paramiko.PKey]
) -> None:
    pins = Pins(tmp_path / "known_hosts")
    assert pins.require(host(), keys[0]) is False
    pins.add(host(), keys[0])
    again = Pins(tmp_path / "known_hosts")
    assert again.require(host(), keys[0]) is True
    assert again.kind(host()) == "ssh-ed25519"
    assert (tmp_path / "known_hosts").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("known_hosts*")] == ["known_hosts"]


def test_a_changed_key_is_refused_with_both_fingerprints(
    tmp_path: Path, keys: tuple[paramiko.PKey, paramiko.PKey]
) -> None:
    pins = Pins(tmp_path / "known_hosts")
    pins.add(host(), keys[0])
    with pytest.raises(HostKeyRejected) as refused:
        pins.require(host(), keys[1])
    assert keys[0].fingerprint in refused.value.message
    assert keys[1].fingerprint in refused.value.message
    assert refused.value.exit_code == 16
    pins.add(host(), keys[1])  # a pin is never replaced
    assert Pins(tmp_path / "known_hosts").require(host(), keys[0]) is True


def test_the_inventory_vouches_and_refuses(tmp_path: Path, keys: tuple[paramiko.PKey, paramiko.PKey]) -> None:
    pins = Pins(tmp_path / "known_hosts")
    assert pins.require(host(keys[0].fingerprint), keys[0]) is True
    with pytest.raises(HostKeyRejected, match="host_key in the inventory"):
        pins.require(host(keys[0].fingerprint), keys[1])


def test_openssh_reads_the_same_file(tmp_path: Path, keys: tuple[paramiko.PKey, paramiko.PKey]) -> None:
    Pins(tmp_path / "known_hosts").add(host(), keys[0])
    said = run(["ssh-keygen", "-l", "-F", "10.20.0.1", "-f", tmp_path / "known_hosts"]).text
    assert keys[0].fingerprint in said


@pytest.mark.parametrize("text", ["10.20.0.1 ssh-ed25519\n", "\n", "10.20.0.1 ssh-ed25519 AAAA\n" * 2, "\0\n"])
def test_a_broken_file_pins_nothing_silently(tmp_path: Path, text: str) -> None:
    file = tmp_path / "known_hosts"
    file.touch(0o600)
    file.write_text(text)
    with pytest.raises(EnvironmentProblem, match=r"known_hosts:\d"):
        Pins(file)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.touch()
    os.chmod(file, 0o666)  # noqa: PTH101 - the umask does not count
    with pytest.raises(EnvironmentProblem, match="others may write"):
        Pins(file)


def test_login_keys(tmp_path: Path) -> None:
    locked = new_key(tmp_path, "locked", "quite a long one")
    with pytest.raises(KeyLocked):
        load_key(locked, None)
    assert load_key(locked, "quite a long one").get_name() == "ssh-ed25519"
    with pytest.raises(SecretRefused) as refused:
        load_key(locked, "wrong")
    assert "wrong" not in refused.value.message
    locked.chmod(0o640)
    with pytest.raises(SecretRefused, match="mode 0600"):
        load_key(locked, "quite a long one")
