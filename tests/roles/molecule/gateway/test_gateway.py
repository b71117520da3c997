"""The role gateway, asked over TLS on its own address; no engine runs behind it, but for one test a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

ADDRESS, NAME = "10.0.2.15", "appliance.site.example"  # as in the site file
PYTHON = "/opt/airgap/current/venv/bin/python -I -c"
REQUEST = """
import http.client, pathlib, socket, ssl, sys
path, key = sys.argv[1:]
key = pathlib.Path("/run/secrets-in/api-key").read_text() if key == "right" else key
context = ssl.create_default_context(cafile="/root/site/ca.pem")
connection = http.client.HTTPSConnection("%s", 443, timeout=20)
connection.sock = context.wrap_socket(socket.create_connection(("%s", 443), 20), server_hostname="%s")
headers = {"Authorization": "Bearer " + key} if key else {}
connection.request("GET", path, headers={**headers, "X-Conversation-Id": "ours"})
print(connection.getresponse().status, connection.sock.version())
"""

SOCKET = "airgap-engine/airgap-words/airgap-words.sock"
#: Stands where an engine would; what nginx must keep back is an error.
ENGINE = """
import http.server, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(400 if {"Authorization", "X-Conversation-Id"} & set(self.headers) else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words): pass
socketserver.UnixStreamServer("/run/%s", Handler).serve_forever()
"""


@pytest.fixture(scope="module", autouse=True)
def address(host: Any) -> Iterator[None]:
    """The address that the role network would have set."""
    host.check_output(f"ip address add {ADDRESS}/32 dev lo")
    yield
    host.check_output(f"ip address delete {ADDRESS}/32 dev lo")


@pytest.mark.parametrize(("path", "key", "status"), [
    ("/v1/models", "right", 503), ("/v1/models", "wrong", 401), ("/v1/models", "", 401), ("/", "right", 404),
    ("/v1/chat/completions", "right", 405),
])  # fmt: skip
def test_who_may_ask_what(host: Any, path: str, key: str, status: int) -> None:
    script = REQUEST % (ADDRESS, ADDRESS, NAME)
    assert host.check_output(f"{PYTHON} '{script}' {path} '{key}'") == f"{status} TLSv1.3"


def test_it_reaches_the_socket_of_an_engine(host: Any) -> None:
    properties = f"User=airgap-engine UMask=0007 RuntimeDirectory={SOCKET.rpartition('/')[0]} RuntimeDirectoryMode=0750"
    words = " ".join(f"--property={each}" for each in properties.split())
    host.check_output(f"systemd-run --quiet --unit=engine-stand-in {words} python3 -I -c '{ENGINE % SOCKET}'")
    host.check_output(f"timeout 30 sh -c 'until test -S /run/{SOCKET}; do sleep 0.1; done'")
    said = host.check_output(f"{PYTHON} '{REQUEST % (ADDRESS, ADDRESS, NAME)}' /v1/models right")
    host.check_output("systemctl stop engine-stand-in.service")
    assert said == "200 TLSv1.3"


def test_tls_1_2_is_refused(host: Any) -> None:
    said = host.run(f"openssl s_client -connect {ADDRESS}:443 -tls1_2 </dev/null")
    assert said.rc != 0
    assert "alert protocol version" in said.stderr


def test_it_listens_on_443_alone_as_a_user_of_its_own(host: Any) -> None:
    listening = host.check_output("ss -H -lntp").splitlines()
    assert [line.split()[3] for line in listening if "nginx" in line] == [f"{ADDRESS}:443"]
    assert set(host.check_output("ps -o user:32= -C nginx").split()) == {"airgap-gateway"}


def test_keys_are_for_the_gateway_alone(host: Any) -> None:
    for name in ("tls.key", "keys.map"):
        file = host.file(f"/etc/airgap/gateway/{name}")
        assert (file.user, file.group, file.mode) == ("root", "airgap-gateway", 0o640)
    assert host.run("runuser -u airgap-engine -- cat /etc/airgap/gateway/tls.key").rc != 0


def test_it_may_do_little(exposure: Callable[[str], float]) -> None:
    exposure("nginx.service")
