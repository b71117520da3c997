"""Small, real bundles for tests: sealed, signed by two persons, made by the project's own code in a moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.bundle.sign import sign_bundle
from bundler.bundle.trustfolder import TrustFolder
from bundler.bundle.write import seal
from bundler.manifest.lock import Lock, LockedDeb, dump_lock
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey, PublicKey
from custody.trust.profile import PROFILES
from custody.trust.root import Person, Root

#: Three leaves and a bit, so that a leaf file with several leaves is there.
MODEL = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(3 << 15)) + b"tail"
PAYLOAD = {
    "data/models/words.gguf": MODEL,
    "data/files/readme.txt": b"hello\n",
    "data/files/empty": b"",
    "data/ansible/playbooks/install.yml": b"---\n",
}


@dataclass(frozen=True)
class Made:
    """A signed bundle and what its makers hold.

    Attributes:
        builder, approver: of P-384; `..._more` those of other schemes.
    """

    folder: Path
    trust: Path
    fingerprint: str
    builder: PrivateKey
    approver: PrivateKey
    builder_more: tuple[PrivateKey, ...] = ()
    approver_more: tuple[PrivateKey, ...] = ()


def lock(version: int = 1, debs: tuple[LockedDeb, ...] = (), **header: Any) -> Lock:
    """A lock without items, or with packages alone, for bundles whose payload a test writes itself."""
    zeros = "0" * 64
    return Lock.model_validate(
        {
            "schema_version": 1,
            "manifest_sha256": zeros,
            "bundle": {"name": "small", "channel": "test", "version": version, **header},
            "target": {
                "distribution": "debian",
                "release": "trixie",
                "architecture": "amd64",
                "python": "3.13",
                "glibc": "2.41",
                "kernel": "6.12",
                "driver": None,
                "dpkg_status_sha256": zeros,
            },
            "source_date_epoch": 1760000000,
            "tree_sha256": zeros,
            **dict.fromkeys(("indexes", "wheels", "sources", "models", "files"), ()),
            "debs": debs,
        }
    )


#: Path → contents, or a file that is moved there.
Payload = Mapping[str, bytes | Path]


def stage(folder: Path, payload: Payload) -> Path:
    """Write a payload to a staging folder."""
    for path, data in payload.items():
        target = folder / "sealed" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            data.rename(target)
        else:
            target.write_bytes(data)
    return folder


def sealed(
    folder: Path,
    version: int = 1,
    payload: Payload | None = None,
    debs: tuple[LockedDeb, ...] = (),
    **header: Any,
) -> Path:
    """An unsigned bundle in `folder`; `header` is for the lock's `bundle`."""
    staging = stage(folder.with_name(folder.name + ".staging"), payload or PAYLOAD)
    made = lock(version, debs, **header)
    contents = {path: data for path, data in (payload or PAYLOAD).items() if isinstance(data, bytes)}
    expected = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    seal(staging, made, hashlib.sha256(dump_lock(made)).hexdigest(), expected, folder, SilentReporter())
    return folder


def make_trust(folder: Path, root: Root, signers: list[PrivateKey]) -> str:
    """Write and sign a root; returns its fingerprint."""
    TrustFolder(folder).add_root(root)
    for key in signers:
        TrustFolder(folder).sign(key)
    return root.fingerprint


def keys(profile: str) -> tuple[PrivateKey, ...]:
    """New keys of one person, one of each scheme, P-384 first."""
    return tuple(map(PrivateKey.generate, sorted(PROFILES[profile].schemes)))


def publics(profile: str) -> tuple[PublicKey, ...]:
    """The other halves of such keys."""
    return tuple(key.public for key in keys(profile))


def make(folder: Path, payload: Payload | None = None, debs: tuple[LockedDeb, ...] = (), profile: str = "p384") -> Made:
    """A bundle signed by alice (builder) and bob (approver)."""
    alice, bob = keys(profile), keys(profile)
    persons = (
        Person("alice", ("root", "builder"), tuple(key.public for key in alice)),
        Person("bob", ("root", "approver"), tuple(key.public for key in bob)),
    )
    root = Root(1, persons, {"root": 2, "builder": 1, "approver": 1}, PROFILES[profile])
    trust = folder / "trust"
    pinned = make_trust(trust, root, [*alice, *bob])
    bundle = sealed(folder / "bundle", payload=payload, debs=debs, digest=PROFILES[profile].algorithm)
    for key in (*alice, *bob):
        sign_bundle(bundle, key, trust, SilentReporter())
    return Made(bundle, trust, pinned, alice[0], bob[0], alice[1:], bob[1:])
