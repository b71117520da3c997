"""One host: what it is now, the run that installs it, and following that run over lost connections."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bundler.install.remote.carry import Cargo, carry, plain_piece
from bundler.install.remote.inventory import InventoryHost
from bundler.install.remote.link import LOST, Link
from bundler.install.state import State
from bundler.manifest.strict import validate
from custody.errors import AlreadyRunning, EnvironmentProblem, InstallFailed, OperatorMistake
from custody.report import Reporter
from custody.trust.profile import hexdigest
from custody.trust.verify import read_trust

_PAUSE_S = 2.0
#: A host may be gone for so long while its network is set anew; the run on it goes on in any case.
_LOST_S = 600.0

Connect = Callable[[], AbstractContextManager[Link]]


@dataclass(frozen=True)
class Facts:
    """What a host told about itself.

    Attributes:
        running: what the run is that is at work there now; empty: none.
        installed: this very release, with this very site file, was installed and found healthy.
    """

    free_bytes: int
    running: str
    installed: bool


@dataclass(frozen=True)
class Order:
    """What one host is to become.

    Attributes:
        fingerprint, minimum_version: from the paper; a host that remembers a release needs no version.
    """

    host: InventoryHost
    cargo: Cargo
    fingerprint: str
    minimum_version: int | None = None

    @property
    def title(self) -> str:
        """Names a run, so that nobody takes another one for it."""
        return f"airgap {self.cargo.release} {self.cargo.statement} site {self.site_digest}"

    @property
    def site_digest(self) -> str:
        """Of the host's site file."""
        return hexdigest(self.cargo.algorithm, self.host.site.read_bytes())


def ask_facts(link: Link, order: Order) -> Facts:
    """Ask a host, in one round.

    Raises:
        OperatorMistake: the login has not root's rights.
        TrustRejected: the host believes a root that does not lead to the carried one.
        AlreadyRunning: it is being installed with something else.
    """
    host = order.host
    said = link.run("facts", str(host.folder), order.cargo.release, order.cargo.algorithm).decode(errors="replace")
    facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if facts.get("uid") != "0":
        raise OperatorMistake(f"expected root's rights, found uid {facts.get('uid')}", "log in as root")
    state = State()
    if "state" in facts:
        there = Path("/var/lib/airgap/state.json")
        state = validate(json.loads(base64.b64decode(facts["state"])), State, there)
    trust = read_trust(order.cargo.source, order.fingerprint, state.kept)
    running = facts.get("running", "")
    if running not in ("", order.title):
        raise AlreadyRunning(f"something else is being installed: {running}", "wait for it to end")
    installed = (
        state.release == order.cargo.release
        and facts.get("statement") == order.cargo.statement
        and facts.get("site") == order.site_digest
        and trust.kept == state.kept  # the same bundle may come with newer roots or revocations
    )
    return Facts(int(facts["free_bytes"]), running, installed)


def carry_to(link: Link, order: Order, facts: Facts, on_sent: Callable[[int], None], reporter: Reporter) -> None:
    """Carry bundle and site file; see `carry`."""
    host = order.host
    algorithm = order.cargo.algorithm
    pieces = (*order.cargo.pieces, plain_piece("site.yml", host.site, algorithm))
    carry(link, host.name, str(host.folder), algorithm, pieces, facts.free_bytes, on_sent, reporter)


def install_on(connect: Connect, order: Order, reporter: Reporter) -> None:
    """Begin the run on the host, or join the one that is at work, and follow it to its end.

    Raises:
        InstallFailed: it ended otherwise than well; has its exit code and its last words.
        EnvironmentProblem: the host cannot be reached any more.
    """
    host, folder = order.host, str(order.host.folder)
    with connect() as link:
        if not ask_facts(link, order).running:
            lowest = "" if order.minimum_version is None else str(order.minimum_version)
            link.run("begin", folder, order.title, order.fingerprint, order.cargo.start, lowest)
    status, last = _follow(connect, host.name, folder, reporter)
    if status == "gone":
        raise InstallFailed("the run ended without a result: did the host restart?", "run it again")
    if status != "0":
        raise RemoteFailed(int(status), "\n".join(last), f"on {host.name}: less {folder}/log")
    with connect() as link:
        link.run("clear", folder)


class RemoteFailed(InstallFailed):
    """The run on a host ended with an exit code of the common table."""

    def __init__(self, code: int, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.code = code


def _follow(connect: Connect, name: str, folder: str, reporter: Reporter) -> tuple[str, list[str]]:
    """Poll until the run has ended; returns how, and the last lines of its log."""
    seen, lines = 0, [""]
    heard_s = time.monotonic()
    while True:
        try:
            with connect() as link:
                while True:
                    status, _, fresh = link.run("poll", folder, str(seen)).partition(b"\n")
                    heard_s = time.monotonic()
                    seen += len(fresh)
                    # The last line may be half a line.
                    lines = lines[-40:-1] + (lines[-1] + fresh.decode(errors="replace")).split("\n")
                    for line in fresh.decode(errors="replace").splitlines():
                        if line.startswith("==> "):
                            reporter.note(f"{name}: {line.removeprefix('==> ')}")
                    if status != b"running":
                        return status.decode(), _last_words(lines)
                    time.sleep(_PAUSE_S)
        except LOST as error:
            if time.monotonic() - heard_s > _LOST_S:
                raise EnvironmentProblem(
                    f"no answer for {_LOST_S:.0f} s: {error}; what was begun there goes on",
                    "run the same command again: it joins in",
                ) from error
            reporter.note(f"{name}: connection lost, trying again")
            time.sleep(_PAUSE_S)


def _last_words(lines: list[str]) -> list[str]:
    """What was said after the last step began."""
    steps = [number for number, line in enumerate(lines) if line.startswith("==> ")]
    return [line for line in lines[steps[-1] + 1 if steps else 0 :] if line.strip()][-12:]
