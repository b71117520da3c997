"""What an auditor gets: a statement that openssl alone verifies, and a page that says the same."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.drive import certificate
from appliance.drive.certificate import PAYLOAD_TYPE, Certificate
from appliance.drive.disks import Disk
from appliance.drive.erase import Erased
from custody.trust.keys import PrivateKey

ERASED = Erased(
    "TCG Opal Revert: the drive made new media encryption keys", "Purge (cryptographic erase)", 1041, 0, 737, 721, 0
)
DISK = Disk(Path("/dev/nvme0n1"), "S6CKNX0T123456", "Samsung SSD 980 PRO 1TB", 1_000_204_886_016, False, ())
#: As docs/how-to/audit.md has it for a receipt.
VERIFY = r"""
set -e
cut -d'"' -f4 "$1" | base64 -d >payload
{ printf 'DSSEv1 %s %s %s ' 43 application/vnd.airgap.decommission+json "$(wc -c <payload)"; cat payload; } >pae
sed 's/.*"sig":"\([^"]*\)".*/\1/' "$1" | base64 -d >sig
base64 -d "$2" | openssl pkey -pubin -inform DER -out pem
openssl dgst -sha384 -verify pem -signature sig pae
"""


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture
def made(key: PrivateKey) -> Certificate:
    return certificate.certify(DISK, ERASED, "rack3-host7", key)


def text_of(page: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext here")
    return subprocess.run(["pdftotext", "-layout", page, "-"], capture_output=True, text=True, check=True).stdout


def verify(file: Path, key: PrivateKey) -> subprocess.CompletedProcess[str]:
    """With openssl and a shell, in the file's folder."""
    public = file.parent / "host.pub"
    public.write_text(base64.b64encode(key.public.der).decode() + "\n")
    command = ["sh", "-c", VERIFY.replace(" 43 ", f" {len(PAYLOAD_TYPE)} "), "sh", file, public]
    return subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False)


def test_openssl_verifies_it(made: Certificate, key: PrivateKey, tmp_path: Path) -> None:
    signed, page = certificate.write(made, key, tmp_path)
    assert (signed.name, page.name) == (
        "S6CKNX0T123456-decommissioned.dsse.json",
        "S6CKNX0T123456-decommissioned.pdf",
    )
    done = verify(signed, key)
    assert (done.returncode, done.stdout) == (0, "Verified OK\n"), done.stderr
    told = json.loads((tmp_path / "payload").read_bytes())
    assert told == {
        "schema": "airgap.decommission/1",
        "serial": DISK.serial,
        "model": DISK.model,
        "size_bytes": DISK.size_bytes,
        "time": made.time,
        "host": "rack3-host7",
        "host_key": key.public.keyid,
        "erased": {
            "method": ERASED.method,
            "category": ERASED.category,
            "places": 1041,
            "locked": 0,
            "compared": 737,
            "compared_data": 721,
            "unchanged": 0,
        },
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["time"])


def test_openssl_refuses_another_key_and_another_statement(made: Certificate, key: PrivateKey, tmp_path: Path) -> None:
    signed, _ = certificate.write(made, key, tmp_path)
    assert verify(signed, PrivateKey.generate()).returncode != 0
    envelope = json.loads(signed.read_bytes())
    payload = json.loads(base64.b64decode(envelope["payload"]))
    for change in (
        {"serial": "OTHER"},
        {"erased": {**payload["erased"], "unchanged": 1}},
        {"time": "2020-01-01T00:00:00Z"},
    ):
        told = json.dumps({**payload, **change}, separators=(",", ":"), sort_keys=True).encode()
        other = {**envelope, "payload": base64.b64encode(told).decode()}
        signed.write_text(json.dumps(other, separators=(",", ":"), sort_keys=True))
        assert verify(signed, key).returncode != 0, change


def test_the_same_statement_gives_the_same_bytes_but_for_the_signature(
    made: Certificate, key: PrivateKey, tmp_path: Path
) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        signed, page = certificate.write(made, key, tmp_path / name)
        written.append((json.loads(signed.read_bytes())["payload"], page.read_bytes()))
    assert written[0] == written[1]


def test_the_page_says_what_the_statement_says(made: Certificate, key: PrivateKey, tmp_path: Path) -> None:
    _, page = certificate.write(made, key, tmp_path)
    text = text_of(page)
    assert text.count("\f") == 1  # one page
    told = " ".join(text.split())
    for words in (
        "S6CKNX0T123456", "Samsung SSD 980 PRO 1TB", "1000.2 GB", ERASED.method, ERASED.category, "NIST SP 800-88",
        "1041 blocks of 4096 bytes, before", "0 of them, before: not compared",
        "737 of them, which held something, before and after; 721 are data",
        "0 of these", "can no longer be read: below", "host rack3-host7", made.time[:10], made.time[11:19],
        "proves nothing by itself", "the firmware made new keys",
    ):  # fmt: skip
        assert words in told, words
    assert key.public.keyid in re.sub(r"\s", "", text)


@pytest.mark.parametrize("change", [
    {"model": ""},
    {"model": "<b>&amp;</b> " * 6, "serial": "A<&>B"},
    {"model": "M" * 40, "serial": "S" * 20, "host": "h" * 64},
])  # fmt: skip
def test_odd_names_make_a_page_too(made: Certificate, key: PrivateKey, tmp_path: Path, change: dict[str, str]) -> None:
    signed, page = certificate.write(replace(made, **change), key, tmp_path)
    assert verify(signed, key).returncode == 0
    assert page.read_bytes().startswith(b"%PDF-")


def test_of_a_volume_the_page_does_not_speak_of_firmware(made: Certificate, key: PrivateKey, tmp_path: Path) -> None:
    erased = Erased("LUKS2 key slots and header destroyed", "Clear (cryptographic erase)", 1041, 0, 737, 721, 720)
    _, page = certificate.write(replace(made, erased=erased), key, tmp_path)
    told = " ".join(text_of(page).split())
    assert "720 of these, after: noise without the keys" in told
    assert "escrowed headers are to be destroyed" in told
    assert "firmware" not in told


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"locked": 1024, "compared_data": 0}, "no block of them could be compared, 1024 were locked before"),
        ({"compared_data": 0}, "its word alone: no block of them could be compared, all were empty before"),
        ({"locked": 20}, "Of 20 blocks that were locked before this is the drive's word alone"),
    ],
    ids=["locked", "empty", "partly"],
)
def test_the_page_claims_no_more_than_was_seen(made: Certificate, seen: dict[str, int], said: str) -> None:
    page = certificate.page(replace(made, erased=replace(ERASED, **seen)))  # type: ignore[arg-type]
    assert said in page.summary
    assert ("What was written on this drive can no longer be read" in page.summary) is ("compared_data" not in seen)
    assert page.is_doubtful
    assert not certificate.page(made).is_doubtful


def test_the_secrets_are_nowhere(made: Certificate) -> None:
    assert {*made.__dataclass_fields__} == {"serial", "model", "size_bytes", "time", "host", "host_key", "erased"}
