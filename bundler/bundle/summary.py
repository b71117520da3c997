"""What a signer is shown before signing: identity, target, what is inside, who has signed, what changed.

Everything here is counted from a Statement's bytes and from the lock that the Statement binds, so that whoever holds
these two can count again. Lines for people hold printable ASCII alone: nothing in a bundle moves a cursor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bundler.bundle.write import LOCK_NAME
from bundler.manifest.lock import parse_lock
from custody.errors import DigestMismatch
from custody.trust.envelope import Envelope
from custody.trust.profile import hexdigest
from custody.trust.root import Root
from custody.trust.statement import Count, Entry, Identity, Sha256, Sha384, Statement, StatementTarget

#: Kinds of files, by where they lie; what lies elsewhere is of the bundle itself (lock, leaves, lists).
_KINDS = {
    "data/models/": "models",
    "data/wheels/": "wheels",
    "data/apt/": "packages",
    "data/files/": "files of the site",
    "data/ansible/": "playbooks and roles",
}
_OTHER = "lock, leaves, lists"
#: More names say no more to who reads them; the counts are of all.
SHOWN_PATHS = 20

Plain = Annotated[str, StringConstraints(max_length=600, pattern=r"^[ -~]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Kind(_Strict):
    """How much there is of one kind."""

    kind: Plain
    files: Count
    size_bytes: Count


class ModelLine(_Strict):
    """A model, as the lock tells of it."""

    path: Plain
    size_bytes: Count
    quantization: Plain
    license: Plain
    label: Plain


class Summary(_Strict):
    """What a Statement and its lock say."""

    bundle: Identity
    target: StatementTarget
    kinds: tuple[Kind, ...]
    models: tuple[ModelLine, ...]


class Group(_Strict):
    """Files that are new, changed or gone; `paths` are the first of them."""

    files: Count
    size_bytes: Count
    paths: Annotated[tuple[Plain, ...], Field(max_length=SHOWN_PATHS)]


class Difference(_Strict):
    """Files of the payload and the lock against those of an older bundle.

    Attributes:
        base: the older bundle's name and version.
        signed_by: persons whose signature is on it.
        new, changed, gone: their sizes are the new ones; of gone files, the old.
    """

    base: Plain
    base_digest: Sha256 | Sha384
    signed_by: tuple[Plain, ...]
    new: Group
    changed: Group
    gone: Group


def summarize(statement: Statement, lock_data: bytes) -> Summary:
    """Count a Statement.

    Args:
        lock_data: `sealed/lock.json`.

    Raises:
        DigestMismatch: the lock is not the one that the Statement binds.
        InputInvalid: it is, and yet no lock.
    """
    files = {entry.path: entry for entry in statement.predicate.files}
    found = hexdigest(statement.algorithm, lock_data)
    expected = files[LOCK_NAME].digest if LOCK_NAME in files else "no lock"
    if expected != found:
        what = f"sealed/{LOCK_NAME}: expected {statement.algorithm}"
        raise DigestMismatch(f"{what} {expected}, found {found}", "do not sign it")
    counts = {kind: [0, 0] for kind in (*_KINDS.values(), _OTHER)}
    for entry in files.values():
        count = counts[next((kind for below, kind in _KINDS.items() if entry.path.startswith(below)), _OTHER)]
        count[0] += 1
        count[1] += entry.size_bytes
    return Summary(
        bundle=statement.predicate.bundle,
        target=statement.predicate.target,
        kinds=tuple(Kind(kind=kind, files=n, size_bytes=size) for kind, (n, size) in counts.items()),
        models=_models(files, lock_data),
    )


def _models(files: dict[str, Entry], lock_data: bytes) -> tuple[ModelLine, ...]:
    locked = {f"data/models/{m.filename}": m for m in parse_lock(lock_data, Path("sealed") / LOCK_NAME).models}
    lines = []
    for path, entry in files.items():
        if path.startswith("data/models/"):
            model = locked.get(path)
            told = (
                (model.quantization, model.license, model.label)
                if model
                else ("unknown", "unknown, not in the lock", "unknown")
            )
            quantization, license_, label = map(plain, told)
            lines.append(
                ModelLine(
                    path=path, size_bytes=entry.size_bytes, quantization=quantization, license=license_, label=label
                )
            )
    return tuple(lines)


def signers_of(envelope: Envelope, root: Root, name: str) -> tuple[str, ...]:
    """Who has signed, as `person (role)`; keys of nobody by id.

    Raises:
        SignatureRejected: a known key's signature is false.
    """
    known = envelope.signers(root.keys_by_id(), name)
    persons = {p.name: p for p in map(root.person_of, known)}
    told = [f"{p.name} ({', '.join(sorted(p.roles))})" for _, p in sorted(persons.items())]
    return (*told, *(f"key {keyid[:16]} of nobody in this root" for keyid in sorted(set(envelope.signatures) - known)))


def compare(old: Statement, old_digest: str, signed_by: tuple[str, ...], new: Statement) -> Difference:
    """File by file; leaves and lists follow from the files and are left out."""
    before, after = _compared(old), _compared(new)
    changed = [e for path, e in after.items() if path in before and before[path] != e]
    return Difference(
        base=old.predicate.bundle.id,
        base_digest=old_digest,
        signed_by=signed_by,
        new=_group([e for path, e in after.items() if path not in before]),
        changed=_group(changed),
        gone=_group([e for path, e in before.items() if path not in after]),
    )


def _compared(statement: Statement) -> dict[str, Entry]:
    return {e.path: e for e in statement.predicate.files if e.path.startswith("data/") or e.path == LOCK_NAME}


def _group(entries: list[Entry]) -> Group:
    paths = tuple(entry.path for entry in entries[:SHOWN_PATHS])
    return Group(files=len(entries), size_bytes=sum(e.size_bytes for e in entries), paths=paths)


def lines(
    summary: Summary, statement_digest: str, signed_by: tuple[str, ...], difference: Difference | None
) -> list[str]:
    """The same for people, a line each."""
    bundle, target = summary.bundle, summary.target
    shown = [
        f"bundle:    {bundle.id} (channel {bundle.channel}, version {bundle.version}, security epoch"
        f" {bundle.security_epoch})",
        f"target:    {target.distribution} {target.release} {target.architecture}, kernel {target.kernel}, Python"
        f" {target.python}, driver {target.driver or 'none'}",
        f"needs:     airgap {bundle.lowest_verifier} or newer, revocations {bundle.lowest_revocation} or newer",
        f"lock:      sha256 {bundle.lock_sha256}",
        f"statement: {bundle.digest} {statement_digest}",
    ]
    shown += [f"contents:  {k.files:6} {k.kind}, {_size(k.size_bytes)}" for k in summary.kinds if k.files]
    for m in summary.models:
        told = f"{_size(m.size_bytes)}, {m.quantization}, licence {m.license}, label {m.label}"
        shown.append(f"model:     {m.path.removeprefix('data/models/')}: {told}")
    shown.append(f"signed by: {', '.join(signed_by) or 'nobody yet'}")
    if difference is not None:
        shown += _difference_lines(difference)
    return [plain(line) for line in shown]


def _difference_lines(difference: Difference) -> list[str]:
    signed = ", ".join(difference.signed_by) or "nobody"
    shown = [f"base:      {difference.base}, Statement {difference.base_digest[:16]}, signed by {signed}"]
    for word in ("new", "changed", "gone"):
        group: Group = getattr(difference, word)
        shown.append(f"{word + ':':10} {group.files:6} files, {_size(group.size_bytes)}")
        shown += [f"             {path}" for path in group.paths]
        if group.files > len(group.paths):
            shown.append(f"             and {group.files - len(group.paths)} more")
    return shown


def plain(text: str) -> str:
    """Printable ASCII; what is not becomes a question mark."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:600]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes} bytes"
