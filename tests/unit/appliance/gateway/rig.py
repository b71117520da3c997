"""An appliance's service in a folder: the real audit process, the real gateway, and a stub of an engine."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai

from appliance.audit.complete import judge
from appliance.gateway.directory import SCHEMA_VERSION, SECRET_BYTES, mac
from custody.ledger.view import View
from tests.unit.appliance.audit.conftest import Process

ROOT = Path(__file__).parents[4]
STUB = Path(__file__).with_name("engine_stub.py")
ADDRESS = "10.20.0.7"
_TABLES = """
CREATE TABLE about (schema_version INTEGER NOT NULL);
CREATE TABLE user (user_id PRIMARY KEY, role, created_at, expires_at, revoked_at, requests_per_minute,
  tokens_per_minute, concurrent, prompt_max_tokens, output_max_tokens);
CREATE TABLE membership (user_id, name);
CREATE TABLE key (key_id PRIMARY KEY, user_id, mac, created_at, expires_at, revoked_at);
CREATE TABLE certificate (sha256 PRIMARY KEY, user_id, created_at, revoked_at);
"""
_POLICY = """
@id("users-ask")
permit (principal in Role::"user", action, resource) when { resource.label == "general" };
@id("users-see-restricted")
permit (principal in Role::"user", action == Action::"list", resource) when { resource.label == "restricted" };
@id("not-from-there")
forbid (principal, action in Action::"ask", resource) when { context.client_ip.isInRange(ip("192.0.2.0/24")) };
"""
_GUARD = r"""
schema_version: 1
rules:
  - {name: patient, labels: ["*"], action: block, kind: pattern, pattern: '\bPAT-[0-9]{8}\b'}
  - {name: code, labels: ["*"], action: mask, kind: pattern, pattern: '\bCODE-[0-9]{4}\b'}
