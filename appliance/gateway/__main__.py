"""The gateway: `python -m appliance.gateway [CONFIG]`.

SIGTERM: nothing new is served, what is open ends within a limit. Policies are read again when the link to them changes,
and on SIGHUP; those that do not validate change nothing.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop
from uvicorn.config import Config as Uvicorn
from uvicorn.server import ServerState

from appliance.gateway import config
from appliance.gateway.app import App
from appliance.gateway.directory import Directory, read_secret
from appliance.gateway.limits import Clock
from appliance.gateway.management import Management
from appliance.gateway.metrics import Metrics
from appliance.gateway.policy import Policies
from appliance.gateway.protocol import Bounded
from appliance.gateway.record import Record
from appliance.gateway.service import Service
from custody.errors import AirgapError, EnvironmentProblem

#: Revoked and expired users are seen within this and the time that reading takes; streams end within 2 s.
_SWEEP_S = 0.5
_CLOSE_S = 5.0
_BACKLOG = 1024
#: Objects made, and not freed, between looks for cycles. Requests leave none; with Python's own 700 the looking
#: was a tenth of a request's processor time.
_COLLECT = 20_000
_LOG = logging.getLogger("airgap.gateway")


class _Listener:
    """A socket and the connections that came through it."""

    def __init__(self, app: Any, path: Path, settings: config.Config) -> None:
        self._path, self._settings, self._state = path, settings, ServerState()
        self._uvicorn = Uvicorn(
            app, log_config=None, access_log=False, lifespan="off", ws="none", proxy_headers=False, server_header=False,
            date_header=False, timeout_keep_alive=int(settings.timeouts.idle_s) or 1,
        )  # fmt: skip
        self._uvicorn.load()

    async def open(self) -> None:
        """Listen.

        Raises:
            EnvironmentProblem: it cannot.
        """
        make = lambda: Bounded(self._uvicorn, self._state, self._settings.bounds, self._settings.timeouts)  # noqa: E731
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.get_running_loop().create_unix_server(make, str(self._path), backlog=_BACKLOG)
            self._path.chmod(0o660)  # nginx's group
        except OSError as error:
            raise EnvironmentProblem(f"{self._path}: {error.strerror}", f"ls -ld {self._path.parent}") from error

    async def close(self) -> None:
        """Listen no more; what is being said is said to its end."""
        self._server.close()
        self._path.unlink(missing_ok=True)
        for connection in list(self._state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while self._state.tasks:
                    await asyncio.sleep(0.01)


async def serve(settings: config.Config) -> None:
    """Serve until SIGTERM.

    Raises:
        AirgapError: the gateway cannot begin.
    """
    directory = Directory(settings.directory, read_secret(settings.secret))
    metrics, record = Metrics(), Record(settings.audit_socket, settings.timeouts.record_s)
    service = Service(settings, Policies.load(settings.policies), record, Clock(), metrics)
    app = App(service, directory)
    metrics.watch(
        {name: (lambda queue=queue: queue.length) for name, queue in service.queues.items()},  # type: ignore[misc]
        lambda: len(app.open), lambda: record.open, lambda: app.is_ready,
    )  # fmt: skip
    record.start()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    reload = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    listeners = [
        _Listener(app, settings.socket, settings),
        _Listener(Management(settings, app, metrics), settings.metrics_socket, settings),
    ]
    for listener in listeners:
        await listener.open()
    tasks = [
        asyncio.create_task(_again(lambda: _swept(app, directory), _SWEEP_S)),
        asyncio.create_task(_reloading(service, reload)),
        asyncio.create_task(_watching(settings.policies, reload)),
    ]
    gc.freeze()  # what is here now stays
    gc.set_threshold(_COLLECT)
    await stop.wait()
    await app.drain()
    for listener in listeners:
        await listener.close()
    await record.close(_CLOSE_S)
    for task in tasks:
        task.cancel()
    for engine in service.engines.values():
        engine.close()


async def _again(work: Callable[[], Any], pause_s: float) -> None:
    """For ever; one failure is told and does not end it."""
    while True:
        try:
            await work()
        except Exception as error:
            _LOG.error("looking after open requests: %s", type(error).__name__)
        await asyncio.sleep(pause_s)


async def _swept(app: App, directory: Directory) -> None:
    await asyncio.to_thread(directory.refresh)
    app.sweep()


async def _watching(policies: Path, reload: asyncio.Event) -> None:
    """Have policies read again when the link to them leads elsewhere, or to a folder that was written anew."""
    seen = await asyncio.to_thread(_target, policies)
    while True:
        await asyncio.sleep(_SWEEP_S)
        if (found := await asyncio.to_thread(_target, policies)) != seen:
            seen = found
            reload.set()


def _target(link: Path) -> str:
    with suppress(OSError):
        return f"{link.readlink()} {link.stat().st_ctime_ns}"
    return ""  # a plain folder


async def _reloading(service: Service, reload: asyncio.Event) -> None:
    while True:
        await reload.wait()
        reload.clear()
        try:
            service.policies = await asyncio.to_thread(Policies.load, service.settings.policies)
        except AirgapError as error:
            _LOG.error("policies: refused, the old ones stay: %s", error.message)
        except Exception as error:  # or no later change would be seen
            _LOG.error("policies: not read, the old ones stay: %s", type(error).__name__)
        else:
            _LOG.warning("policies: %s", service.policies.version)


def main(arguments: list[str]) -> None:
    """Run.

    Raises:
        AirgapError: the gateway cannot begin.
    """
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="gateway: %(message)s")
    # Its own words about requests would quote them.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    settings = config.load(*map(Path, arguments[:1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AirgapError as error:
        sys.exit(f"gateway: {error.message}\n  next: {error.hint}")
