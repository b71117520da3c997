"""`python -m tests.bench.gateway [SECONDS]`: what the gateway costs, beside an engine that costs nothing.

The real audit process and gateway, the stub of an engine, and clients of our own on asyncio, all on this machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httptools
import uvloop

from tests.unit.appliance.gateway.rig import Rig, ask

BODY = json.dumps(ask("What does a gateway cost? " * 8, max_tokens=16)).encode()
CLIENTS = (1, 8, 64)


class Client(asyncio.Protocol):
    """A connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.took_ms: list[float] = []
        self.wrong: list[int] = []
        self.is_ending = False
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._begun_s = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.took_ms.append((time.perf_counter() - self._begun_s) * 1e3)
        if (status := self._parser.get_status_code()) != 200:
            self.wrong.append(status)
        if self.is_ending:
            self._transport.close()
        else:
            asyncio.get_running_loop().call_soon(self._ask)

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended.set_result(None)


async def load(path: Path, request: bytes, clients: int, span_s: float) -> tuple[list[float], float, list[int]]:
    """Milliseconds of each request, requests a second, and statuses that were not 200."""
    loop = asyncio.get_running_loop()
    made = [(await loop.create_unix_connection(lambda: Client(request), str(path)))[1] for _ in range(clients)]
    begun_s = time.perf_counter()
    await asyncio.sleep(span_s)
    found = [client.took_ms[min(20, len(client.took_ms) // 2) :] for client in made]
    rate = sum(len(client.took_ms) for client in made) / (time.perf_counter() - begun_s)
    for client in made:
        client.is_ending = True
    await asyncio.gather(*(client.ended for client in made))
    return sorted(took for one in found for took in one), rate, [status for client in made for status in client.wrong]


def cpu_s(pid: int) -> float:
    """Seconds of a processor that a process has had (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main(span_s: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        rig = Rig(Path(name))
        try:
            rig.start()
            audit = rig.audit._process
            assert audit is not None
            direct = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: e\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
            )
            ways = {"engine": (rig.base / "e.sock", direct), "gateway": (rig.socket, rig.request(BODY))}
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                for clients in CLIENTS:
                    medians = {}
                    for way, (path, request) in ways.items():
                        before = {"gateway": cpu_s(rig.pid("gateway")), "audit": cpu_s(audit.pid)}
                        took, rate, wrong = runner.run(load(path, request, clients, span_s))
                        medians[way] = statistics.median(took)
                        print(
                            f"{way:8} {clients:3} clients {medians[way]:8.3f} ms, "
                            f"p99 {took[int(len(took) * 0.99)]:8.3f} ms, "
                            f"{rate:8.0f}/s{f', not 200: {len(wrong)}' if wrong else ''}"
                        )
                        if way == "gateway":
                            used = {
                                "gateway": cpu_s(rig.pid("gateway")) - before["gateway"],
                                "audit": cpu_s(audit.pid) - before["audit"],
                            }
                            each = ", ".join(f"{what} {value / len(took) * 1e3:.3f} ms" for what, value in used.items())
                            print(f"{'':8} processor time a request: {each}")
                    print(f"{'':8} overhead at the median {medians['gateway'] - medians['engine']:8.3f} ms")
            print(rig.said(), end="")
        finally:
            rig.end()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5)
