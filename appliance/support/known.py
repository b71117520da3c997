"""What this host must not tell, gathered so that it can be found in texts: its secrets, names and serials."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from appliance import hostkey
from custody._run import run

SITE_FILE = Path("/etc/airgap/site.yml")
GATEWAY = Path("/etc/airgap/gateway")
STORAGE_FILE = Path("/etc/airgap/storage.json")

_HOSTS = Path("/etc/hosts")
_DMI = Path("/sys/class/dmi/id")
_SERIALS = ("board_serial", "chassis_serial", "product_serial", "product_uuid", "chassis_asset_tag")
_MACHINE_ID = Path("/etc/machine-id")
#: Names that every host has.
_COMMON = re.compile(r"localhost.*|ip6-.*")
#: login.defs: where ordinary users begin; nobody is 65534.
_FIRST_USER, _NOBODY = 1000, 65534
#: A line of a PEM file is 64 characters, its last one shorter.
_PEM_LINE = re.compile(r"^[A-Za-z0-9+/=]{16,64}$", re.MULTILINE)


def hidden() -> set[str]:
    """The secrets that lie on this host, and those that the site file points to."""
    found: set[str] = set()
    for file in (GATEWAY / "tls.key", hostkey.FILE, *_secret_files(_site())):
        text = _text(file).strip()
        found |= set(_PEM_LINE.findall(text)) if "-----BEGIN" in text else {text}
    return found


def names() -> set[str]:
    """Host, domain, organisation and user names; also those of the certificate."""
    site = _site()
    found = {os.uname().nodename, _text(Path("/etc/hostname")).strip()}
    found |= {name for row in _text(_HOSTS).splitlines() for name in row.partition("#")[0].split()[1:]}
    found |= {str(site.get(section, {}).get(key, "")) for section, key in (("host", "name"), ("tls", "server_name"))}
    found |= {user.pw_name for user in pwd.getpwall() if _FIRST_USER <= user.pw_uid != _NOBODY}
    found |= set(_certificate_names())
    found |= {domain for name in found if "." in (domain := name.partition(".")[2])}
    return {name for name in found if not _COMMON.fullmatch(name)}


def serials() -> set[str]:
    """Serial numbers of drives and machine, and the machine's id."""
    listing = json.loads(run(["lsblk", "--json", "--output", "SERIAL,WWN"]).text)
    found = {entry[key] for entry in listing["blockdevices"] for key in ("serial", "wwn") if entry[key]}
    found |= {_text(_DMI / name).strip() for name in _SERIALS} | {_text(_MACHINE_ID).strip()}
    if STORAGE_FILE.exists():
        found.add(json.loads(STORAGE_FILE.read_bytes())["serial"])
    # "None", "0" and the like are what makers leave in.
    return {text for text in found if len(text) > 3 and any(c.isdigit() for c in text)}


def _certificate_names() -> Iterator[str]:
    from cryptography import x509

    file = GATEWAY / "tls.crt"
    for certificate in x509.load_pem_x509_certificates(file.read_bytes()) if file.exists() else ():
        for attribute in (*certificate.subject, *certificate.issuer):
            if len(attribute.value) > 2:  # a country is no name
                yield str(attribute.value)
        for extension in certificate.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                yield from extension.value.get_values_for_type(x509.DNSName)


def _site() -> dict[str, Any]:
    content = yaml.safe_load(_text(SITE_FILE))
    return content if isinstance(content, dict) else {}


def _secret_files(content: Any) -> Iterator[Path]:
    """Every `{file: path}` of the site file."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == "file":
            yield Path(str(value))
        yield from _secret_files(value)


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""
