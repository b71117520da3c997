"""The second copy: opened by openssl and the private key alone, believed only when it is one, and of this drive."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.drive.escrow import PAYLOAD_TYPE, Escrow, Secrets, copies, read_opened
from custody.errors import AirgapError, InputInvalid, SecretRefused
from custody.trust.envelope import Envelope, pae
from custody.trust.keys import PrivateKey
from tests.unit.appliance.drive.emulated import Machine

SECRETS = Secrets(
    "S6CKNX0T123456", "Drive 1", "S" * 32, "A" * 32, psid="P" * 32, passphrase="never in an escrow", recovery_key="R-K"
)
HEADER = b"LUKS\xba\xbe" + bytes(100_000)


@pytest.fixture
def site(tmp_path: Path) -> Machine:
    """Keys of a host and of a site, and what decrypts with openssl."""
    return Machine(tmp_path)


@pytest.fixture
def escrow(site: Machine) -> Escrow:
    return Escrow(site.host_key, site.escrow_key.public, site.folder / "escrow")


def opened(site: Machine, content: bytes, mode: int = 0o600) -> Path:
    file = site.folder / "opened.json"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def names(escrow: Escrow) -> list[str]:
    return sorted(path.name for path in escrow.folder.glob("*.cms"))


def content(**changes: object) -> dict[str, object]:
    return {"schema": "airgap.escrow/1", "number": 1, **asdict(replace(SECRETS, passphrase="")), **changes}


def test_openssl_and_the_key_open_both_files(site: Machine, escrow: Escrow) -> None:
    file = escrow.complete(SECRETS, 1, HEADER)
    assert site.decrypt(file.with_suffix(".header.cms")) == HEADER
    envelope = site.decrypt(file)
    found = read_opened(opened(site, envelope), SECRETS.serial)
    digest = subprocess.run(["sha256sum"], input=HEADER, capture_output=True, check=True).stdout[:64].decode()
    assert found == replace(SECRETS, passphrase="", header_sha256=digest, number=1)
    # What is in it is signed by the host.
    parsed = Envelope.parse(envelope, "escrow")
    assert parsed.payload_type == PAYLOAD_TYPE
    signature = parsed.signatures[site.host_key.public.keyid]
    assert site.host_key.public.verifies(signature, pae(PAYLOAD_TYPE, parsed.payload))
    assert read_opened(opened(site, parsed.payload), SECRETS.serial) == found
    assert "never in an escrow" not in parsed.payload.decode()


def test_another_key_opens_nothing(site: Machine, escrow: Escrow) -> None:
    file = escrow.plan(SECRETS, 1)
    site.escrow_key = PrivateKey.generate()
    with pytest.raises(subprocess.CalledProcessError):
        site.decrypt(file)


def test_nothing_is_readable_without_the_key_or_by_others(escrow: Escrow) -> None:
    escrow.plan(SECRETS, 1)
    escrow.complete(SECRETS, 2, HEADER)
    assert escrow.folder.stat().st_mode & 0o777 == 0o700
    for file in escrow.folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        for secret in (SECRETS.sid, SECRETS.admin, SECRETS.psid, SECRETS.recovery_key):
            assert secret.encode() not in file.read_bytes()


@pytest.mark.parametrize("flip", [0, 40, -1, -20])
def test_a_copy_that_was_altered_does_not_open(site: Machine, escrow: Escrow, flip: int) -> None:
    file = escrow.plan(SECRETS, 1)
    data = bytearray(file.read_bytes())
    data[flip] ^= 1
    file.write_bytes(data)
    try:
        left = site.decrypt(file)
    except subprocess.CalledProcessError:
        return
    # openssl hands out what it decrypted before it sees that it was altered: the JSON then is none, or unchanged.
    try:
        found = read_opened(opened(site, left), SECRETS.serial)
    except AirgapError:
        return
    assert found == replace(SECRETS, passphrase="")


def test_numbers_count_on_and_planned_copies_go_when_a_change_is_complete(escrow: Escrow) -> None:
    serial = SECRETS.serial
    assert copies(serial, escrow.folder) == []
    assert escrow.next_number(serial) == 1
    escrow.plan(SECRETS, 1)
    assert names(escrow) == [f"{serial}-0001-planned.cms"]
    assert escrow.next_number(serial) == 2
    escrow.complete(SECRETS, 1, HEADER)
    assert names(escrow) == [f"{serial}-0001.cms", f"{serial}-0001.header.cms"]
    assert escrow.next_number(serial) == 2
    escrow.plan(SECRETS, 2)
    escrow.plan(SECRETS, 3)
    assert [number for number, _ in copies(serial, escrow.folder)] == [1, 2, 3]
    escrow.complete(SECRETS, 3, HEADER)
    assert [(number, file.name) for number, file in copies(serial, escrow.folder)] == [
        (1, f"{serial}-0001.cms"),
        (3, f"{serial}-0003.cms"),
    ]
    escrow.complete(SECRETS, 10_000, HEADER)
    assert copies(serial, escrow.folder)[-1][0] == 10_000


def test_copies_that_were_carried_off_keep_their_numbers(escrow: Escrow) -> None:
    escrow.plan(SECRETS, 1)
    escrow.complete(SECRETS, 1, HEADER)
    for file in escrow.folder.glob("*.cms"):
        file.unlink()
    assert escrow.next_number(SECRETS.serial) == 2


def test_other_drives_and_other_files_do_not_count(escrow: Escrow) -> None:
    serial = SECRETS.serial
    other = replace(SECRETS, serial=f"{serial}-0001")
    escrow.plan(other, 7)
    escrow.plan(replace(SECRETS, serial="X" + serial), 8)
    for name in (f"{serial}-1.cms", f"{serial}-0009.cms.part", f"{serial}-0009.header.cms", f"{serial}-x.cms"):
        (escrow.folder / name).touch()
    assert escrow.next_number(serial) == 1
    assert [number for number, _ in copies(other.serial, escrow.folder)] == [7]


def test_completing_one_drive_leaves_another_drives_plan(escrow: Escrow) -> None:
    other = replace(SECRETS, serial=f"{SECRETS.serial}-B")
    kept = escrow.plan(other, 1)
    escrow.complete(SECRETS, 1, HEADER)
    assert kept.exists()


@pytest.mark.parametrize("serial", ["WD [1]", "A*B", "a.b"])
def test_serials_with_signs_in_them_are_taken_by_the_letter(escrow: Escrow, serial: str) -> None:
    escrow.plan(replace(SECRETS, serial="AxB"), 5)
    escrow.plan(replace(SECRETS, serial="axb"), 6)
    odd = replace(SECRETS, serial=serial)
    escrow.plan(odd, 1)
    assert escrow.next_number(serial) == 2
    escrow.complete(odd, 1, HEADER)
    assert f"{serial}-0001-planned.cms" not in names(escrow)
    assert {"AxB-0005-planned.cms", "axb-0006-planned.cms"} <= set(names(escrow))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_an_opened_escrow_that_others_can_read_is_refused(site: Machine, mode: int) -> None:
    with pytest.raises(SecretRefused, match="expected mode 0600"):
        read_opened(opened(site, json.dumps(content()).encode(), mode), SECRETS.serial)


def test_what_is_not_a_plain_file_of_ours_is_refused(site: Machine) -> None:
    file = opened(site, json.dumps(content()).encode())
    link = site.folder / "link"
    link.symlink_to(file)
    pipe = site.folder / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (link, pipe, site.folder, site.folder / "nothing"):
        with pytest.raises(SecretRefused):
            read_opened(path, SECRETS.serial)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        os.seteuid(54321)
        try:
            with pytest.raises(SecretRefused):
                read_opened(file, SECRETS.serial)
        finally:
            os.seteuid(0)


def test_another_drives_secrets_are_refused(site: Machine) -> None:
    with pytest.raises(InputInvalid, match="expected the secrets of drive OTHER, found those of S6CKNX0T123456"):
        read_opened(opened(site, json.dumps(content()).encode()), "OTHER")


NO_TEXT = b"\xff\xfe"
HOSTILE = [
    b"{}", b"[]", b'""', b"null", b"1", b'"payloadType"', b'["payloadType"]', b"{", NO_TEXT, b"[" * 60_000,
    b'{"a":' * 12_000, b"9" * 5000,
    json.dumps(content(schema="airgap.escrow/2")).encode(),
    json.dumps(content(schema=None)).encode(),
    json.dumps({key: value for key, value in content().items() if key != "number"}).encode(),
    json.dumps({key: value for key, value in content().items() if key != "sid"}).encode(),
    json.dumps(content(sid=1)).encode(),
    json.dumps(content(sid=None)).encode(),
    json.dumps(content(sid=["S" * 32])).encode(),
    json.dumps(content(serial=[SECRETS.serial])).encode(),
    json.dumps({"payloadType": PAYLOAD_TYPE}).encode(),
    json.dumps({"payloadType": PAYLOAD_TYPE, "payload": 1}).encode(),
    json.dumps({"payloadType": PAYLOAD_TYPE, "payload": "%%%"}).encode(),
    json.dumps({"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(b"[]").decode()}).encode(),
    json.dumps({"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(b"[" * 40_000).decode()}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:40]))
def test_what_is_no_escrow_is_refused(site: Machine, data: bytes) -> None:
    with pytest.raises((InputInvalid, SecretRefused)) as caught:
        read_opened(opened(site, data), SECRETS.serial)
    told = f"{caught.value.message} {caught.value.hint}"
    assert SECRETS.sid not in told
    assert SECRETS.admin not in told
    assert caught.value.__cause__ is None or data == NO_TEXT


def test_a_name_told_twice_is_refused(site: Machine) -> None:
    text = json.dumps(content())
    twice = text[:-1] + ', "sid": "' + "X" * 32 + '"}'
    with pytest.raises(InputInvalid):
        read_opened(opened(site, twice.encode()), SECRETS.serial)
    envelope = {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(twice.encode()).decode(), "signatures": []}
    with pytest.raises(InputInvalid):
        read_opened(opened(site, json.dumps(envelope).encode()), SECRETS.serial)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*content(), "payloadType", "payload"]), inner, max_size=6)
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_anything_else_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("escrow") / "opened"
    file.touch(mode=0o600)
    file.write_bytes(data)
    with pytest.raises((InputInvalid, SecretRefused)):
        read_opened(file, SECRETS.serial)


@pytest.mark.parametrize("key", ["nothing", "AAAA", "%%%", base64.b64encode(bytes(120)).decode()])
def test_an_escrow_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(InputInvalid, match="escrow key"):
        Escrow.to(key)


def test_no_escrow_key_is_no_escrow() -> None:
    assert Escrow.to("") is None


def test_a_good_key_makes_one(site: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.hostkey.load_or_make", lambda: site.host_key)
    made = Escrow.to(base64.b64encode(site.escrow_key.public.der).decode())
    assert made is not None
    assert (made.recipient, made.signer) == (site.escrow_key.public, site.host_key)


def test_a_full_disk_leaves_the_copies_that_were_there(escrow: Escrow, monkeypatch: pytest.MonkeyPatch) -> None:
    file = escrow.plan(SECRETS, 1)
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("appliance.drive.escrow.write_whole", full)
    with pytest.raises(OSError, match="No space"):
        escrow.complete(SECRETS, 1, HEADER)
    assert names(escrow) == [file.name]
    assert file.read_bytes() == before
