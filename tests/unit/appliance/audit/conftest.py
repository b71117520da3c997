"""An audit process of its own, and a gateway that speaks to it."""

from __future__ import annotations

import base64
import json
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.trust.keys import PrivateKey
from tests.attack.judges import AIRGAP

ROOT = Path(__file__).parents[4]
ORIGIN = "site-7.example/audit"
AUDITOR = PrivateKey.generate()
ADMITTED = {
    "user_id": "alice", "key_id": "k1", "client_ip": "10.0.0.7", "role": "clerk", "model": "demo", "model_digest": "",
    "policy_id": "p1", "decision": "allow", "reason": "permit", "prompt_sha256": "a" * 64, "request_id": "r1",
}  # fmt: skip


def completed(seq: int, **more: Any) -> dict[str, Any]:
    fields = {"output_sha256": "b" * 64, "tokens_in": 3, "tokens_out": 5, "latency_ms": 12, "status": "ok"}
    return {"seq": seq, **fields, **more}


class Gateway:
    """One connection; `ask` waits for its own answer, whatever order answers come in."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))
        self._number, self._answers = 0, {}  # type: int, dict[int, dict[str, Any]]
        self._lock = threading.Lock()

    def send(self, **what: Any) -> int:
        self._number += 1
        self.send_raw(json.dumps({"id": self._number, **what}).encode())
        return self._number

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(data)) + data)

    def answer(self, number: int | None = None) -> dict[str, Any]:
        while number not in self._answers:
            size = struct.unpack(">I", self._exactly(4))[0]
            found = json.loads(self._exactly(size))
            if number is None:
                return found
            self._answers[found["id"]] = found
        return self._answers.pop(number)

    def ask(self, **what: Any) -> dict[str, Any]:
        return self.answer(self.send(**what))

    def is_closed(self) -> bool:
        return self._socket.recv(1) == b""

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data


class Process:
    """The audit process, started as its unit would."""

    def __init__(self, base: Path, **settings: Any) -> None:
        self.folder, self.socket, self._config = base / "log", base / "audit.sock", base / "audit.json"
        content = {
            "schema_version": 1, "origin": ORIGIN, "folder": str(self.folder), "socket": str(self.socket),
            "clients": [pwd.getpwuid(os.getuid()).pw_name],
            "auditor_key": base64.b64encode(AUDITOR.public.der).decode(), "epoch_hours": 24, **settings,
        }  # fmt: skip
        self._config.write_text(json.dumps(content))
        self.said = base / "said"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, before: str = "") -> Process:
        """Args: before: Python that runs in the process first."""
        self.socket.unlink(missing_ok=True)
        printed = subprocess.run([AIRGAP, "audit", "init", "--config", self._config], capture_output=True, check=True)
        assert b"key: site-7.example/audit+" in printed.stdout
        code = f"{before}\nimport runpy, sys\nsys.argv = ['audit', {str(self._config)!r}]\n"
        code += "runpy.run_module('appliance.audit', run_name='__main__')"
        with self.said.open("ab") as said:
            self._process = subprocess.Popen([sys.executable, "-c", code], stderr=said, env={"PYTHONPATH": str(ROOT)})
        return self

    def gateway(self) -> Gateway:
        for _ in range(1000):
            try:
                return Gateway(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                assert self._process is not None
                assert self._process.poll() is None, self.said.read_text()
                time.sleep(0.02)
        raise AssertionError("the process does not listen")

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)

    def ended(self) -> int:
        assert self._process is not None
        return self._process.wait(20)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.kill()
