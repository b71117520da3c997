"""Whether the engine answers, asked on the host itself."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from custody._run import run
from custody.errors import EnvironmentProblem

_PAUSE_S = 0.5


def is_enabled(unit: str) -> bool:
    """Whether the unit is set up to start with the volume."""
    return run(["systemctl", "is-enabled", unit], ok=range(256)).text == "enabled"


def answers(url: str, timeout_s: float = 5) -> bool:
    """Whether a GET of `http://127.0.0.1:port/path` is answered with 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait(unit: str, url: str, timeout_s: float) -> float:
    """Wait until the engine answers; return the seconds that it took.

    Raises:
        EnvironmentProblem: its unit failed, or the time is over.
    """
    begun_s = time.monotonic()
    while not answers(url):
        waited_s = time.monotonic() - begun_s
        state = run(["systemctl", "is-active", unit], ok=range(256)).text
        if state == "failed" or waited_s > timeout_s:
            raise EnvironmentProblem(
                f"{unit}: no answer at {url} after {waited_s:.0f} s; the unit is {state}", f"journalctl --unit={unit}"
            )
        time.sleep(_PAUSE_S)
    return time.monotonic() - begun_s
