"""How long requests are kept, and what stops their text from being taken away: a time, a hold, no export.

A segment of the log expires as a whole, when all of these are so: it is complete, and entries follow it; the longest
time of the classes of its requests has passed since its end; no hold reaches into its span, from the entry before it to
the one after; somebody who read an export of it says so (`airgap ledger collect --key`). The audit
process judges by this before it takes text away, and `airgap audit verify` judges by it afterwards, from what the log
itself says: the settings at the last start, the holds, and the tombstone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from appliance import settings
from custody.errors import AirgapError, InputInvalid, LedgerBroken, SignatureRejected
from custody.ledger import gone, segment
from custody.ledger.checkpoint import Checkpoint, open_checkpoint
from custody.ledger.note import PersonKey
from custody.ledger.verify import Expired, Verdict
from custody.ledger.view import View
from custody.trust.keys import PublicKey

#: The class of all requests; a label of a model may have a longer one. So a tombstone that lies about labels, which
#: nobody can check any more, never makes it shorter.
DEFAULT = "default"
#: Of entries that name persons; their text goes, every other kind's stays.
_PERSONAL = (b'"kind":"admitted"', b'"kind":"completed"')
_HOLD, _STARTED = b'"kind":"hold"', b'"kind":"started"'


@dataclass(frozen=True)
class Rules:
    """A site's settings.

    Attributes:
        retention_days: by label; `default` is there.
        collector: whose word on an export counts; None: nothing expires.
    """

    retention_days: Mapping[str, int]
    collector: PublicKey | None

    @staticmethod
    def of(retention_days: Mapping[str, int], collector_key: str) -> Rules:
        """Args: collector_key: SPKI in base64, or empty.

        Raises:
            InputInvalid: no class `default`, or no such key.
        """
        if DEFAULT not in retention_days:
            raise InputInvalid(f"retention_days: expected a class {DEFAULT}, found none", "default: 2190")
        key = settings.public_key("collector_key", collector_key) if collector_key else None
        return Rules(dict(retention_days), key)

    def content(self) -> dict[str, Any]:
        """As the log tells it."""
        key = base64.b64encode(self.collector.der).decode() if self.collector is not None else ""
        return {"retention_days": dict(self.retention_days), "collector_key": key}

    def days(self, labels: list[str] | None) -> int:
        """The longest of the classes of these labels; None: some are not known, and every class counts."""
        if labels is None:
            return max(self.retention_days.values())
        return max(self.retention_days.get(label, self.retention_days[DEFAULT]) for label in [*labels, DEFAULT])


@dataclass(frozen=True)
class Hold:
    """That nothing of a time is taken away.

    Attributes:
        since: UTC, as entries have it; empty: from the beginning.
        until: the same, included; empty: without an end.
        who: whose login added it, by root's word.
        seq: of its entry.
    """

    name: str
    since: str
    until: str
    reason: str
    who: str
    seq: int = 0

    def reaches(self, since: str, until: str) -> bool:
        """Whether it has a moment in common with a span; both ends of both count."""
        return self.since <= until and (not self.until or since <= self.until)


def holds(view: View, before: int | None = None) -> dict[str, Hold]:
    """Holds that are in force, by name; before an entry, or now.

    Raises:
        LedgerBroken: what is left of an expired segment is not what its tombstone says: a hold may be hidden.
    """
    gone.require_left(view)
    found: dict[str, Hold] = {}
    for seq, content in of_kind(view, _HOLD):
        if before is not None and seq >= before:
            break
        if content["action"] == "add":
            names = Hold.__dataclass_fields__
            fields = {name: value for name, value in content.items() if name in names}
            found[content["name"]] = Hold(**{**fields, "seq": seq})
        else:
            found.pop(content["name"], None)
    return found


@dataclass(frozen=True)
class Span:
    """What a segment holds, as far as its time matters.

    Attributes:
        since, until: the earliest and the latest time of its entries and of those before and after it.
        labels: of the models that its requests were for, sorted; None: some requests do not say.
    """

    first: int
    last: int
    since: str
    until: str
    labels: list[str] | None


@dataclass(frozen=True)
class Step:
    """What is to be said of a segment.

    Attributes:
        days: how long it is kept.
        why: it does not expire; empty: it does.
    """

    span: Span
    days: int
    why: str


def keeps(entry: bytes) -> bool:
    """Whether an entry's text stays when its segment expires: it names nobody who asked."""
    return not any(mark in entry for mark in _PERSONAL)


def due(view: View, rules: Rules, now: str) -> Iterator[Span]:
    """Complete segments whose text is there, in order, up to the first that is past none of the times.

    Raises:
        LedgerBroken: one cannot be read.
    """
    for name in view.segments()[:-1]:
        if view.has_text(name):
            yield (span := span_of(view, name))
            if now < later(span.until, min(rules.retention_days.values())):
                return  # nor is what follows


def span_of(view: View, name: str) -> Span:
    """Read one; another segment follows it."""
    first = segment.number_of(name)
    labels: set[str] = set()
    is_known = True
    times = [
        time for time in (time_of(view, first - 1), time_of(view, first + segment.SEGMENT_ENTRIES)) if time is not None
    ]
    for _seq, data in view.entries(first, first + segment.SEGMENT_ENTRIES):
        content = json.loads(data)
        times.append(content["time"])
        if content["kind"] == "admitted" and "explanation" in content:
            labels.add(content["explanation"]["label"])
        elif content["kind"] == "admitted":
            is_known = False
    last = first + segment.SEGMENT_ENTRIES - 1
    return Span(first, last, min(times), max(times), sorted(labels) if is_known else None)