"""
_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent", "prompt_max_tokens", "output_max_tokens")


class Rig:
    """All of it; `start` and `end`."""

    def __init__(self, base: Path, **settings: Any) -> None:
        self.base, self.socket, self.metrics_socket = base, base / "g.sock", base / "m.sock"
        self.audit, self.gpu_figures = Process(base), base / "gpu.prom"
        self.engine_log = base / "engine.log"
        self._secret = secrets.token_bytes(SECRET_BYTES)
        (base / "secret").write_bytes(self._secret)
        (base / "secret").chmod(0o640)
        self._users: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        policies = base / "policies"
        policies.mkdir()
        (policies / "site.cedar").write_text(_POLICY)
        (policies / "guard.yml").write_text(_GUARD)
        models = [
            {"name": "demo", "label": "general"}, {"name": "other", "label": "general"},
            {"name": "vectors", "label": "general", "embeddings": True},
            {"name": "restricted", "label": "restricted"}, {"name": "hidden", "label": "hidden"},
        ]  # fmt: skip
        common = {
            "digest": "sha256:" + "d" * 64, "quantization_bits": 16, "context_tokens": 4096, "parallel": 64,
            "socket": str(base / "e.sock"),
        }  # fmt: skip
        content = {
            "schema_version": 1, "socket": str(self.socket), "metrics_socket": str(self.metrics_socket),
            "gpu_figures": str(self.gpu_figures),
            "models": [{**common, **model, **settings.pop("model", {})} for model in models],
            "directory": str(base / "people.db"), "secret": str(base / "secret"), "policies": str(policies),
            "audit_socket": str(self.audit.socket), **settings,
        }  # fmt: skip
        self.config = base / "gateway.json"
        self.config.write_text(json.dumps(content))
        self.alice, self.bob = self.add("alice"), self.add("bob")

    def add(self, user_id: str, *, expires_at: float | None = None, certificate: str = "", **limits: int) -> str:
        """Add or change a user; returns the key."""
        known = self._users.get(user_id)
        key_id = known["key_id"] if known else base64.b32encode(secrets.token_bytes(8)).decode()[:12].lower()
        key = (
            known["key"] if known else f"ag-{key_id}-{base64.b32encode(secrets.token_bytes(33)).decode()[:52].lower()}"
        )
        self._users[user_id] = {
            "key_id": key_id, "key": key, "expires_at": expires_at, "certificate": certificate, "limits": limits,
        }  # fmt: skip
        self._write()
        return str(key)

    def revoke(self, user_id: str) -> None:
        del self._users[user_id]
        self._write()

    def _write(self) -> None:
        made = self.base / "people.new"
        made.unlink(missing_ok=True)
        with closing(sqlite3.connect(made)) as database:
            database.executescript(_TABLES)
            database.execute("INSERT INTO about VALUES (?)", (SCHEMA_VERSION,))
            for name, user in self._users.items():
                limits = [user["limits"].get(limit) for limit in _LIMITS]
                database.execute(
                    f"INSERT INTO user VALUES (?, 'user', 0, ?, NULL{', ?' * 5})", (name, user["expires_at"], *limits)
                )
                database.execute(
                    "INSERT INTO key VALUES (?, ?, ?, 0, NULL, NULL)",
                    (user["key_id"], name, mac(self._secret, user["key"])),
                )
                if user["certificate"]:
                    database.execute("INSERT INTO certificate VALUES (?, ?, 0, NULL)", (user["certificate"], name))
            database.commit()
        made.replace(self.base / "people.db")

    def start(self, *, before_audit: str = "", before_gateway: str = "") -> Rig:
        self.audit.start(before=before_audit)
        self.start_engine()
        self.audit.gateway().close()
        return self.start_gateway(before=before_gateway)

    def start_engine(self) -> None:
        self._run("engine", [str(STUB), str(self.base / "e.sock"), str(self.engine_log)])

    def start_gateway(self, *, before: str = "", ready: bool = True) -> Rig:
        code = f"{before}\nimport runpy, sys\nsys.argv = ['gateway', {str(self.config)!r}]\n"
        self._run("gateway", ["-c", code + "runpy.run_module('appliance.gateway', run_name='__main__')"])
        until = time.monotonic() + 60
        while ready and not self.is_ready():
            assert self._processes["gateway"].poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)
        return self

    def is_ready(self) -> bool:
        """By hand: a client of httpx costs more than the gateway's start."""
        try:
            with self.raw() as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: g\r\n\r\n")
                return connection.recv(1 << 12).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False

    def signal(self, name: str, number: int = signal.SIGTERM) -> None:
        self._processes[name].send_signal(number)

    def kill(self, name: str) -> int:
        self._processes[name].kill()
        return self._processes[name].wait(20)

    def wait(self, name: str) -> int:
        return self._processes[name].wait(20)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def said(self) -> str:
        return (self.base / "gateway.err").read_text()

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(20)
        self.audit.kill()

    def http(self, key: str | None = None, **more: Any) -> httpx.Client:
        """A client as nginx would be."""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://gateway", timeout=20,
            headers=self.headers(key), **more,
        )  # fmt: skip

    def management(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.metrics_socket))
        return httpx.Client(transport=transport, base_url="http://management", timeout=20)

    def headers(self, key: str | None = None, address: str = ADDRESS) -> dict[str, str]:
        return {"X-Airgap-Client-Address": address, **({"Authorization": f"Bearer {key}"} if key else {})}

    def openai(self, key: str, **more: Any) -> openai.OpenAI:
        """The official client."""
        client = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=20)
        return openai.OpenAI(
            api_key=key, base_url="http://gateway/v1", http_client=client, max_retries=0,
            default_headers={"X-Airgap-Client-Address": ADDRESS}, **more,
        )  # fmt: skip

    def raw(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(8)
        made.connect(str(self.socket))
        return made

    def request(self, body: bytes, key: str = "", more: str = "", path: str = "/v1/chat/completions") -> bytes:
        """A POST as bytes."""
        head = f"POST {path} HTTP/1.1\r\nHost: g\r\nX-Airgap-Client-Address: {ADDRESS}\r\n"
        head += f"Authorization: Bearer {key or self.alice}\r\nContent-Type: application/json\r\n{more}"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def entries(self, kind: str = "") -> list[dict[str, Any]]:
        found = [json.loads(entry) for _seq, entry in View(self.audit.folder).entries()]
        return [entry for entry in found if not kind or entry["kind"] == kind]

    def of_request(self, request_id: str, *, ended: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the log has of a request: how it began, and, a moment later, how it ended."""
        for _ in range(200):
            for admitted in self.entries("admitted"):
                if admitted["request_id"] == request_id:
                    ends = [entry for entry in self.entries("completed") if entry["of"] == admitted["seq"]]
                    if ends or not ended:
                        return admitted, ends[0] if ends else {}
            time.sleep(0.02)
        raise AssertionError(f"{request_id} is not in the log")

    def gaps(self) -> list[str]:
        return [gap.what for gap in judge(View(self.audit.folder).entries(), is_live=True).gaps]

    def engine_saw(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.engine_log.read_text().splitlines()] if self.engine_log.exists() else []
        )

    def _run(self, name: str, arguments: list[str]) -> None:
        with (self.base / f"{name}.err").open("ab") as said:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments], stderr=said, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
            )


def ask(text: str, **more: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


def read_events(response: httpx.Response) -> Iterator[Any]:
    """Events of a stream: objects, and `[DONE]`."""
    rest = ""
    for text in response.iter_text():
        *events, rest = (rest + text).split("\n\n")  # not lines: U+2028 may stand in a text
        for event in events:
            if event.startswith("data: "):
                yield event[6:] if event == "data: [DONE]" else json.loads(event[6:])


def text_of(events: list[Any]) -> str:
    choices = [choice for event in events if isinstance(event, Mapping) for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
