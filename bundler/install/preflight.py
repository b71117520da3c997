"""Everything that is wrong, in one list, before anything is changed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from bundler.install import paths
from bundler.install.site import SecretReference, Site
from bundler.manifest.lock import Lock
from custody._run import run
from custody.errors import PreflightFailed
from custody.trust.statement import Statement

#: A release, its predecessor and some room; see the table of paths.
_RELEASE_SHARE = 2.2
#: Weights, context and buffers of a llama.cpp engine, as a share of the model file's size.
_MEMORY_SHARE = 1.3


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit."""

    what: str
    expected: str
    found: str
    remedy: str


@dataclass(frozen=True)
class Case:
    """What is checked: this host, this site file, this release."""

    statement: Statement
    lock: Lock
    site: Site
    release: Path


def preflight(case: Case) -> list[Finding]:
    """All findings, in the order of the checks; empty when the host, the site file and the bundle fit."""
    return [finding for check in _CHECKS for finding in check(case)]


def require(findings: list[Finding]) -> None:
    """Stop at findings.

    Raises:
        PreflightFailed: lists them all with their remedies.
    """
    if findings:
        lines = [f"{f.what}: expected {f.expected}, found {f.found}\n  remedy: {f.remedy}" for f in findings]
        raise PreflightFailed(
            f"preflight: {len(findings)} finding(s), nothing was changed\n" + "\n".join(lines),
            "mend all of them, then run the same command again",
        )


def _target(case: Case) -> Iterator[Finding]:
    target = case.statement.predicate.target
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    pairs = (
        ("distribution", target.distribution, release.get("ID", "").strip('"')),
        ("release", target.release, release.get("VERSION_CODENAME", "").strip('"')),
        ("architecture", target.architecture, run(["dpkg", "--print-architecture"]).text),
        ("kernel", target.kernel, ".".join(os.uname().release.split(".")[:2])),
    )
    for what, expected, found in pairs:
        if expected != found:
            yield Finding(
                what, expected, found or "nothing", "build a bundle for this host, or install the right system"
            )


def _packages(case: Case) -> Iterator[Finding]:
    listing = run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n"]).text
    there = {
        name: version for name, version, state in (line.split()[:3] for line in listing.splitlines()) if state == "ii"
    }
    for deb in case.lock.debs:
        found = there.get(deb.package)
        if not {"appliance", "bootstrap"} & set(deb.uses) or found in (None, deb.version):
            continue
        if run(["dpkg", "--compare-versions", str(found), "gt", deb.version], ok=(0, 1)).returncode == 0:
            yield Finding(
                f"package {deb.package}",
                f"{deb.version} or older",
                str(found),
                "lock again with this host's dpkg status",
            )


def _clock(case: Case) -> Iterator[Finding]:
    floor = case.statement.predicate.bundle.source_date_epoch
    if time.time() < floor:
        yield Finding("clock", f"later than {_day(floor)}", _day(time.time()), "set the clock: timedatectl set-time")


def _space(case: Case) -> Iterator[Finding]:
    payload = sum(
        e.size_bytes
        for e in case.statement.predicate.files
        if not e.path.startswith(("data/models/", "leaves/models/"))
    )
    there = sum(p.stat().st_size for p in case.release.rglob("*") if p.is_file() and not p.is_symlink())
    needed, free = payload * _RELEASE_SHARE, shutil.disk_usage(paths.RELEASES).free + there
    if free < needed:
        yield Finding(
            f"space on {paths.RELEASES}", f"{needed / 1e9:.1f} GB", f"{free / 1e9:.1f} GB", "remove old releases"
        )


def _memory(case: Case) -> Iterator[Finding]:
    model = next((m for m in case.lock.models if m.name == case.site.service.model), None)
    if model is None:
        names = ", ".join(m.name for m in case.lock.models) or "none"
        yield Finding(
            "service.model", f"one of the bundle's models ({names})", case.site.service.model, "mend site file"
        )
        return
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total < model.size_bytes * _MEMORY_SHARE:
        needed = model.size_bytes * _MEMORY_SHARE / 1e9
        yield Finding(f"memory for {model.name}", f"{needed:.1f} GB", f"{total / 1e9:.1f} GB", "serve a smaller model")


