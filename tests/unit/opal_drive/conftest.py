"""A drive in this process, and a target on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.opal_drive.client import InProcess, OpalHost
from tests.opal_drive.drive import Drive
from tests.opal_drive.faults import Fault, model
from tests.opal_drive.media import Media
from tests.opal_drive.power import Power
from tests.opal_drive.state import MemoryStore, Store
from tests.opal_drive.target import Target

SIZE_BYTES = 16 << 20


class Bench:
    """A drive and a host that talks to it."""

    def __init__(self, image: Path, faults: tuple[Fault, ...] = (), store: Store | None = None) -> None:
        self.image = image
        self.model = model(faults, SIZE_BYTES)
        self.store = store or MemoryStore()
        self.drive = Drive(self.store, Media(image, self.model), self.model, power=Power())
        self.drive.suffer(faults)
        self.host = OpalHost(InProcess(self.drive))

    @property
    def msid(self) -> bytes:
        """The PIN that anybody can read."""
        return self.drive.state.identity.msid

    @property
    def psid(self) -> bytes:
        """The PIN on the label."""
        return self.drive.state.identity.psid


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Make drives with faults; each has its own image."""
    made: list[Bench] = []

    def make(*faults: Fault) -> Bench:
        made.append(Bench(tmp_path / f"drive{len(made)}.img", faults))
        return made[-1]

    yield make
    for bench in made:
        bench.drive.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A new drive without faults."""
    return make_bench()


@pytest.fixture
def owned(bench: Bench) -> Bench:
    """A drive that is owned, activated, and has range 1 (blocks 2048 to 6143) and User1 for it, unlocked."""
    own(bench)
    return bench


def stored(image: Path) -> bytes:
    """Return what an image holds, without its holes."""
    with image.open("rb") as stream:
        end, at, found = stream.seek(0, os.SEEK_END), 0, bytearray()
        while at < end:
            try:
                start = os.lseek(stream.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            at = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            found += os.pread(stream.fileno(), at - start, start)
    return bytes(found)


def own(bench: Bench) -> None:
    """Set up a drive as an appliance would."""
    host = bench.host
    host.set_sid_pin(host.msid(), b"sid")
    host.activate(b"sid")
    host.set_pin(ADMIN1, b"sid", ADMIN1, b"admin")
    host.set_range(b"admin", 1, 2048, 4096)
    host.add_user(b"admin", 1, b"user", 1)


ADMIN1 = bytes.fromhex("0000000900010001")


@pytest.fixture
def target(bench: Bench) -> Iterator[Target]:
    """A target on a free port of loopback."""
    served = Target(bench.drive, "OPAL0001", ("127.0.0.1", 0), lambda line: None)
    served.start()
    yield served
    served.power_off()
