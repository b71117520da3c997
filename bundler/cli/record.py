"""What commands tell the custody ledger of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

from custody.ledger.event import Event
from custody.ledger.record import record
from custody.trust.profile import hexdigest


def record_bundle(kind: str, bundle: Path, **details: str | int) -> None:
    """Write an event about a bundle's Statement, where there is a ledger."""
    data = (bundle / "carrier/statement.json").read_bytes()
    identity = json.loads(data)["predicate"]["bundle"]
    algorithm = identity["digest"]
    record(
        Event(kind, f"{identity['name']}-{identity['version']}", f"{algorithm}:{hexdigest(algorithm, data)}", details)
    )
