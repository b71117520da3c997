"""A host's description counts only under the key that was pinned, unaltered, and for the system that is meant."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from appliance import hostkey, inventory
from bundler.collect.resolve import _target_of
from bundler.manifest.models import Target
from custody.errors import BundleMalformed, InputInvalid, SecretRefused, SignatureRejected
from custody.trust import canonical
from custody.trust.description import PAYLOAD_TYPE, HostDescription, open_signed, sign
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey

KEY = PrivateKey.generate()
CONTENT: dict[str, Any] = {
    "schema_version": 1, "host_key": base64.b64encode(KEY.public.der).decode(), "described_at": 1795239118,
    "distribution": "debian", "release": "trixie", "architecture": "amd64", "python": "3.13",
    "kernel": "6.12.57+deb13-amd64", "driver": None, "processors": 2, "memory_bytes": 8 << 30,
    "firmware": {"mode": "uefi", "vendor": "EDK II", "version": "1", "secure_boot": True},
    "gpus": [{"slot": "0000:01:00.0", "pci_id": "10de:2335"}],
    "disks": [{"path": "/dev/vda", "serial": "ROOT77", "model": "", "size_bytes": 8 << 30}],
    "releases": ["demo-1"], "dpkg_status": "Package: base-files\nStatus: install ok installed\n",
    "accepted": {"root_fingerprint": "", "channel": "demo", "version": 1, "security_epoch": 1, "release": "demo-1"},
}  # fmt: skip
DESCRIPTION = HostDescription.model_validate_json(json.dumps(CONTENT))
SIGNED = sign(DESCRIPTION, KEY)


def envelope(payload: bytes, key: PrivateKey = KEY, kind: str = PAYLOAD_TYPE) -> bytes:
    """An envelope over any payload."""
    return Envelope(kind, payload, {}).signed_by(key).dump()


def test_a_description_comes_back_as_it_was_signed() -> None:
    found = open_signed(SIGNED, KEY.public.keyid, "host.json")
    assert found == DESCRIPTION
    assert found.kernel_series == "6.12"


def altered() -> bytes:
    """The payload changed, the signature kept."""
    signed = Envelope.parse(SIGNED, "host.json")
    payload = canonical.dump({**CONTENT, "dpkg_status": ""})
    return Envelope(PAYLOAD_TYPE, payload, signed.signatures).dump()


OTHER = PrivateKey.generate()


@pytest.mark.parametrize(
    ("data", "refused", "said"),
    [
        (altered(), SignatureRejected, "is false"),
        (envelope(canonical.dump(CONTENT), OTHER), SignatureRejected, "not signed by its host key"),
        (
            envelope(canonical.dump({**CONTENT, "host_key": base64.b64encode(OTHER.public.der).decode()}), OTHER),
            SignatureRejected,
            "expected host key",
        ),
        (Envelope(PAYLOAD_TYPE, canonical.dump(CONTENT), {}).dump(), SignatureRejected, "not signed"),
        (envelope(canonical.dump(CONTENT), kind="text/plain"), BundleMalformed, "expected application/vnd.airgap"),
        (envelope(json.dumps(CONTENT).encode()), BundleMalformed, "canonical"),
        (envelope(canonical.dump({**CONTENT, "more": 1})), BundleMalformed, "more"),
        (envelope(canonical.dump({**CONTENT, "host_key": "AAAA"})), BundleMalformed, "host_key"),
        (envelope(canonical.dump([])), BundleMalformed, "host_key"),
        (b"{}", BundleMalformed, "envelope"),
    ],
)
def test_what_is_not_the_pinned_host_s_word_is_refused(data: bytes, refused: type[Exception], said: str) -> None:
    with pytest.raises(refused, match=said):
        open_signed(data, KEY.public.keyid, "host.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [("architecture", "arm64"), ("release", "bookworm"), ("distribution", "ubuntu"), ("python", "3.11")],
)
def test_lock_refuses_a_host_of_another_system(field: str, value: str) -> None:
    target = Target.model_validate_json(
        json.dumps(
            {
                **{name: CONTENT[name] for name in ("distribution", "release", "architecture", "python")},
                "kernel": "6.1",
                "dpkg_status": "baselines/none.status",
            }
        )
    )
    assert _target_of(DESCRIPTION, target).kernel == "6.12"
    with pytest.raises(InputInvalid, match=f"expected {field} .* found {value}"):
        _target_of(DESCRIPTION.model_copy(update={field: value}), target)


def test_a_host_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    file = tmp_path / "airgap" / "host.key"
    first = hostkey.load_or_make(file)
    assert hostkey.load_or_make(file).public == first.public
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]
    file.chmod(0o644)
    with pytest.raises(SecretRefused, match="mode 0644"):
        hostkey.load_or_make(file)


def test_a_broken_host_key_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "host.key"
    file.write_text("broken")
    file.chmod(0o600)
    with pytest.raises(SecretRefused):
        hostkey.load_or_make(file)
    assert file.read_text() == "broken"


def test_this_machine_describes_itself_and_the_description_is_accepted() -> None:
    description = inventory.describe(KEY.public)
    assert open_signed(sign(description, KEY), KEY.public.keyid, "host") == description
    assert description.dpkg_status == Path("/var/lib/dpkg/status").read_text(errors="replace")
    assert description.memory_bytes > 1 << 28


def test_gpus_are_display_controllers_and_secure_boot_is_read(tmp_path: Path) -> None:
    for slot, kind, vendor, device in (
        ("0000:01:00.0", "0x030200", "0x10de", "0x2335"),
        ("0000:02:00.0", "0x020000", "0x8086", "0x1533"),
    ):
        (tmp_path / "pci" / slot).mkdir(parents=True)
        for name, text in (("class", kind), ("vendor", vendor), ("device", device)):
            (tmp_path / "pci" / slot / name).write_text(f"{text}\n")
    assert [gpu.pci_id for gpu in inventory._gpus(tmp_path / "pci")] == ["10de:2335"]
    for value, expected in ((b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False)):
        variable = tmp_path / "efi" / inventory._SECURE_BOOT
        variable.parent.mkdir(parents=True, exist_ok=True)
        variable.write_bytes(value)
        assert inventory._firmware(tmp_path / "efi", tmp_path).secure_boot is expected
    assert inventory._firmware(tmp_path / "none", tmp_path).secure_boot is None
