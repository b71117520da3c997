"""Secrets and the server certificate: what the site file refers to is there, private, and fits together."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from bundler.install.preflight.finding import Case, Finding, day
from bundler.install.site import SecretReference

_ASK = "ask the site's CA for another"


def check_secrets(case: Case) -> Iterator[Finding]:
    """Every secret is a private file of root's."""
    site = case.site
    for what, reference in (
        ("storage.passphrase", site.storage.passphrase),
        ("storage.psid", site.storage.psid),
        ("storage.owned_pin", site.storage.owned_pin),
        ("tls.key", site.tls.key),
    ):
        if reference is not None:
            yield from _check_secret(what, reference)


def _check_secret(what: str, reference: SecretReference) -> Iterator[Finding]:
    try:
        info = reference.file.lstat()
    except OSError as error:
        yield Finding(what, f"a file {reference.file}", str(error.strerror), "put the secret there, mode 0600")
        return
    if not stat.S_ISREG(info.st_mode) or info.st_uid != 0 or info.st_mode & 0o077 or not info.st_size:
        mode = f"mode {stat.S_IMODE(info.st_mode):04o}, owner {info.st_uid}, {info.st_size} bytes"
        yield Finding(what, f"{reference.file}: regular, root's, mode 0600", mode, f"chmod 600 {reference.file}")


def check_client_ca(case: Case) -> Iterator[Finding]:
    """Whoever signs certificates of clients is named by certificates."""
    file = case.site.tls.client_ca
    try:
        if file is not None:
            x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding("tls.client_ca", f"{file}: certificates in PEM", type(error).__name__, _ASK)


def check_certificate(case: Case) -> Iterator[Finding]:
    """The certificate is for this name, valid now, has its key, and is followed by its issuers in order."""
    tls = case.site.tls
    try:
        certificates = x509.load_pem_x509_certificates(tls.certificate.read_bytes())
        key = load_pem_private_key(tls.key.file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        # The reason may quote the file: only its kind is told.
        yield Finding("tls", "a PEM certificate and its PEM key without passphrase", type(error).__name__, _ASK)
        return
    first = certificates[0]
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if first.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
        yield Finding("tls.key", "the key of tls.certificate", "another key", _ASK)
    now = time.time()
    for place, certificate in enumerate(certificates, 1):
        begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        if not begin <= now <= end:
            valid = f"{day(begin)} to {day(end)}"
            yield Finding(
                f"tls.certificate, number {place}", f"valid at {day(now)}", valid, f"{_ASK}, or set the clock"
            )
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        names = []
    if tls.server_name not in names:
        yield Finding("tls.certificate", f"for {tls.server_name}", ", ".join(names) or "no name", _ASK)
    for place, (certificate, issuer) in enumerate(pairwise(certificates), 2):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            yield Finding(
                f"tls.certificate, number {place}",
                f"the issuer of number {place - 1}, {certificate.issuer.rfc4514_string()}",
                issuer.subject.rfc4514_string(),
                "put the server's certificate first, then each one's issuer",
            )