def _disk(case: Case) -> Iterator[Finding]:
    serial = case.site.storage.data_disk_serial
    what = f"data disk {serial}"
    output = run(["lsblk", "--json", "--bytes", "--tree", "--output", "PATH,TYPE,SIZE,SERIAL,FSTYPE,LABEL,MOUNTPOINTS"])
    disks = [d for d in json.loads(output.stdout)["blockdevices"] if (d["serial"] or "").strip() == serial]
    if len(disks) != 1:
        yield Finding(what, "one disk", f"{len(disks)} disks", "compare with: lsblk -o PATH,SIZE,MODEL,SERIAL")
        return
    disk = disks[0]
    ours = disk["fstype"] == "crypto_LUKS" and disk["label"] == "airgap-data"
    if not ours and (disk["fstype"] or disk.get("children")):
        yield Finding(what, "blank, or our own volume", disk["fstype"] or "partitions", f"wipefs --all {disk['path']}")
    models = sum(e.size_bytes for e in case.statement.predicate.files if e.path.startswith("data/models/"))
    needed = int(models * _RELEASE_SHARE) + (64 << 20)
    if disk["size"] < needed:
        yield Finding(what, f"{needed / 1e9:.1f} GB", f"{disk['size'] / 1e9:.1f} GB", "use a larger disk")


def _interface(case: Case) -> Iterator[Finding]:
    mac = case.site.network.interface_mac
    found = {
        (card / "address").read_text().strip(): card.name
        for card in Path("/sys/class/net").iterdir()
        if (card / "device").exists()
    }
    if mac not in found:
        cards = ", ".join(f"{name} {address}" for address, name in sorted(found.items())) or "no card"
        yield Finding("network.interface_mac", mac, cards, "compare with: ip -brief link")


def _secrets(case: Case) -> Iterator[Finding]:
    site = case.site
    for what, reference in (
        ("storage.passphrase", site.storage.passphrase),
        ("tls.key", site.tls.key),
        ("service.api_key", site.service.api_key),
    ):
        yield from _secret(what, reference)


def _secret(what: str, reference: SecretReference) -> Iterator[Finding]:
    try:
        info = reference.file.lstat()
    except OSError as error:
        yield Finding(what, f"a file {reference.file}", str(error.strerror), "put the secret there, mode 0600")
        return
    if not stat.S_ISREG(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o077 or not info.st_size:
        mode = f"mode {stat.S_IMODE(info.st_mode):04o}, owner {info.st_uid}, {info.st_size} bytes"
        yield Finding(what, f"{reference.file}: regular, root's, mode 0600", mode, f"chmod 600 {reference.file}")


def _certificate(case: Case) -> Iterator[Finding]:
    tls = case.site.tls
    try:
        certificates = x509.load_pem_x509_certificates(tls.certificate.read_bytes())
        key = load_pem_private_key(tls.key.file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        # The reason may quote the file: only its kind is told.
        yield Finding("tls", "a PEM certificate and its PEM key", type(error).__name__, "ask the site's CA again")
        return
    first = certificates[0]
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if first.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
        yield Finding("tls.key", "the key of tls.certificate", "another key", "ask the site's CA again")
    now = time.time()
    begin, end = first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
    if not begin <= now <= end:
        yield Finding("tls.certificate", f"valid at {_day(now)}", f"{_day(begin)} to {_day(end)}", "ask the CA again")
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        names = []
    if tls.server_name not in names:
        yield Finding("tls.certificate", f"for {tls.server_name}", ", ".join(names) or "no name", "ask the CA again")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


_CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _target,
    _packages,
    _clock,
    _space,
    _memory,
    _disk,
    _interface,
    _secrets,
    _certificate,
)
