"""A page of what was asked, for people: of a day, of a user, of the denied; it holds all it needs and reads offline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from appliance.audit.complete import Judgement
from custody.ledger.verify import Verdict
from custody.page import Page, Section

#: More rows than anybody reads, and what a browser still shows.
MAX_ROWS = 20_000
_HEAD = ("seq", "time (UTC)", "user", "address", "model", "decision", "why", "tokens", "ms", "end")


def make_page(
    title: str, entries: Iterable[dict[str, Any]], ends: dict[int, dict[str, Any]], verdict: Verdict, judged: Judgement
) -> Page:
    """The page.

    Args:
        entries: admitted requests, in order.
        ends: completed entries by the seq of their request.
        verdict: of the whole log, not of what is shown alone.
    """
    rows = tuple(_row(entry, ends.get(entry["seq"])) for entry in entries)
    shown = rows[:MAX_ROWS]
    gaps = tuple((str(gap.seq), gap.what) for gap in judged.gaps[:MAX_ROWS])
    facts = (
        ("requests", f"{len(rows)}" + (f", the first {MAX_ROWS} shown" if len(rows) > MAX_ROWS else "")),
        ("denied", str(sum(row[5] == "deny" for row in rows))),
        (
            "whole log",
            f"{verdict.size} entries; {judged.admitted} allowed, {judged.denied} denied, {judged.completed} ended",
        ),
        ("signed", f"a checkpoint covers {verdict.signed} entries"),
    )
    sections = [Section("In short", (), facts), Section("Requests", _HEAD, shown)]
    if gaps:
        sections.append(Section("Gaps in the whole log, to be explained", ("seq", "what"), gaps))
    return Page(
        name="audit log", title=title,
        verdict="intact, complete" if not judged.gaps else f"intact, with gaps: {len(judged.gaps)}",
        summary="The entries are those that the log's checkpoint was signed over."
        + ("" if not judged.gaps else " Not all that began has an end; the list is below."),
        sections=tuple(sections), is_doubtful=bool(judged.gaps),
        foot="Times are the host's clock. This page is a copy for reading: an entry's proof is made by"
        " `airgap audit prove SEQ FOLDER` and checked with openssl alone. Texts are not in the log.",
    )  # fmt: skip


def _row(entry: dict[str, Any], end: dict[str, Any] | None) -> tuple[str, ...]:
    begun = (
        str(entry["seq"]), entry["time"][:19].replace("T", " "), entry["user_id"], entry["client_ip"], entry["model"],
        entry["decision"], f"{entry['policy_id']} {entry['reason']}".strip(),
    )  # fmt: skip
    if end is None:
        return (*begun, "", "", "none" if entry["decision"] == "allow" else "")
    return (*begun, f"{end['tokens_in']} + {end['tokens_out']}", str(end["latency_ms"]), end["status"])
