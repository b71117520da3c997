"""Build: fetch everything that a lock names, make what is made here, seal.

A failed item means no bundle: every failure is named, staging stays for the next try, and what was fetched lies
in the cache. Two builds of one bundle at a time are refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle.read import FolderSource, unsigned_statement
from bundler.bundle.write import seal
from bundler.collect.ansible import AnsibleCollector
from bundler.collect.cache import Cache
from bundler.collect.deb import DebCollector
from bundler.collect.file import FileCollector
from bundler.collect.interface import Collector, Item, Workplace
from bundler.collect.model import ModelCollector
from bundler.collect.wheel import WheelCollector, to_compile
from bundler.manifest.lock import Lock, dump_lock
from custody.errors import AirgapError, BundleMalformed, DigestMismatch, FetchFailed, SpaceShort, TargetRefused
from custody.lock import alone
from custody.report import Reporter
from custody.trust.verify import verify_unsigned

#: Fetches at a time: enough to hide latency, few enough for any mirror's manners.
_THREADS = 6
#: Room for compiler output and a small build tree beside the payload itself.
TREE_BYTES = 3 << 30
#: What a package of the build tree takes unpacked, its own copy included, as a share of its size.
_UNPACKED_SHARE = 4

COLLECTORS: tuple[Collector, ...] = (
    DebCollector(),
    WheelCollector(),
    ModelCollector(),
    FileCollector(),
    AnsibleCollector(),
)


@dataclass(frozen=True)
class Plan:
    """What a build would do.

    Attributes:
        is_built: the bundle is there and whole; nothing would be done.
        items, carried_bytes: what the bundle would hold of the lock's items.
        missing_bytes: what would be fetched; the rest lies in the cache.
        to_compile: sources that would be compiled.
    """

    is_built: bool
    items: int
    carried_bytes: int
    missing_bytes: int
    to_compile: list[str]


def plan(lock: Lock, destination: Path, cache: Cache, project: Path, reporter: Reporter) -> Plan:
    """Look at what `build` would do with the same arguments, and change nothing; errors as `build`."""
    is_built = destination.exists()
    if is_built:
        _built(destination, hashlib.sha256(dump_lock(lock)).hexdigest(), reporter)
    items = _items(lock, Workplace(cache, _staging(destination), cache.scratch, project, reporter))
    if not is_built:
        _check_space(items, cache, destination.parent)
    carried = [item.size_bytes for item in items if item.destination]
    missing = sum(cache.missing_bytes(item.sha256, item.size_bytes) for item in items)
    return Plan(is_built, len(carried), sum(carried), missing, to_compile(lock, cache))


def build(lock: Lock, destination: Path, cache: Cache, project: Path, reporter: Reporter) -> str:
    """Make the bundle of a lock; one that is there already, whole and of the same lock, is done.

    Args:
        destination: the bundle's folder.
        project: root of this project's source.

    Returns:
        SHA-256 of the Statement's bytes.

    Raises:
        TargetRefused: the destination exists and is another lock's, or nothing of ours.
        IntegrityFailure: it is this lock's bundle, and damaged.
        AlreadyRunning: another build of this destination is under way.
        SpaceShort: the file system is too small.
        FetchFailed: items failed; each is named.
    """
    lock_sha256 = hashlib.sha256(dump_lock(lock)).hexdigest()
    staging = _staging(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with alone(staging.with_name(f"{staging.name}.lock"), "another build of this bundle"):
        if destination.exists():
            return _built(destination, lock_sha256, reporter)
        workplace = Workplace(cache, _fresh(staging, lock_sha256), cache.scratch, project, reporter)
        items = _items(lock, workplace)
        _check_space(items, cache, destination.parent)
        reporter.step(f"fetch: {len(items)} items")
        fetch(items, cache, reporter)
        for item in items:
            if item.destination:
                _place(cache.path(item.sha256), staging / "sealed" / item.destination)
        for collector in COLLECTORS:
            collector.assemble(lock, workplace)
        reporter.step("seal")
        expected = {item.destination: item.sha256 for item in items if item.destination}
        (staging / "lock.sha256").unlink()
        return seal(staging, lock, lock_sha256, expected, destination, reporter)


def check(lock: Lock, bundle: Path, cache: Cache, project: Path, reporter: Reporter) -> str:
    """Build a bundle's lock again beside it and compare: what an approver does who takes nobody's word for it.

    With a cache of its own on another machine, nothing that the first builder made has a part in the second.

    Returns:
        SHA-256 of the Statement's bytes, which both have.

    Raises:
        IntegrityFailure: the bundle is damaged, or of another lock.
        DigestMismatch: the second one differs; names every file, and stays for a look.
    """
    lock_sha256 = hashlib.sha256(dump_lock(lock)).hexdigest()
    statement, payload = unsigned_statement(bundle)
    if statement.predicate.bundle.lock_sha256 != lock_sha256:
        raise BundleMalformed(
            f"{bundle}: expected the bundle of lock {lock_sha256}, found {statement.predicate.bundle.lock_sha256}",
            "name the lock that it was built from; the bundle carries it as sealed/lock.json",
        )
    verify_unsigned(FolderSource(bundle), statement, reporter)
    again = bundle.with_name(f".{bundle.name}.again")
    shutil.rmtree(again, ignore_errors=True)
    build(lock, again, cache, project, reporter)
    second, second_payload = unsigned_statement(again)
    if second_payload != payload:
        first_files, second_files = (
            {entry.path: entry for entry in one.predicate.files} for one in (statement, second)
        )
        differing = sorted(
            path for path in first_files.keys() | second_files.keys() if first_files.get(path) != second_files.get(path)
        )
        raise DigestMismatch(
            f"{bundle}: built again, {len(differing)} files differ:\n"
            + "\n".join(differing or ["the Statement's header"]),
            f"compare with {again}; do not approve it",
        )
    shutil.rmtree(again)
    return statement.digest


def _staging(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.staging")


def _items(lock: Lock, workplace: Workplace) -> list[Item]:
    return [item for collector in COLLECTORS for item in collector.items(lock, workplace)]


def _built(destination: Path, lock_sha256: str, reporter: Reporter) -> str:
    """What an earlier run made, looked at as a signer would; returns the digest of its Statement."""
    try:
        statement, _ = unsigned_statement(destination)
        found = statement.predicate.bundle.lock_sha256
    except BundleMalformed:
        found = "something else"
    if found != lock_sha256:
        raise TargetRefused(
            f"{destination}: exists, expected the bundle of lock {lock_sha256}, found {found}",
            "name another folder, or remove this one first",
        )
    reporter.note(f"{destination} is there already; reading it")
    verify_unsigned(FolderSource(destination), statement, reporter)
    return statement.digest


def fetch(items: Sequence[Item], cache: Cache, reporter: Reporter) -> None:
    """Bring all items into the cache, several at a time.

    Raises:
        FetchFailed: some failed; the message lists each with its digests.
    """
    failures: list[str] = []
    with reporter.meter("fetch", sum(item.size_bytes for item in items)) as meter:

        def one(item: Item) -> None:
            before = item.size_bytes - cache.missing_bytes(item.sha256, item.size_bytes)
            meter.advance(before)
            try:
                cache.fetch(item.origin, item.sha256, item.size_bytes, item.name, meter.advance)
            except AirgapError as error:
                failures.append(error.message)

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(one, items))
    if failures:
        raise FetchFailed(
            f"{len(failures)} of {len(items)} items failed; no bundle was made\n" + "\n".join(sorted(failures)),
            "run the same command again: it goes on where it stopped; if upstream moved on, `airgap lock` again",
        )


def _fresh(staging: Path, lock_sha256: str) -> Path:
    """Staging for this lock: kept when it is from an earlier try, emptied when it is of another lock."""
    mark = staging / "lock.sha256"
    if staging.exists() and (not mark.exists() or mark.read_text() != lock_sha256):
        shutil.rmtree(staging)
    if not staging.exists():
        staging.mkdir(parents=True)
    mark.write_text(lock_sha256)
    # What is made here is made anew: half of it may be there.
    for name in ("data/wheels", "data/ansible", "sbom"):
        shutil.rmtree(staging / "sealed" / name, ignore_errors=True)
    return staging


def _check_space(items: Sequence[Item], cache: Cache, folder: Path) -> None:
    missing = sum(cache.missing_bytes(item.sha256, item.size_bytes) for item in items)
    needed = missing + TREE_BYTES + _UNPACKED_SHARE * sum(i.size_bytes for i in items if not i.destination)
    folder, scratch = _existing(folder), _existing(cache.scratch)
    if folder.stat().st_dev != scratch.stat().st_dev:
        needed = sum(item.size_bytes for item in items if item.destination)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceShort(
            f"{folder}: expected {needed / 1e9:.1f} GB free, found {free / 1e9:.1f} GB",
            "free some, or name a folder on another disk",
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _place(source: Path, target: Path) -> None:
    """A second name for a cached file where the file system allows it, else a copy; the seal reads it again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
