"""Seal staging into a bundle: leaves, facts, SBOM, list, Statement; then one rename.

Until the rename there is no bundle, only staging. Nothing here depends on the clock, the user or the folder:
the same payload and lock give the same bytes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import custody
from bundler.bundle.leaves import Hashed, hash_bytes, hash_files
from bundler.manifest.lock import Lock, dump_lock
from custody.errors import BundleMalformed, DigestMismatch
from custody.report import Reporter
from custody.trust import statement as statements
from custody.trust.profile import ALGORITHMS, hexdigest
from custody.trust.statement import Entry, Identity, Predicate, StatementTarget
from custody.trust.verify import leaf_path

#: Where a bundle carries its lock, below `sealed/`.
LOCK_NAME = "lock.json"
#: Where a bundle carries its SBOM, below `sealed/`.
SBOM_NAME = f"{statements.SBOM_FOLDER}bundle.cdx.json"
_LISTS = tuple(map(statements.sums_name, ALGORITHMS.values()))


def seal(
    staging: Path, lock: Lock, lock_sha256: str, expected: dict[str, str], destination: Path, reporter: Reporter
) -> str:
    """Turn staging into a bundle.

    Args:
        staging: holds `sealed/data/` and the provenance of what was built in `sealed/sbom/`; consumed.
        expected: sha256 by path of what the lock names; the bytes are compared as they are sealed.
        destination: the bundle's folder; must not exist; on the same file system.

    Returns:
        Digest of the Statement's bytes, with the bundle's algorithm.

    Raises:
        DigestMismatch: a locked file is missing or differs.
        BundleMalformed: staging holds something that a bundle may not (a link, a forbidden name).
    """
    from bundler.bundle.sbom import make_sbom  # builders alone have its libraries

    sealed, algorithm = staging / "sealed", lock.bundle.digest
    _put(sealed / LOCK_NAME, dump_lock(lock))
    payload = _payload(sealed)
    statements.check_paths(payload)
    total = sum((sealed / path).stat().st_size for path in payload)
    with reporter.meter("seal", total) as meter:
        hashed = hash_files([sealed / path for path in payload], algorithm, meter)
    for path, sha256 in expected.items():
        digest = hashed[sealed / path].sha256 if sealed / path in hashed else "no such file"
        if digest != sha256:
            raise DigestMismatch(
                f"{path}: expected sha256 {sha256}, found {digest}", "run the build again; see `dmesg` for disk errors"
            )
    entries = []
    for path in payload:
        found = hashed[sealed / path]
        entries.append(_entry(path, _mode(sealed / path), found))
        if path.startswith("data/") and found.leaves:
            entries.append(_write(sealed, leaf_path(path), b"".join(found.leaves), algorithm))
    identity = Identity(
        name=lock.bundle.name,
        channel=lock.bundle.channel,
        version=lock.bundle.version,
        security_epoch=lock.bundle.security_epoch,
        digest=algorithm,
        lock_sha256=lock_sha256,
        lowest_revocation=lock.bundle.lowest_revocation,
        lowest_verifier=custody.VERSION,
        source_date_epoch=lock.source_date_epoch,
    )
    target = StatementTarget(
        distribution=lock.target.distribution,
        release=lock.target.release,
        architecture=lock.target.architecture,
        python=lock.target.python,
        kernel=lock.target.kernel,
        driver=lock.target.driver,
    )
    entries.append(_write(sealed, statements.FACTS, statements.facts(identity, target), algorithm))
    by_path = {path: hashed[sealed / path] for path in payload}
    entries.append(_write(sealed, SBOM_NAME, make_sbom(lock, lock_sha256, sealed, by_path), algorithm))
    entries.sort(key=lambda entry: entry.path)
    listing = statements.sums(entries)
    _put(sealed / statements.sums_name(algorithm), listing)
    predicate = Predicate(bundle=identity, target=target, sbom=statements.documents(entries), files=tuple(entries))
    statement = statements.make(predicate, hexdigest(algorithm, listing))
    (staging / "carrier").mkdir(exist_ok=True)
    _put(staging / "carrier" / "statement.json", statement.dump())
    _settle(staging)
    staging.rename(destination)
    return statement.digest


def _payload(sealed: Path) -> list[str]:
    paths = []
    for path in sorted(sealed.rglob("*")):
        name = path.relative_to(sealed).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BundleMalformed(f"{name}: neither a file nor a folder", "only regular files go into a bundle")
        # What an interrupted seal left is made again.
        if name in (statements.FACTS, SBOM_NAME, *_LISTS) or name.startswith("leaves/"):
            continue
        if path.is_file():
            paths.append(name)
    return sorted(paths)


def _entry(path: str, mode: str, hashed: Hashed) -> Entry:
    return Entry.model_validate(
        {
            "path": path,
            "mode": mode,
            "size_bytes": hashed.size_bytes,
            "sha256": hashed.sha256,
            "sha384": hashed.sha384,
            "leaf_root": hashed.leaf_root,
        }
    )


def _write(sealed: Path, path: str, data: bytes, algorithm: str) -> Entry:
    _put(sealed / path, data)
    return _entry(path, "0644", hash_bytes(data, algorithm))


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _mode(path: Path) -> str:
    return "0755" if path.stat().st_mode & stat.S_IXUSR else "0644"


def _settle(staging: Path) -> None:
    """Give every file and folder its final mode, drop empty folders, and make all of it durable."""
    for folder, _, files in os.walk(staging, topdown=False):
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()  # verification refuses it: nobody signed that it is there
            continue
        for name in files:
            path = Path(folder) / name
            path.chmod(int(_mode(path), 8))
        Path(folder).chmod(0o755)
    os.sync()
