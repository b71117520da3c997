"""A host as files: /sys, /proc, /etc and dpkg's status below a folder, which the real programs and checks then read."""

from __future__ import annotations

import base64
import ctypes
import datetime
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bundler.install.preflight import Case
from bundler.install.site import load_site
from bundler.manifest.lock import Lock
from custody.trust.keys import PrivateKey
from custody.trust.statement import Entry, Identity, Predicate, Statement, StatementTarget, make
from tests.bundles import lock

MAC = "52:54:00:a1:00:01"
SERIAL = "AIRGAPDATA01"
AUDITOR = base64.b64encode(PrivateKey.generate().public.der).decode()
KERNEL = "6.12.48+deb13-amd64"
#: include/uapi/linux/sched.h
CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
_ZEROS = "0" * 64
_DAY_S = 86400

Result = TypeVar("Result")


def in_own_network(function: Callable[[], Result]) -> Result:
    """Run a function in a network namespace of its own, which its programs inherit; needs root."""
    return in_namespace(CLONE_NEWNET, function)


def in_namespace(kind: int, function: Callable[[], Result]) -> Result:
    """Run a function in a thread with a namespace of its own, which its programs inherit; needs root."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(kind):
                raise OSError(ctypes.get_errno(), "unshare")
            done.append(function())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


class FakeHost:
    """A good host for the bundle of `case`; every method lays one thing more."""

    def __init__(self, folder: Path) -> None:
        self.root, self.site_folder = folder / "host", folder / "site"
        self.site_folder.mkdir(parents=True)
        self.write("/etc/os-release", 'ID=debian\nVERSION_CODENAME="trixie"\n')
        self.write("/proc/1/comm", "systemd")
        self.write("/proc/sys/kernel/osrelease", KERNEL)
        self.write("/proc/meminfo", f"MemTotal:       {8 << 20} kB\nMemFree: 1 kB\n")
        self.write("/proc/sys/net/ipv4/ip_forward", "0")
        self.write("/proc/sys/net/ipv6/conf/all/forwarding", "0")
        self.write("/proc/self/mountinfo", "25 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
        self.packages({"base-files": "13.8"})
        self.disk("vda", "254:0", "SYSTEMDISK1", {"ID_PART_TABLE_TYPE": "gpt"})
        self.partition("vda", "vda1", "254:1", {"ID_FS_TYPE": "ext4"})
        self.disk("vdb", "254:16", SERIAL, {})
        self.card("lo", None, {"address": "00:00:00:00:00:00", "flags": "0x9"})
        self.card("eth0", "pci0000:00/0000:00:03.0", {"address": MAC, "flags": "0x1003", "carrier": "1"})
        self.site: dict[str, Any] = yaml.safe_load(self._site())
        self.certificates()
        for name in ("passphrase",):
            self.secret(name, "not a secret\n")

    def write(self, path: str, text: str | bytes) -> Path:
        """A file of the host."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def packages(self, versions: dict[str, str]) -> None:
        """dpkg's status file."""
        stanzas = (
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
            "Maintainer: nobody\nDescription: one\n"
            for name, version in versions.items()
        )
        self.write("/var/lib/dpkg/status", "\n".join(stanzas))

    def disk(self, name: str, number: str, serial: str, properties: dict[str, str], size_gib: int = 20) -> None:
        """A whole disk, as lsblk --sysroot reads it."""
        self._block(f"/sys/devices/{name}", number, size_gib)
        for folder in ("queue", "device"):
            (self.root / "sys/devices" / name / folder).mkdir()
        self._link(f"/sys/block/{name}", f"../devices/{name}")
        self._properties(name, {"ID_SERIAL_SHORT": serial, **properties})

    def partition(self, disk: str, name: str, number: str, properties: dict[str, str]) -> None:
        """A partition of a disk."""
        self._block(f"/sys/devices/{disk}/{name}", number, 10)
        self.write(f"/sys/devices/{disk}/{name}/partition", "1")
        self.write(f"/sys/devices/{disk}/{name}/start", "2048")
        self._properties(name, properties)

    def card(self, name: str, device: str | None, attributes: dict[str, str]) -> None:
        """A network interface; `device` lies below /sys/devices."""
        for attribute, value in attributes.items():
            self.write(f"/sys/class/net/{name}/{attribute}", value)
        if device:
            (self.root / "sys/devices" / device).mkdir(parents=True, exist_ok=True)
            self._link(f"/sys/class/net/{name}/device", f"../../../devices/{device}")

    def gpu(self, place: str = "0000:01:00.0") -> None:
        """An NVIDIA GPU on the PCI bus."""
        self.write(f"/sys/bus/pci/devices/{place}/vendor", "0x10de")
        self.write(f"/sys/bus/pci/devices/{place}/class", "0x030200")

    def nvidia_smi(self, said: str) -> None:
        """The driver at work, and a program that answers as nvidia-smi is documented to (not seen on hardware)."""
        self.write("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module\n")
        asked = "--query-gpu=name,memory.total,ecc.mode.current --format=csv,noheader,nounits"
        script = f'#!/bin/sh\n[ "$*" = "{asked}" ] || exit 6\nprintf "{said}\\n"\n'
        self.write("/usr/bin/nvidia-smi", script).chmod(0o755)

    def efi(self, name: str, value: bytes) -> None:
        """An EFI variable: four bytes of attributes, then its value."""
        self.write(f"/sys/firmware/efi/efivars/{name}-605dab50-e046-4300-abb6-3dd810dd8b23", b"\x06\0\0\0" + value)

    def secret(self, name: str, text: str) -> None:
        """A private file that the site file refers to."""
        path = self.site_folder / name
        path.write_text(text)
        path.chmod(0o600)

    def certificates(
        self,
        name: str = "appliance.site.example",
        *,
        days: tuple[float, float] = (-1, 365),
        turned: bool = False,
    ) -> None:
        """A server's certificate, an intermediate's and the root's, perhaps in the wrong order, and the key."""
        root_key, root = _certificate("root CA", None, days)
        middle_key, middle = _certificate("issuing CA", (root_key, root), days)
        key, server = _certificate(name, (middle_key, middle), days)
        chain = [server, root, middle] if turned else [server, middle, root]
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        (self.site_folder / "server.pem").write_bytes(pem)
        self.secret("tls-key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())

    def case(
        self,
        files: dict[str, int] | None = None,
        *,
        epoch: float = time.time() - 30 * _DAY_S,
        **locked: object,
    ) -> Case:
        """The host with its site file and a bundle.

        Args:
            files: sizes in bytes by path below `sealed/`.
            epoch: the bundle's own time.
            locked: fields of the lock.
        """
        file = self.site_folder / "site.yml"
        file.write_text(yaml.safe_dump(self.site))
        full = Lock.model_validate_json(json.dumps({**lock().model_dump(), "models": [MODEL], **locked}))
        entries = tuple(
            Entry(path=path, mode="0644", size_bytes=size, sha256=_ZEROS, leaf_root=_ZEROS)
            for path, size in sorted((files or {"data/models/words.gguf": 1 << 30}).items())
        )
        release = self.root / "opt/airgap/releases/small-1"
        release.mkdir(parents=True, exist_ok=True)
        return Case(_statement(entries, int(epoch)), full, load_site(file), release, self.root)

    def _block(self, path: str, number: str, size_gib: int) -> None:
        self.write(f"{path}/dev", number)
        self.write(f"{path}/size", str(size_gib << 21))  # sectors of 512 bytes
        for folder in ("holders", "slaves"):
            (self.root / path.lstrip("/") / folder).mkdir()
        self._link(f"/sys/dev/block/{number}", os.path.relpath(path, "/sys/dev/block"))

    def _properties(self, name: str, properties: dict[str, str]) -> None:
        self.write(f"/dev/{name}", "".join(f"{key}={value}\n" for key, value in properties.items()))

    def _link(self, path: str, target: str) -> None:
        link = self.root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def _site(self) -> str:
        return f"""\
schema_version: 1
host: {{name: appliance-01}}
network:
  interface_mac: "{MAC}"
  addresses: [192.0.2.15/24]
  management: [{{network: 192.0.2.0/24}}]
storage: {{data_disk_serial: {SERIAL}, passphrase: {{file: {self.site_folder}/passphrase}}}}
tls:
  server_name: appliance.site.example
  certificate: {self.site_folder}/server.pem
  key: {{file: {self.site_folder}/tls-key}}
service: {{models: [words], auditor_key: {AUDITOR}}}
"""


MODEL = {
    "name": "words", "filename": "words.gguf", "origin": "/models/words.gguf", "size_bytes": 1 << 30, "sha256": _ZEROS,
    "license": "Apache-2.0", "label": "general", "architecture": "llama", "context_tokens": 8192,
    "kv_bytes_per_token": 131072, "quantization": "Q8_0", "tokenizer": "gpt2", "chat_template_sha256": None,
}  # fmt: skip
GPU = {"kernel": KERNEL, "headers": f"linux-headers-{KERNEL}", "driver": "550.163.01", "cuda": "12.4", "sm": "90"}


def deb(package: str, version: str = "1", size_bytes: int = 1000) -> dict[str, Any]:
    """A locked package."""
    return {
        "package": package, "version": version, "architecture": "amd64", "archive": "debian", "sha256": _ZEROS,
        "path": f"pool/main/{package}_{version}_amd64.deb", "size_bytes": size_bytes, "uses": ["appliance"],
    }  # fmt: skip


def _statement(entries: tuple[Entry, ...], epoch: int) -> Statement:
    identity = Identity(
        name="small", channel="test", version=1, security_epoch=1, digest="sha256", lock_sha256=_ZEROS,
        lowest_revocation=0, lowest_verifier="0.1.0", source_date_epoch=epoch,
    )  # fmt: skip
    target = StatementTarget(
        distribution="debian", release="trixie", architecture="amd64", python="3.13", kernel="6.12", driver=None
    )
    return make(Predicate(bundle=identity, target=target, files=entries), _ZEROS)


Issuer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _certificate(name: str, issuer: Issuer | None, days: tuple[float, float]) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())
