"""Whether the service serves, asked as a stranger asks: without a key, and so refused. And its certificates' days."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from appliance import engine, units
from appliance.diode import config as diode_config
from appliance.drive import config
from appliance.status.isolation import our_addresses
from appliance.status.line import Line, line

CERTIFICATE = Path("/etc/airgap/gateway/tls.crt")
_TIMEOUT_S = 3.0
#: Days: a site's CA is asked in time, or in haste.
_DAYS_WARNING, _DAYS_BAD = 30, 7


def look() -> Iterator[Line]:
    """Engines, audit log and gateway."""
    is_open = config.load().volume.is_mounted
    if is_open:
        for each in engine.load():
            state, answers = units.state(each.unit), engine.answers(each, _TIMEOUT_S)
            found = f"{state}, {'answers' if answers else 'does not answer'}"
            yield line("service", f"engine {each.name}", found, bad=state != "active" or not answers)
        processes = {"audit log": "airgap-audit.service", "gateway": "airgap-gateway.service"}
        if diode_config.FILE.is_file():
            processes["diode"] = "airgap-diode.service"
        for what, unit in processes.items():
            state = units.state(unit)
            yield line("service", what, state, bad=state != "active")
    else:
        yield line("service", "engines, gateway", "stopped while the volume is locked", warning=True)
    state, found, bad = units.state("nginx.service"), "", False
    if state == "active":
        expected, means = (401, "refuses who has no key") if is_open else (503, "says that there is no service")
        status = _ask_without_key(our_addresses()[0])
        bad = status != expected
        found = f", expected status {expected}, found {status}" if bad else f", {means}"
    yield line("service", "https", state + found, bad=bad or state != "active")


def look_at_certificates() -> Iterator[Line]:
    """Days that each certificate of the gateway's chain is still good for."""
    from cryptography import x509

    for certificate in x509.load_pem_x509_certificates(CERTIFICATE.read_bytes()):
        days = int((certificate.not_valid_after_utc.timestamp() - time.time()) // 86400)
        early = certificate.not_valid_before_utc.timestamp() > time.time()
        name = certificate.subject.rfc4514_string()
        found = f"{name}: {'not valid yet' if early else f'{days} days left'}"
        yield line("tls", "certificate", found, bad=early or days < _DAYS_BAD, warning=days < _DAYS_WARNING)


def _ask_without_key(address: str) -> int:
    # The host's own address: there is nobody to mistake it for, and the name may be only in the site's DNS.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    connection = http.client.HTTPSConnection(address, 443, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status
    finally:
        connection.close()
