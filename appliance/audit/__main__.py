"""The audit process: `python -m appliance.audit [CONFIG]`. SIGTERM ends it: what waits is written and signed first."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from appliance.audit import config
from appliance.audit.book import Book
from appliance.audit.epoch import Epochs
from appliance.audit.keeper import Keeper, Tell
from appliance.audit.reserve import Reserve
from appliance.audit.server import Server
from custody.errors import AirgapError
from custody.ledger.log import open_log
from custody.report import ConsoleReporter


def run(settings: config.Config) -> None:
    """Open the log and serve it until a signal comes.

    It is never begun here: a folder without one may be a volume that is not mounted.

    Raises:
        InputInvalid: no log is there.
    """
    os.umask(0o027)
    reporter = ConsoleReporter()
    with open_log(settings.folder) as log:
        epochs = Epochs(settings.folder, log.view.key.name, settings.auditor, settings.epoch_hours * 3600)
        rules = settings.rules
        book = Book(log, epochs, Reserve(settings.folder), reporter, settings={"keeping": rules.content()})
        with closing(book):
            server = Server(book, settings.socket, settings.uids)
            asyncio.run(
                _serve(server, lambda tell: Keeper(tell, log.view, rules, settings.warm_days, settings.keep, reporter))
            )


async def _serve(server: Server, make_keeper: Callable[[Tell], Keeper]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keeper = make_keeper(
        lambda kind, content: asyncio.run_coroutine_threadsafe(server.tell(kind, content), loop).result()
    )
    try:
        await server.serve(stop)
    finally:
        await asyncio.to_thread(keeper.close)  # what it writes last, it writes here


if __name__ == "__main__":
    try:
        run(config.load(*map(Path, sys.argv[1:2])))
    except AirgapError as error:
        sys.exit(f"audit: {error.message}\n  next: {error.hint}")
