"""Many hosts in one run: meet them, carry to some at once, install in batches, and tell how each one ended.

One host that fails stops no other. Carrying and installing can be begun again at any time: what is there is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import paramiko

from bundler.install.remote.host import Connect, Facts, Order, RemoteFailed, ask_facts, carry_to, install_on
from bundler.install.remote.inventory import Inventory, InventoryHost
from bundler.install.remote.link import LOST, connect, host_key
from bundler.install.remote.pins import Pins
from custody.errors import AirgapError, EnvironmentProblem, HostKeyRejected
from custody.report import Reporter

#: Asked with a host's name, address and fingerprint at first contact: does somebody vouch for the key?
Confirm = Callable[[InventoryHost, str], bool]


@dataclass
class Ended:
    """How far a host came, and how it ended.

    Attributes:
        key: fingerprint of its ssh key, or empty.
        stage: the last one reached: key, facts, carry, install, done.
        code: exit code of the common table; 0 is well.
        message, hint: what a failure said.
    """

    host: InventoryHost
    key: str = ""
    stage: str = "key"
    sent_bytes: int = 0
    code: int = 0
    message: str = ""
    hint: str = ""
    seconds: float = 0.0
    facts: Facts | None = None

    def add_sent(self, size_bytes: int) -> None:
        """Count what went to the host."""
        self.sent_bytes += size_bytes

    @property
    def result(self) -> str:
        """One word or two."""
        if self.code:
            return f"exit {self.code}"
        if self.stage == "done":
            return "unchanged" if self.facts and self.facts.installed else "installed"
        return "not begun"


class Fleet:
    """The hosts of an inventory, on their way.

    Args:
        keys: the ssh keys that log in, by host name.
    """

    def __init__(self, inventory: Inventory, pins: Pins, keys: Mapping[str, paramiko.PKey], reporter: Reporter) -> None:
        self._inventory, self._pins, self._keys, self._reporter = inventory, pins, keys, reporter
        self.ended = [Ended(host) for host in inventory.hosts]

    def meet(self, confirm: Confirm, *, pin: bool = True) -> None:
        """Ask every host for its ssh key and compare it; nobody logs in.

        Args:
            confirm: for first contacts, one at a time.
            pin: keep the keys that somebody vouched for.
        """
        self._reporter.step("ssh host keys")
        shown: dict[str, paramiko.PKey] = {}

        def ask(one: Ended) -> None:
            shown[one.host.name] = host_key(one.host, self._pins.kind(one.host))
            one.key = shown[one.host.name].fingerprint

        self._each(ask, self._inventory.forks)
        for one in self._going():
            with self._ending(one):
                key = shown[one.host.name]
                if not self._pins.require(one.host, key) and not confirm(one.host, key.fingerprint):
                    raise HostKeyRejected(
                        f"{one.host.place}: ssh host key: nobody vouched for {key.fingerprint}",
                        "compare it at the host's console, then give it as host_key in the inventory",
                    )
                if pin:
                    self._pins.add(one.host, key)

    def ask(self, orders: Mapping[str, Order]) -> None:
        """Gather facts."""
        self._reporter.step("facts")

        def ask(one: Ended) -> None:
            one.stage = "facts"
            with self._connect(one)() as link:
                one.facts = ask_facts(link, orders[one.host.name])
            if one.facts.installed:
                one.stage = "done"

        self._each(ask, self._inventory.forks)

    def carry(self, orders: Mapping[str, Order]) -> None:
        """Carry the release to every host that has it not, `forks` at once."""
        self._reporter.step("carry")

        def carry(one: Ended) -> None:
            if one.facts is None or one.facts.running:
                return  # what is being installed must not change below it
            one.stage = "carry"
            with self._connect(one)() as link:
                carry_to(link, orders[one.host.name], one.facts, one.add_sent, self._reporter)

        self._each(carry, self._inventory.forks)

    def install(self, orders: Mapping[str, Order]) -> None:
        """Install in batches of `serial`: a batch begins when the one before has ended, well or not."""
        self._reporter.step("install")

        def install(one: Ended) -> None:
            one.stage = "install"
            install_on(self._connect(one), orders[one.host.name], self._reporter)
            one.stage = "done"

        self._each(install, self._inventory.serial, batches=True)

    def _connect(self, one: Ended) -> Connect:
        def judge(host: InventoryHost, key: paramiko.PKey) -> None:
            self._pins.require(host, key)
            if key.fingerprint != one.key:
                raise HostKeyRejected(
                    f"{host.place}: ssh host key: expected {one.key} as a moment ago, found {key.fingerprint}",
                    "somebody is in between, or two machines share the address",
                )

        return partial(connect, one.host, self._pins.kind(one.host), judge, self._keys[one.host.name])

    def _going(self) -> list[Ended]:
        return [one for one in self.ended if not one.code and one.stage != "done"]

    def _each(self, work: Callable[[Ended], None], at_once: int, *, batches: bool = False) -> None:
        def guarded(one: Ended) -> None:
            with self._ending(one):
                work(one)

        going = self._going()
        size = at_once if batches else max(1, len(going))
        for start in range(0, len(going), size):
            pool = ThreadPoolExecutor(at_once)
            try:
                list(pool.map(guarded, going[start : start + size]))
            finally:
                # Stopped by the operator: what is under way is not waited for.
                pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _ending(self, one: Ended) -> Iterator[None]:
        """Add the time; turn what goes wrong into this host's end, and no other's."""
        begun_s = time.monotonic()
        try:
            yield
        except AirgapError as error:
            one.code = error.code if isinstance(error, RemoteFailed) else error.exit_code
            one.message, one.hint = error.message, error.hint
        except LOST as error:
            one.code = EnvironmentProblem.exit_code
            one.message, one.hint = f"{one.host.place}: {error or type(error).__name__}", "run the same command again"
        except (KeyError, ValueError) as error:
            one.code = EnvironmentProblem.exit_code
            one.message = f"{one.host.place}: its answer cannot be read: {type(error).__name__}: {error}"
            one.hint = "does its login shell print something? try: ssh HOST true"
        finally:
            one.seconds += time.monotonic() - begun_s
            if one.code:
                self._reporter.note(f"{one.host.name}: {one.message}")


def exit_code(ended: list[Ended]) -> int:
    """0 when every host ended well, else the lowest code: integrity before mistakes before the environment."""
    return min((one.code for one in ended if one.code), default=0)
