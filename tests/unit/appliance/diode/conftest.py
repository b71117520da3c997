"""A log, a sender that follows it, and a wire between sender and receiver that a test decides over."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.diode import arrivals
from appliance.diode.config import Config
from appliance.diode.receive import Receiver
from appliance.diode.send import Sender
from appliance.diode.standing import Standing, judge
from custody.ledger import collect, origin
from custody.ledger.export import export
from custody.ledger.log import Log, open_log
from custody.ledger.view import View
from custody.report import SilentReporter

ORIGIN = "site-7.example/audit"
#: Answers whether the n-th datagram gets through.
Passes = Callable[[int], bool]


def entries(count: int, start: int = 0, size_bytes: int = 0) -> list[bytes]:
    """Entries as an audit log has them, of any size."""
    return [b'{"seq":%d,"text":"%s"}' % (seq, b"\xc3\xa4" * (size_bytes // 2)) for seq in range(start, start + count)]


class Line:
    """A log on one side, a receiver on the other."""

    def __init__(self, base: Path) -> None:
        self.base, self.log_folder, self.far = base, base / "log", base / "far"
        self.key = origin.make(self.log_folder, ORIGIN).public
        collect.begin(self.far, self.key)
        self._stack = ExitStack()
        self.log: Log = self._stack.enter_context(open_log(self.log_folder))
        self.receiver = self.new_receiver()
        self.wire: list[bytes] = []
        self.settings = Config(
            schema_version=1, log=self.log_folder, position=base / "position", address="192.0.2.2", port=5514,
            rate=100_000, repeat=2, apart_s=0, idle_s=3600,
        )  # fmt: skip
        self.sender = self.new_sender()

    def new_receiver(self) -> Receiver:
        """A receiver that goes on from what is there."""
        return Receiver(self.far, self.key, SilentReporter())

    def new_sender(self, **changed: object) -> Sender:
        """A sender that goes on from its position."""
        settings = self.settings.model_copy(update=changed)
        return Sender(settings, self.wire.append, SilentReporter())

    def append(self, new: list[bytes]) -> None:
        """Write to the log, in groups, and sign."""
        for at in range(0, len(new), 700):
            self.log.append(new[at : at + 700])
        self.log.checkpoint()

    def send(self) -> list[bytes]:
        """What the sender says now."""
        while self.sender.step():
            pass
        said, self.wire[:] = list(self.wire), []
        return said

    def deliver(self, said: list[bytes], passes: Passes = lambda _number: True) -> list[bytes]:
        """Bring it to the receiver, but for what is lost; returns that."""
        lost = []
        for number, message in enumerate(said):
            if passes(number):
                self.receiver.take(message)
            else:
                lost.append(message)
        self.receiver.advance()
        self.receiver.save()
        return lost

    def run(self, new: list[bytes], passes: Passes = lambda _number: True) -> Standing:
        """Write, send, deliver, look."""
        self.append(new)
        self.deliver(self.send(), passes)
        return self.standing()

    def standing(self) -> Standing:
        """What the receiver's folder says."""
        return judge(self.far)

    def export(self, name: str = "export") -> Path:
        """The log as a file diode brings it."""
        folder = self.base / name
        folder.mkdir()
        export(View(self.log_folder), folder)
        return folder

    @property
    def received(self) -> Path:
        """Where lies what is not verified."""
        return self.far / arrivals.FOLDER

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.close()


def losing(part: float, seed: int) -> Passes:
    """A wire that loses some, the same ones each time."""
    chance = random.Random(seed)
    return lambda _number: chance.random() >= part
