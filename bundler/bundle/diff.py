"""What differs between two bundles, or their locks: packages, wheels, models, files, licences, and what they are for.

Reads locks, and from a bundle also its SBOM, which knows the licences of packages and wheels. It verifies nothing but
that these two are the files that the bundle's Statement names; whoever signs or installs reads and verifies the bundle
itself.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bundler.bundle.read import FolderSource, unsigned_statement
from bundler.bundle.write import LOCK_NAME, SBOM_NAME
from bundler.manifest.lock import MAX_BYTES, Lock, load_lock, parse_lock
from bundler.manifest.parse import unseen
from custody.errors import BundleMalformed, DigestMismatch
from custody.trust.profile import hexdigest
from custody.trust.statement import Statement

#: In the order in which they are shown.
KINDS = ("bundle", "package", "wheel", "built here", "model", "file", "licence")
_PACKAGES = "data/apt/"
#: Facts of what is new or gone.
_OF_NEW = 3
Word = Literal["new", "changed", "gone"]


@dataclass(frozen=True)
class Thing:
    """One thing that is carried, or one fact of the bundle.

    Attributes:
        facts: what may change of it, in the order in which it is shown; the first names it best.
        size_bytes: None where it has none of its own.
    """

    kind: str
    name: str
    facts: Mapping[str, str]
    size_bytes: int | None = None


@dataclass(frozen=True)
class Known:
    """What the SBOM knows of a package or wheel beside the lock; `licences` is empty when it declares none."""

    licences: tuple[str, ...]
    size_bytes: int

    @property
    def licence(self) -> str:
        """All of them in one line."""
        return ", ".join(self.licences)


_UNKNOWN = Known((), 0)


@dataclass(frozen=True)
class Contents:
    """What a bundle or a lock holds.

    Attributes:
        packages: by path below `sealed/`; None for a lock, or a bundle whose SBOM says nothing of their licences.
        wheels: by `name==version`; None for a lock, or a bundle without SBOM.
    """

    lock: Lock
    packages: Mapping[str, Known] | None = None
    wheels: Mapping[str, Known] | None = None

    @property
    def id(self) -> str:
        """Name and version of the bundle."""
        return f"{self.lock.bundle.name}-{self.lock.bundle.version}"


@dataclass(frozen=True)
class Change:
    """What became of one thing: `old` is None when it is new, `new` when it is gone."""

    kind: str
    name: str
    old: Thing | None
    new: Thing | None

    @property
    def word(self) -> Word:
        """new, changed or gone."""
        if self.old is None:
            return "new"
        return "gone" if self.new is None else "changed"

    @property
    def facts(self) -> list[tuple[str, str, str]]:
        """Name, old and new value of every fact that differs, "" where there is none; of a new thing the first few."""
        old, new = (dict(thing.facts) if thing else {} for thing in (self.old, self.new))
        pairs = [(name, old.get(name, ""), new.get(name, "")) for name in dict.fromkeys((*new, *old))]
        differing = [pair for pair in pairs if pair[1] != pair[2]]
        return differing if self.word == "changed" else differing[:_OF_NEW]

    @property
    def bytes_more(self) -> int | None:
        """By how many bytes the bundle grows for it; None where sizes are not known."""
        sizes = [thing.size_bytes for thing in (self.new, self.old) if thing]
        if None in sizes:
            return None
        return ((self.new.size_bytes or 0) if self.new else 0) - ((self.old.size_bytes or 0) if self.old else 0)


@dataclass(frozen=True)
class Difference:
    """Between two contents; `sizes` has old and new bytes by kind, of what a lock knows the size of."""

    old: str
    new: str
    changes: tuple[Change, ...]
    sizes: Mapping[str, tuple[int, int]]

    def by_kind(self) -> dict[str, list[Change]]:
        """The changes of each kind that has some."""
        kinds: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            kinds[change.kind].append(change)
        return kinds

    def content(self) -> dict[str, Any]:
        """For JSON: `airgap.diff/1`."""
        return {
            "old": self.old,
            "new": self.new,
            "sizes": {kind: {"old_bytes": old, "new_bytes": new} for kind, (old, new) in self.sizes.items()},
            "changes": [
                {"kind": c.kind, "name": c.name, "change": c.word, "old": _content(c.old), "new": _content(c.new)}
                for c in self.changes
            ],
        }


def _content(thing: Thing | None) -> dict[str, Any] | None:
    return None if thing is None else {"facts": dict(thing.facts), "size_bytes": thing.size_bytes}


def read_contents(place: Path) -> Contents:
    """What a bundle's folder, or a lock file, holds.

    Raises:
        InputInvalid: a lock that is broken.
        IntegrityFailure: no bundle; or its lock or SBOM is not the one that its Statement names.
    """
    if not place.is_dir():
        return Contents(load_lock(place))
    statement, _ = unsigned_statement(place)
    lock = parse_lock(_read(place, statement, LOCK_NAME), place / "sealed" / LOCK_NAME)
    if SBOM_NAME not in {document.path for document in statement.predicate.sbom}:
        return Contents(lock)
    data = _read(place, statement, SBOM_NAME)
    try:
        known = dict(_known(json.loads(data)["components"]))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BundleMalformed(f"{place}/sealed/{SBOM_NAME}: not an SBOM of ours: {error!r}") from error
    packages = {key: known.pop(key) for key in list(known) if key.startswith(_PACKAGES)}
    return Contents(lock, packages if any(each.licences for each in packages.values()) else None, known)


def _read(place: Path, statement: Statement, path: str) -> bytes:
    """A file of a bundle, which must be the one that the Statement names."""
    with FolderSource(place).open(path) as stream:
        data = stream.read(MAX_BYTES + 1)
    expected = {entry.path: entry.digest for entry in statement.predicate.files}.get(path, "none")
    if (found := hexdigest(statement.algorithm, data)) != expected:
        raise DigestMismatch(
            f"{place}/sealed/{path}: expected {statement.algorithm} {expected}, found {found}",
            f"airgap verify {place}",
        )
    return data


def _known(components: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Known]]:
    for component in components:
        path = component["bom-ref"]
        if path.startswith((_PACKAGES, "data/wheels/")) and "version" in component:
            (size,) = (p["value"] for p in component["properties"] if p["name"] == "airgap:size_bytes")
            said = [
                each.get("expression") or each["license"].get("id") or each["license"]["name"]
                for each in component.get("licenses", ())
            ]
            if odd := unseen("".join((component["name"], component["version"], *said))):
                raise ValueError(f"expected visible text, found {odd}")
            key = path if path.startswith(_PACKAGES) else f"{component['name']}=={component['version']}"
            yield key, Known(tuple(sorted(said)), int(size))


def difference(old: Contents, new: Contents) -> Difference:
    """What is new, changed and gone from `old` to `new`; equal contents have no changes."""
    # What one side alone knows is no difference.
    if old.wheels is None or new.wheels is None:
        old, new = replace(old, wheels=None), replace(new, wheels=None)
    if old.packages is None or new.packages is None:
        old, new = replace(old, packages=None), replace(new, packages=None)
    before, after = _things(old), _things(new)
    groups: dict[tuple[int, str], tuple[list[Thing], list[Thing]]] = defaultdict(lambda: ([], []))
    for side, things in enumerate((before, after)):
        for thing in things:
            groups[KINDS.index(thing.kind), thing.name][side].append(thing)
    changes = tuple(change for key in sorted(groups) for change in _matched(*groups[key]))
    sizes = {kind: (_total(before, kind), _total(after, kind)) for kind in KINDS}
    return Difference(old.id, new.id, changes, {kind: pair for kind, pair in sizes.items() if any(pair)})


def _total(things: Iterable[Thing], kind: str) -> int:
    return sum(thing.size_bytes or 0 for thing in things if thing.kind == kind)


def _matched(old: list[Thing], new: list[Thing]) -> Iterator[Change]:
    """Changes among things of one name, of which there may be several versions side by side."""
    lost = [thing for thing in old if thing not in new]
    won = [thing for thing in new if thing not in old]
    if len(lost) == len(won) == 1:
        yield Change(lost[0].kind, lost[0].name, lost[0], won[0])
        return
    yield from (Change(thing.kind, thing.name, thing, None) for thing in lost)
    yield from (Change(thing.kind, thing.name, None, thing) for thing in won)


def _things(contents: Contents) -> list[Thing]:
    """Everything that is compared."""
    packages, wheels = contents.packages or {}, contents.wheels or {}
    licences = {name for known in (*packages.values(), *wheels.values()) for name in known.licences}
    licences |= {model.license for model in contents.lock.models}
    things = [*_bundle(contents.lock), *_carried(contents.lock, packages, wheels)]
    return [*things, *(Thing("licence", name, {}) for name in licences)]


def _bundle(lock: Lock) -> Iterator[Thing]:
    parts = {"": lock.bundle, "target ": lock.target, "gpu ": lock.gpu}
    for prefix, part in parts.items():
        for name, value in (part.model_dump(mode="json") if part else {}).items():
            if value is not None:
                yield Thing("bundle", f"{prefix}{name.replace('_', ' ')}", {"value": str(value)})


def _carried(lock: Lock, packages: Mapping[str, Known], known: Mapping[str, Known]) -> Iterator[Thing]:
    for deb in lock.debs:
        if uses := [use for use in deb.uses if use != "tree"]:
            native = deb.architecture in ("all", lock.target.architecture)
            name = deb.package if native else f"{deb.package}:{deb.architecture}"
            more = packages.get(f"{_PACKAGES}{deb.archive}/{deb.path}", _UNKNOWN)
            facts = {"version": deb.version, "licence": more.licence, "use": " ".join(sorted(uses))}
            facts["sha256"] = deb.sha256
            yield Thing("package", name, facts, deb.size_bytes)
    for wheel in lock.wheels:
        more = known.get(f"{wheel.name}=={wheel.version}", _UNKNOWN)
        facts = {"version": wheel.version, "licence": more.licence, "environments": " ".join(wheel.environments)}
        yield Thing("wheel", wheel.name, {**facts, "sha256": wheel.sha256}, wheel.size_bytes)
    for source in lock.sources:
        more = known.get(f"{source.name}=={source.version}", _UNKNOWN)
        facts = {"version": source.version, "licence": more.licence, "environments": " ".join(source.environments)}
        facts |= {f"flag {name}": value for name, value in sorted(source.flags.items())}
        facts["tools"] = " ".join(sorted(f"{tool.name}-{tool.version}" for tool in source.build_requires))
        facts |= {"source sha256": source.sha256, "tree sha256": lock.tree_sha256}
        yield Thing("built here", source.name, facts, more.size_bytes or None)
    for model in lock.models:
        facts = {
            "quantization": model.quantization, "licence": model.license, "sha256": model.sha256,
            "label": model.label, "architecture": model.architecture, "context tokens": str(model.context_tokens),
            "tokenizer": model.tokenizer, "chat template sha256": model.chat_template_sha256 or "",
        }  # fmt: skip
        yield Thing("model", model.name, facts, model.size_bytes)
    for file in lock.files:
        yield Thing("file", file.name, {"sha256": file.sha256}, file.size_bytes)
