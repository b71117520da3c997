"""Is the appliance well? Asked on the host itself, over its own address, as a user would ask."""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import time

from bundler.install.site import Site
from custody.errors import InstallFailed

_WAIT_S = 180.0
_PAUSE_S = 3.0


def require_healthy(site: Site) -> None:
    """Wait until the service lists its model over TLS.

    Raises:
        InstallFailed: it did not within three minutes; says what the last answer was.
    """
    deadline_s = time.monotonic() + _WAIT_S
    last = "no answer"
    while time.monotonic() < deadline_s:
        try:
            last = _ask(site)
            if last == site.service.model:
                return
        except (OSError, ValueError, KeyError, IndexError, http.client.HTTPException) as error:
            last = f"{type(error).__name__}: {error}"
        time.sleep(_PAUSE_S)
    raise InstallFailed(
        f"service: expected model {site.service.model} within {_WAIT_S:.0f} s, found: {last}",
        "see: journalctl -u 'airgap-engine*' -u nginx",
    )


def _ask(site: Site) -> str:
    # The name is checked by preflight against the certificate; here the address is the host's own.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    address = str(ipaddress.ip_interface(site.network.addresses[0]).ip)
    key = site.service.api_key.file.read_text().strip()
    connection = http.client.HTTPSConnection(address, 443, timeout=10, context=context)
    try:
        connection.request(
            "GET", "/v1/models", headers={"Authorization": f"Bearer {key}", "Host": site.tls.server_name}
        )
        answer = connection.getresponse()
        body = answer.read(1 << 20)
        if answer.status != http.client.OK:
            raise ValueError(f"HTTP status {answer.status}")
        return str(json.loads(body)["data"][0]["id"])
    finally:
        connection.close()
