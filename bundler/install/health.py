"""Is the appliance well? Asked on the host itself, over its own address, as a stranger would ask."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial

from bundler.install.site import Site
from custody.errors import InstallFailed

_WAIT_S = 180.0
_ANSWER_S = 10.0
_PAUSE_S = 3.0


def require_healthy(site: Site) -> None:
    """Wait until each model's engine has it loaded, and the service says over TLS that it serves and has the audit log.

    Raises:
        InstallFailed: they did not within three minutes; says what the last answer was.
    """
    deadline_s = time.monotonic() + _WAIT_S
    asked: list[tuple[str, Callable[[], http.client.HTTPConnection], str]] = [
        *((f"the engine of {model}", partial(_Engine, model), "/health") for model in site.service.models),
        ("the service", partial(_service, site), "/healthz"),
    ]
    for what, connect, path in asked:
        while (found := _status(connect(), path)) != "status 200":
            if time.monotonic() > deadline_s:
                raise InstallFailed(
                    f"{what}: expected status 200 within {_WAIT_S:.0f} s, found {found}",
                    "see: journalctl -u 'airgap-*' -u nginx",
                )
            time.sleep(_PAUSE_S)


def _status(connection: http.client.HTTPConnection, path: str) -> str:
    try:
        connection.request("GET", path)
        return f"status {connection.getresponse().status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


class _Engine(http.client.HTTPConnection):
    """HTTP over the socket at which the role engine has a model's engine answer."""

    def __init__(self, model: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = f"/run/airgap-engine/{model}/{model}.sock"

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _service(site: Site) -> http.client.HTTPSConnection:
    # The name is checked by preflight against the certificate; here the address is the host's own.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    address = str(ipaddress.ip_interface(site.network.addresses[0]).ip)
    return http.client.HTTPSConnection(address, 443, timeout=_ANSWER_S, context=context)
