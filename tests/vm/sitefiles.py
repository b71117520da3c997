"""What the site brings: its CA, the appliance's certificate, secrets, and the site file."""

from __future__ import annotations

import base64
import datetime
import functools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from custody.trust.keys import PrivateKey, PublicKey

if TYPE_CHECKING:
    from tests.vm.hosts import Host
    from tests.vm.path import Walk

SERVER_NAME = "appliance.site.example"
DATA_KEY, TLS_KEY = "data-passphrase", "tls-key"
#: A second management network, behind a router of the first, so that a route must be set.
BEHIND = "172.20.0.0/16"
_SOMEBODY = PrivateKey.generate().public


@dataclass(frozen=True)
class SiteFiles:
    """Public files of a site, as bytes.

    Attributes:
        auditor: who can tell from the audit log which texts were asked.
    """

    ca: bytes
    certificate: bytes
    site_yml: bytes
    auditor: PrivateKey


def make_site(walk: Walk, host: Host) -> SiteFiles:
    """Make a site for a host; its secrets go to `walk.secrets`."""
    ca_key, ca = _certificate("site CA", None, None)
    key, certificate = _certificate(SERVER_NAME, ca_key, ca)
    walk.secrets[DATA_KEY] = secrets.token_urlsafe(24)
    walk.secrets[TLS_KEY] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    pem, auditor = Encoding.PEM, PrivateKey.generate()
    text = site_yml(host, auditor.public)
    return SiteFiles(ca.public_bytes(pem), certificate.public_bytes(pem), text.encode(), auditor)


@functools.cache
def client_files(name: str) -> tuple[bytes, bytes]:
    """A CA for clients, and a client's certificate of it with its key; PEM. A name has one of each in a process."""
    ca_key, ca = _certificate("client CA", None, None)
    key, certificate = _certificate(f"{name}.site.example", ca_key, ca)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ca.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.PEM) + secret


def site_yml(host: Host, auditor: PublicKey = _SOMEBODY) -> str:
    """The site file for a host of the host table."""
    return f"""\
schema_version: 1
host:
  name: appliance-01
network:
  interface_mac: "{host.mac}"
  addresses: [{host.address}/{host.prefix_bits}]
  management:
    - network: 10.0.2.0/24
    - network: {BEHIND}
      via: {host.gateway}
time:
  sources: []
storage:
  data_disk_serial: AIRGAPDATA01
  passphrase: {{file: /run/secrets-in/{DATA_KEY}}}
tls:
  server_name: {SERVER_NAME}
  certificate: /root/site/server.pem
  key: {{file: /run/secrets-in/{TLS_KEY}}}
service:
  models: [airgap-words]
  auditor_key: {base64.b64encode(auditor.der).decode()}
"""


def _certificate(
    name: str, issuer_key: ec.EllipticCurvePrivateKey | None, issuer: x509.Certificate | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        assert issuer_key is not None
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(authority, critical=False)
    return key, builder.sign(issuer_key or key, hashes.SHA256())
