"""The engines, one for each model that is served: what they are called, and whether they answer.

The role engine writes their names, units and sockets to /etc/airgap/engine.json; this module alone reads them.
"""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from appliance import units
from custody._run import run
from custody.errors import EnvironmentProblem, InputInvalid

CONFIG = Path("/etc/airgap/engine.json")
_PAUSE_S = 0.5


class Engine(BaseModel):
    """One model's server.

    Attributes:
        name: of the model, as clients say it.
        unit: of systemd.
        socket: path of the Unix socket on which it speaks HTTP.
        health: where it says whether it serves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    unit: str
    socket: str
    health: str = "/health"


#: What stands before the engines is waited for in the same way; it is well when it has the audit log.
GATEWAY = Engine(
    name="the gateway", unit="airgap-gateway.service", socket="/run/airgap-gateway/metrics.sock", health="/healthz"
)


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    engines: tuple[Engine, ...]


def load(path: Path | None = None) -> tuple[Engine, ...]:
    """The engines of this host, in the order of the role; none before the first installation.

    Raises:
        InputInvalid: the file is not what it should be.
    """
    path = path or CONFIG
    try:
        return _Config.model_validate_json(path.read_bytes()).engines
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise InputInvalid(f"{path}: {error}", "airgap install writes it again") from error


def is_enabled(engine: Engine) -> bool:
    """Whether its unit is set up to start with the volume."""
    return run(["systemctl", "is-enabled", engine.unit], ok=range(256)).text == "enabled"


def answers(engine: Engine, timeout_s: float = 5) -> bool:
    """Whether its model is loaded and it answers."""
    connection = _Connection(engine.socket, timeout_s)
    try:
        connection.request("GET", engine.health)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait(engine: Engine, timeout_s: float) -> float:
    """Wait until it answers; return the seconds that it took.

    Raises:
        EnvironmentProblem: its unit failed, or the time is over.
    """
    begun_s = time.monotonic()
    while not answers(engine):
        waited_s = time.monotonic() - begun_s
        found = units.state(engine.unit)
        if found == "failed" or waited_s > timeout_s:
            raise EnvironmentProblem(
                f"{engine.unit}: no answer at {engine.socket} after {waited_s:.0f} s; the unit is {found}",
                f"journalctl --unit={engine.unit}",
            )
        time.sleep(_PAUSE_S)
    return time.monotonic() - begun_s


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
