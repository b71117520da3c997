"""Says a log to a wire that never answers: every record several times, the copies apart, never faster than allowed.

Nothing is asked and nothing is awaited. What the kernel refuses (a filter, a cable) is tried again until it goes.
"""

from __future__ import annotations

import errno
import itertools
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from appliance.diode.config import Config
from appliance.diode.message import Form
from appliance.diode.tail import Tail
from custody.atomic import write_whole
from custody.errors import EnvironmentProblem
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.view import View
from custody.report import Reporter

#: Records said in a row before their copies; a receiver takes so many beyond the newest checkpoint that it has heard.
BLOCK = 4096
_POLL_S = 0.1
_RETRY_S = 1.0
#: A pause of so long (the copies' distance, a slow disk) is made up for, at so many times the rate, in bursts of so
#: long: small, for receivers that have small buffers.
_SAVED_S, _CATCH_UP, _BURST_S = 0.25, 1.25, 0.01
#: Linux, include/uapi/linux/in.h and in6.h: never fragment, or one lost part takes a whole message.
_DONT_FRAGMENT = {
    False: (socket.IPPROTO_IP, 10, 2),  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    True: (socket.IPPROTO_IPV6, 23, 2),  # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
}


class Bucket:
    """A token bucket: `take` returns no oftener than the rate says, but for what was saved up."""

    def __init__(self, rate: float, saved_s: float) -> None:
        """Args: rate: tokens a second; saved_s: for so long they are saved up."""
        self._rate, self._most = rate, max(1.0, rate * saved_s)
        self._tokens, self._at_s = self._most, time.monotonic()

    def take(self) -> None:
        """Wait for a token and take it."""
        while True:
            now_s = time.monotonic()
            self._tokens = min(self._most, self._tokens + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
            if self._tokens >= 1:
                self._tokens -= 1
                return
            time.sleep(max((1 - self._tokens) / self._rate, 0.001))


class Position:
    """How far a log was sent, durably; of another log it says: nothing yet."""

    def __init__(self, file: Path, vkey: str) -> None:
        self._file, self._vkey = file, vkey

    def load(self) -> int:
        """Entries of which every copy was sent."""
        try:
            found = json.loads(self._file.read_bytes())
            return max(0, int(found["next"])) if found["log"] == self._vkey else 0
        except (OSError, ValueError, TypeError, KeyError):
            return 0  # begun, or torn: copies are harmless

    def save(self, entries: int) -> None:
        """Remember it."""
        write_whole(self._file, json.dumps({"log": self._vkey, "next": entries}).encode(), mode=0o600)


class Sender:
    """Follows one log."""

    def __init__(self, settings: Config, send: Callable[[bytes], None], reporter: Reporter) -> None:
        """Args: send: puts a datagram on the wire.

        Raises:
            InputInvalid: no log is there.
        """
        self._settings, self._send, self._reporter = settings, send, reporter
        view = View(settings.log)
        self._form, self._position = Form(view.key.name), Position(settings.position, view.key.vkey)
        self._tail = Tail(view, self._position.load())
        rate = settings.rate * settings.repeat
        self._buckets = (Bucket(rate, _SAVED_S), Bucket(rate * _CATCH_UP, _BURST_S))
        self._said_s = float("-inf")

    def run(self) -> None:
        """Send until the process ends."""
        while True:
            if not self.step():
                time.sleep(_POLL_S)

    def step(self) -> bool:
        """Send a block of what is new, or, when it is time, the newest checkpoint again; whether there was anything."""
        found = self._tail.head()
        if found is None:
            return False
        head, note = found
        if self._tail.next > head.size:
            self._reporter.note(f"{head.size} entries, {self._tail.next} were sent before: an older copy was put back")
            self._tail = Tail(View(self._settings.log), head.size)
        if self._tail.next < head.size:
            self._send_block(head, note)
            return True
        if time.monotonic() - self._said_s >= self._settings.idle_s:
            self._say_head(head, note)
            return True
        return False

    def _send_block(self, head: Checkpoint, note: bytes) -> None:
        sent = self._tail.next
        block = [self._message(*each) for each in itertools.islice(self._tail.read(head.size), BLOCK)]
        for copy in range(self._settings.repeat):
            begun_s = time.monotonic()
            self._say(self._form.head(note, head.size, sent))
            for message in block:
                self._say(message)
            if copy < self._settings.repeat - 1:
                time.sleep(max(0.0, begun_s + self._settings.apart_s - time.monotonic()))
        self._say_head(head, note)
        try:
            self._position.save(self._tail.next)
        except OSError as error:  # a full disk: a restart says more again than it would have to
            self._reporter.note(f"{self._settings.position}: {error.strerror}")

    def _say_head(self, head: Checkpoint, note: bytes) -> None:
        for _copy in range(self._settings.repeat):
            self._say(self._form.head(note, head.size, self._tail.next))
        self._said_s = time.monotonic()

    def _message(self, seq: int, entry: bytes) -> bytes:
        message = self._form.entry(seq, entry)
        return message if len(message) <= self._settings.datagram_bytes else self._form.long(seq, len(entry))

    def _say(self, message: bytes) -> None:
        for bucket in self._buckets:
            bucket.take()
        self._send(message)


class Wire:
    """A UDP socket that only sends, to one place."""

    def __init__(self, settings: Config, reporter: Reporter) -> None:
        self._to, self._reporter = (settings.address, settings.port), reporter
        self._socket = socket.socket(socket.AF_INET6 if settings.is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(*_DONT_FRAGMENT[settings.is_v6])
        self._interface = settings.interface.encode()
        self._is_refused = False

    def send(self, message: bytes) -> None:
        """Put a message on the wire, as soon as the kernel lets it.

        Raises:
            EnvironmentProblem: it is larger than the link takes.
        """
        while True:
            try:
                if self._interface:  # no other card, whatever routes say; it may come late
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface)
                    self._interface = b""
                # Not connected: what an ICMP message says about it is not heard.
                self._socket.sendto(message, self._to)
            except OSError as error:
                self._wait(error, len(message))
            else:
                if self._is_refused:
                    self._reporter.note(f"{self._to[0]}: goes again")
                    self._is_refused = False
                return

    def _wait(self, error: OSError, size_bytes: int) -> None:
        if error.errno == errno.EMSGSIZE:
            raise EnvironmentProblem(
                f"{self._to[0]}: {size_bytes} bytes are more than the link takes",
                "ip link; then correct diode.mtu_bytes in site.yml",
            ) from error
        if error.errno == errno.ENOBUFS:
            time.sleep(_POLL_S)
            return
        if not self._is_refused:
            self._reporter.note(f"{self._to[0]}: {error.strerror}: tried again until it goes")
            self._is_refused = True
        time.sleep(_RETRY_S)
