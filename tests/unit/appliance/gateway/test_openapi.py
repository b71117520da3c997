"""schemathesis asks whatever the document allows, and what it does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.appliance.gateway.rig import Rig

EXAMPLES = os.environ.get("AIRGAP_TEST_EXAMPLES", "20")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def address(rig: Rig) -> Iterator[str]:
    """The gateway's socket as a port, since schemathesis speaks to ports alone."""
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, gateway = listening.accept()[0], rig.raw()
                for ends in ((client, gateway), (gateway, client)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_schemathesis_finds_nothing(rig: Rig, address: str, tmp_path: Path) -> None:
    with rig.management() as client:
        document = client.get("/openapi.json").json()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    headers = [f"--header={name}: {value}" for name, value in rig.headers(rig.alice).items()]
    done = subprocess.run(
        [
            SCHEMATHESIS, "run", "openapi.json", f"--url={address}", *headers, f"--max-examples={EXAMPLES}",
            "--checks=all", "--mode=all", "--phases=examples,coverage,fuzzing", "--seed=1",
            "--generation-database=none",
            "--no-color", "--suppress-health-check=all", "--request-timeout=20",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, said + done.stderr[-2000:]
    assert "passed" in done.stdout


def test_the_document_is_on_the_management_side_alone(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        assert [client.get(path).status_code for path in ("/openapi.json", "/metrics", "/docs")] == [404] * 3
    with rig.management() as client:
        assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
        assert client.get("/v1/models").status_code == 404


def test_metrics_name_no_user(rig: Rig) -> None:
    with rig.http(rig.alice) as client:
        client.get("/v1/models")
    with rig.http("nobody") as client:
        client.get("/v1/models")
    with rig.management() as client:
        text = client.get("/metrics").text
    assert 'airgap_gateway_requests_total{decision="ok",model="",role="user"}' in text
    assert 'airgap_gateway_requests_total{decision="invalid_api_key",model="",role=""}' in text
    assert "airgap_gateway_ready 1.0" in text
    assert "alice" not in text
    assert rig.alice.split("-")[1] not in text
