"""An audit log of 2018, its export, and a collector's word on it: old enough to be compressed and to expire."""

from __future__ import annotations

import base64
from pathlib import Path

from appliance.audit import fields, keeping
from custody.ledger import origin, segment
from custody.ledger.collect import begin, collect
from custody.ledger.export import export
from custody.ledger.log import open_log
from custody.ledger.moment import Moment
from custody.ledger.note import countersign
from custody.ledger.view import View
from custody.trust.keys import PrivateKey
from tests.unit.appliance.audit.conftest import ADMITTED, ORIGIN, completed

SIZE = segment.SEGMENT_ENTRIES
COLLECTOR, STRANGER = PrivateKey.generate(), PrivateKey.generate()
KEY = base64.b64encode(COLLECTOR.public.der).decode()
RULES = {"retention_days": {"default": 2190, "clinical": 2900}, "collector_key": KEY}
_DAY_MS = 86_400_000


def moment(seq: int) -> Moment:
    """From 2018-01-01 on, five minutes from one entry to the next."""
    ms = seq * 300_000
    at = keeping.later("2018-01-01T00:00:00.000Z", ms // _DAY_MS)
    rest = ms % _DAY_MS // 1000
    return Moment(f"{at[:10]}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}.000Z", "b", ms)


def old_entries() -> list[bytes]:
    """The process starts, and 65,600 entries of requests; the first segment ends in August 2018."""
    made = [fields.entry("started", 0, moment(0), {"epoch": 1, "escrow_sha256": "", "keeping": RULES})]
    record = fields.Admitted.model_validate(
        {**ADMITTED, "explanation": {"action": "chat", "at": "", "bits": 8, "groups": [], "label": "l", "purpose": ""}},
        strict=False,
    )
    while len(made) < SIZE + 64:
        seq = len(made)
        made.append(fields.admitted_entry(seq, moment(seq), record, 1, b"key"))
        end = fields.Completed.model_validate(completed(seq))
        made.append(fields.completed_entry(seq + 1, moment(seq + 1), end, 1, b"key"))
    made.append(fields.entry("stopped", len(made), moment(len(made)), {"open": 0}))
    return made


def make_old(base: Path) -> None:
    """Leave `log`, `export`, `receipt` by the collector, and `strange`, a receipt by somebody else."""
    origin.make(base / "log", ORIGIN)
    with open_log(base / "log") as log:
        log.append(old_entries())
        log.checkpoint()
    view = View(base / "log")
    (base / "export").mkdir()
    export(view, base / "export")
    begin(base / "collected", view.key)
    found = collect(base / "export", base / "collected")
    (base / "receipt").write_bytes(countersign(found.note, [("collector", COLLECTOR)]).dump())
    (base / "strange").write_bytes(countersign(found.note, [("collector", STRANGER)]).dump())
