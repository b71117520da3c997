"""`prepare` the bundle and the trees; `start NAME` and `stop NAME` the container of a molecule scenario."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.containers import Container
from tests.roles import release


def start(name: str) -> None:
    """Start a scenario's container: after `start` of the medium for the role base, after that role for the others."""
    walk = release.prepared()
    container = Container(
        name, release.installed(walk) if name == "base" else release.settled(walk), release.binds(walk)
    )
    container.start()
    release.furnish(container, walk)
    if name in ("audit", "diode", "engine", "gateway"):
        release.give_volume(container, walk)
    if name == "engine":
        release.give_second_model(container)
    if name == "diode":
        release.give_wire(container)
    if name == "gpu":
        release.give_card(container)


def stop(name: str) -> None:
    """Stop a scenario's container."""
    Container(name, ()).stop()


VERBS: dict[str, Callable[..., None]] = {"prepare": release.prepare, "start": start, "stop": stop}
VERBS[sys.argv[1]](*sys.argv[2:])
