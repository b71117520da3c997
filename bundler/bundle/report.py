"""The report of a verification, for people who do not read code: one content, as a web page or as PDF.

It is made of a `VerifiedBundle` only: a refused bundle has a receipt with the reason, and no page that shows what it
claims to hold.
"""

from __future__ import annotations

from datetime import UTC, datetime

from bundler.bundle.read import MODELS, read_lock
from bundler.bundle.receipt import Receipt
from custody.page import Page, Section, groups, size
from custody.trust.verify import VerifiedBundle

#: Folder below `sealed/` → what people call it.
_KINDS = {
    MODELS: "models",
    "data/apt/": "distribution packages and their lists",
    "data/wheels/": "Python packages",
    "data/ansible/": "playbooks and roles",
    "data/files/": "files of the site",
    "": "lists and digests of all these",
}
_FOOT = (
    "A page proves nothing by itself: it is what one machine found. The signed receipt of the same verification, or the"
    " auditor's kit, does. Compare the root's fingerprint with the paper that came another way."
)


def make_report(bundle: VerifiedBundle, receipt: Receipt, *, as_host: bool) -> Page:
    """Gather the report.

    Args:
        receipt: of the same verification.
        as_host: versions were compared with what this host remembers.
    """
    identity, target = bundle.statement.predicate.bundle, bundle.statement.predicate.target
    entries = bundle.entries()
    total = size(sum(entry.size_bytes for entry in entries))
    signed = [(name, "builder") for name in bundle.builders] + [(name, "approver") for name in bundle.approvers]
    lock = read_lock(bundle)
    made = datetime.fromtimestamp(identity.source_date_epoch, UTC).strftime("%-d %B %Y")
    facts = (
        ("name", identity.name),
        ("version", f"{identity.version} of channel {identity.channel}, security epoch {identity.security_epoch}"),
        ("contents as of", f"{made}; signatures bear no date"),
        ("made for", f"{target.distribution} {target.release}, {target.architecture}, kernel {target.kernel}"),
    )
    models = tuple(
        (m.name, size(m.size_bytes), m.quantization, f"{m.context_tokens:,}", m.license) for m in lock.models
    )
    checks = (
        ("when", receipt.time.replace("T", " ").replace("Z", " UTC")),
        ("where", f"machine {receipt.host}, {receipt.verifier}"),
        ("revocations", f"list {receipt.revocations}: neither this bundle nor a signer's key is on it"),
    )
    sections = (
        Section("Who signed", ("person", "role"), tuple(signed)),
        Section("The bundle", (), facts),
        Section("What is inside", ("kind", "files", "size"), tuple(_kinds(bundle))),
        Section("Models", ("model", "size", "weights", "context, tokens", "licence"), models),
        Section("How it was checked", (), checks),
        Section("Fingerprints", (), tuple(_fingerprints(receipt)), digits=True),
        Section("What was not judged", (), tuple(_not_judged(bundle, receipt, as_host=as_host))),
    )
    unread = f" The bytes of {receipt.unread} models were left to the installer." if receipt.unread else ""
    return Page(
        name=f"Verification of {identity.id}",
        title=identity.id,
        verdict="Accepted",
        foot=_FOOT,
        summary=f"All {len(entries)} files, {total}, are what the persons below signed, byte for byte; none is missing"
        f" and none was added.{unread}",
        sections=tuple(section for section in sections if section.rows),
    )


def _kinds(bundle: VerifiedBundle) -> list[tuple[str, str, str]]:
    left = list(bundle.entries())
    rows = []
    for prefix, name in _KINDS.items():
        found = [entry for entry in left if entry.path.startswith(prefix)]
        left = [entry for entry in left if not entry.path.startswith(prefix)]
        if found:
            rows.append((name, str(len(found)), size(sum(entry.size_bytes for entry in found))))
    return rows


def _fingerprints(receipt: Receipt) -> list[tuple[str, str]]:
    named = ((f"root {receipt.root_version}", receipt.root_fingerprint), ("Statement", receipt.statement_digest))
    return [(name, groups(digest)) for name, digest in named if digest]


def _not_judged(bundle: VerifiedBundle, receipt: Receipt, *, as_host: bool) -> list[tuple[str, str]]:
    identity, target = bundle.statement.predicate.bundle, bundle.statement.predicate.target
    rows = []
    if not as_host:
        rows.append(("version", f"whether a host has accepted a newer one than {identity.version} before"))
        rows.append(("base", "whether a host has it" if identity.base else "this bundle needs none"))
    rows.append(("target", f"whether a host is {target.distribution} {target.release}, {target.architecture}"))
    if receipt.unread:
        rows.append(("models", f"the bytes of {receipt.unread} models; their names and sizes are as signed"))
    return rows