def time_of(view: View, seq: int) -> str | None:
    """When an entry was written, by the host's clock; None: its text is gone, or it never was."""
    for _seq, data in view.entries(seq, seq + 1) if seq >= 0 else ():
        time: str = json.loads(data)["time"]
        return time
    return None


def judge(view: View, span: Span, rules: Rules, held: Mapping[str, Hold], receipt: bytes, now: str) -> Step:
    """Say whether a segment expires.

    Args:
        held: holds in force.
        receipt: a checkpoint that the collector countersigned; may be empty.
        now: UTC, as entries have it.
    """
    days = rules.days(span.labels)
    return Step(span, days, _why_not(view, span, days, rules, held, receipt, now))


def _why_not(
    view: View, span: Span, days: int, rules: Rules, held: Mapping[str, Hold], receipt: bytes, now: str
) -> str:
    end = later(span.until, days)
    if now < end:
        return f"is kept for {days} days, until {end[:10]}"
    for hold in held.values():
        if hold.reaches(span.since, span.until):
            return f"is held by {hold.name} (entry {hold.seq}): {hold.reason}"
    if rules.collector is None:
        return "no collector's key is set, so that no export counts"
    if not receipt:
        return "no receipt of an export was given"
    try:
        size = read_receipt(view, receipt, rules.collector).size
    except AirgapError as error:
        return f"the receipt does not hold: {error.message}"
    return "" if size > span.last else f"the export that the receipt is of has {size} entries"


def read_receipt(view: View, data: bytes, collector: PublicKey) -> Checkpoint:
    """A checkpoint of this log that the collector countersigned, having read an export of that size.

    Raises:
        BundleMalformed, SignatureRejected, LedgerBroken: it is none.
    """
    head, note = open_checkpoint(data, view.key, "receipt")
    people = [PersonKey(name, collector) for name, _id, _signature in note.signatures]
    mine = [person for person in people if person.id in {key_id for _name, key_id, _signature in note.signatures}]
    if not mine:
        raise SignatureRejected(
            "receipt: expected the collector's signature, found none", "airgap ledger collect --key"
        )
    note.require(mine[0], "receipt")
    now = view.checkpoint()
    if now is None:
        raise LedgerBroken(f"{view.key.name}: nothing was signed yet", "")
    view.prove_growth(head, now)
    return head


def require_kept(view: View, verdict: Verdict) -> None:
    """Refuse a log of which something was taken away before its time, under a hold, or without an export.

    It takes what the log itself says. It cannot know what stood in text that is gone: which labels, and, where the
    neighbours have expired too, when. It cannot know whether the clock was right.

    Raises:
        LedgerBroken: naming the tombstone.
    """
    starts = [(seq, content) for seq, content in of_kind(view, _STARTED)] if verdict.expired else []
    for expired in verdict.expired:
        rules = None
        for seq, content in starts:
            if seq < expired.seq and "keeping" in content:
                rules = Rules.of(content["keeping"]["retention_days"], content["keeping"]["collector_key"])
        try:
            why = _misfit(view, expired, rules)
        except (KeyError, TypeError, ValueError, AttributeError, AirgapError) as error:
            why = f"it is not one of this process: {error}"
        if why:
            stone = expired.stone
            raise LedgerBroken(
                f"{view.key.name}: entries {stone.first} to {stone.last} were taken away by the tombstone at entry"
                f" {expired.seq}, and {why}",
                "keep the export that has them; this is for the inquiry",
            )


def _misfit(view: View, expired: Expired, rules: Rules | None) -> str:
    """What is wrong with a tombstone; empty: nothing."""
    stone, content = expired.stone, expired.content
    since, until, days = content["since"], content["until"], content["days"]
    if rules is None:
        return "no start of the process before it says how long entries are kept"
    if days != rules.days(content["labels"]):
        return f"it says {days} days where the settings say {rules.days(content['labels'])}"
    for seq, data in view.entries(max(0, stone.first - 1), stone.last + 2):
        time = json.loads(data)["time"]
        if not since <= time <= until:
            return f"it says that they are of {since} to {until}, and entry {seq} is of {time}"
    if content["time"] < later(until, days):
        return f"they were to be kept for {days} days, until {later(until, days)[:10]}"
    for hold in holds(view, expired.seq).values():
        if hold.reaches(since, until):
            return f"they were held by {hold.name} (entry {hold.seq}): {hold.reason}"
    if rules.collector is None:
        return "no collector's key was set"
    head = read_receipt(view, content["receipt"].encode(), rules.collector)
    return "" if head.size > stone.last else "its receipt is of an export without them"


def unfinished(view: View) -> list[tuple[int, int]]:
    """Tombstones of segments whose text is still there, after a crash: number of the entry, and of the first to go."""
    found = [(seq, content["first"]) for seq, content in of_kind(view, gone.MARK)]
    kept = {segment.number_of(name) for name in view.segments() if view.has_text(name)}
    return [(seq, first) for seq, first in found if first in kept]


def later(time: str, days: int) -> str:
    """A time so many days later, as entries have it."""
    return text_of(datetime.fromisoformat(time.replace("Z", "+00:00")) + timedelta(days=days))


def text_of(at: datetime) -> str:
    """A time as entries have it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of_kind(view: View, mark: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Entries of one kind, by number; `mark` is how canonical JSON says it."""
    for seq, data in view.marked(mark):
        content = json.loads(data)
        if f'"kind":"{content["kind"]}"'.encode() == mark:
            yield seq, content
