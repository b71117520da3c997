"""The engines of a host, asked over their Unix sockets."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from appliance import engine, units
from appliance.engine import Engine
from custody._run import Completed
from custody.errors import EnvironmentProblem, InputInvalid

FILE = '{"schema_version": 1, "engines": [{"name": "a", "unit": "airgap-engine-a.service", "socket": "/run/a.sock"}]}'


@contextmanager
def serving(socket: Path, statuses: list[int]) -> Iterator[Engine]:
    """An engine that gives these statuses, the last one for good."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None: ...

    with socketserver.UnixStreamServer(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Engine(name="a", unit="airgap-engine-a.service", socket=str(socket))
        finally:
            server.shutdown()
            thread.join()
    assert set(asked) <= {"/health"}


def test_what_the_role_wrote_is_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    assert engine.load(file) == ()
    file.write_text(FILE)
    assert engine.load(file) == (Engine(name="a", unit="airgap-engine-a.service", socket="/run/a.sock"),)
    file.write_text(FILE.replace("unit", "Unit"))
    with pytest.raises(InputInvalid, match="Unit"):
        engine.load(file)


def test_an_engine_answers_when_its_model_is_loaded(tmp_path: Path) -> None:
    with serving(tmp_path / "a.sock", [503, 200]) as made:
        assert [engine.answers(made), engine.answers(made)] == [False, True]
    (tmp_path / "a.sock").unlink()
    assert not engine.answers(made)


def test_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PAUSE_S", 0.01)
    monkeypatch.setattr(units, "run", lambda *_argv, **_more: Completed((), 3, b"activating", b""))
    with serving(tmp_path / "a.sock", [503, 503, 200]) as made:
        assert 0 < engine.wait(made, 5) < 5


@pytest.mark.parametrize(("state", "timeout_s"), [("failed", 60.0), ("activating", 0.0)])
def test_one_that_failed_or_takes_too_long_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, timeout_s: float
) -> None:
    monkeypatch.setattr(units, "run", lambda *_argv, **_more: Completed((), 3, state.encode(), b""))
    made = Engine(name="a", unit="airgap-engine-a.service", socket=str(tmp_path / "none.sock"))
    with pytest.raises(EnvironmentProblem, match=f"airgap-engine-a.service: no answer .* the unit is {state}"):
        engine.wait(made, timeout_s)
