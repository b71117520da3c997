"""A trust folder: the roots and revocations that signers keep, and that travel with every bundle.

Whoever writes here believes the folder: it begins with root 1, and each later root is judged by the one before.
Sites believe none of it but for a fingerprint that came another way.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from bundler.bundle.read import unsigned_statement
from custody.atomic import write_whole
from custody.errors import InputInvalid, TargetRefused, TrustRejected
from custody.lock import alone
from custody.trust import revocations as lists
from custody.trust import root as roots
from custody.trust.chain import Carried, Trust, believe
from custody.trust.envelope import Envelope
from custody.trust.keys import Signer
from custody.trust.profile import PROFILES
from custody.trust.revocations import Revocations
from custody.trust.root import LIMIT_BYTES, Person, Root

_ROOT = re.compile(r"([1-9][0-9]{0,3})\.root\.json")
_REVOCATIONS = "revocations.json"


class TrustFolder:
    """A folder with `N.root.json`, `revocations.json` and their flat twins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def carried(self) -> Carried:
        """All envelopes, unverified."""
        found = {
            int(match[1]): _read(path)
            for path in (self._folder.iterdir() if self._folder.is_dir() else ())
            if (match := _ROOT.fullmatch(path.name))
        }
        if not found:
            path = self._folder / "1.root.json"
            raise InputInvalid(f"{path}: No such file or directory", "make a root with: airgap trust init FOLDER")
        path = self._folder / _REVOCATIONS
        return Carried(found, _read(path) if path.exists() else None)

    def trust(self) -> Trust:
        """The newest root and list.

        Raises:
            SignatureRejected: one of them still lacks signatures.
        """
        carried = self.carried()
        path = self._folder / "1.root.json"
        first = Root.parse(_envelope(carried.roots.get(1, b""), path).payload, str(path))
        return believe(carried, first.fingerprint)

    def files(self) -> dict[str, bytes]:
        """What travels in `carrier/trust/`, by name."""
        carried = self.carried()
        found = {f"{version}.root.json": data for version, data in carried.roots.items()}
        for version, data in carried.roots.items():
            name = f"{version}.root.json"
            found[f"{version}.root.flat"] = Root.parse(Envelope.parse(data, name).payload, name).flat()
        if carried.revocations is not None:
            found[_REVOCATIONS] = carried.revocations
            found["revocations.flat"] = self.revocations()[0].flat()
        return found

    def newest_root(self) -> tuple[Root, Envelope]:
        """The root with the highest version, perhaps not signed yet."""
        carried = self.carried()
        path = self._folder / f"{max(carried.roots)}.root.json"
        envelope = _envelope(carried.roots[max(carried.roots)], path)
        return Root.parse(envelope.payload, str(path)), envelope

    def revocations(self) -> tuple[Revocations, Envelope | None]:
        """The list, perhaps not signed yet."""
        data = self.carried().revocations
        if data is None:
            return Revocations(), None
        envelope = _envelope(data, self._folder / _REVOCATIONS)
        return Revocations.parse(envelope.payload, str(self._folder / _REVOCATIONS)), envelope

    def add_root(self, root: Root) -> Path:
        """Write a root, unsigned.

        Raises:
            TargetRefused: there is one of that version.
            SignatureRejected: the root before is not signed yet.
        """
        path = self._folder / f"{root.version}.root.json"
        self._folder.mkdir(parents=True, exist_ok=True)
        with alone(self._folder, "another signer"):
            if path.exists():
                raise TargetRefused(f"{path}: exists already", "a root is rotated, never overwritten")
            if root.version > 1:
                self.trust()
            write_whole(path.with_suffix(".flat"), root.flat())
            write_whole(path, Envelope(roots.PAYLOAD_TYPE, root.payload(), {}).dump())
        return path

    def rotate(
        self, add: tuple[Person, ...], remove: tuple[str, ...], thresholds: dict[str, int], profile: str | None = None
    ) -> Path:
        """Write root N+1, unsigned.

        Args:
            add: new persons, or new roles and keys of those that there are.
            remove: names.
            thresholds: those that change.
            profile: name of another one.
        """
        old, _ = self.newest_root()
        names = {person.name for person in old.persons}
        if unknown := set(remove) - names:
            raise InputInvalid(
                f"{min(unknown)}: not a person of root {old.version}", f"airgap trust show {self._folder}"
            )
        changed = {person.name for person in add} | set(remove)
        persons = tuple(person for person in old.persons if person.name not in changed) + add
        new = replace(
            old,
            version=old.version + 1,
            persons=persons,
            thresholds={**old.thresholds, **thresholds},
            profile=PROFILES[profile] if profile else old.profile,
        )
        return self.add_root(new)

    def revoke(self, keys: dict[str, str], statements: dict[str, str]) -> Path:
        """Write a list with more entries than the one before, unsigned.

        Args:
            keys, statements: reasons by key id and by digest of a Statement.
        """
        path = self._folder / _REVOCATIONS
        with alone(self._folder, "another signer"):
            trust = self.trust()
            old = trust.revocations
            unknown = set(keys) - set(trust.root.keys_by_id())
            if unknown:
                raise InputInvalid(
                    f"{min(unknown)}: no key of root {trust.root.version}", f"airgap trust show {self._folder}"
                )
            new = Revocations(old.number + 1, {**keys, **old.keys}, {**statements, **old.statements})
            if (new.keys, new.statements) == (old.keys, old.statements):
                raise InputInvalid("revoked already", f"airgap trust show {self._folder}")
            write_whole(path.with_suffix(".flat"), new.flat())
            write_whole(path, Envelope(lists.PAYLOAD_TYPE, new.payload(), {}).dump())
        return path

    def sign(self, key: Signer) -> tuple[str, list[str]]:
        """Sign the newest root and the list, each if the key has a say in it and has not signed yet.

        Returns:
            The person's name, and the names of the files that were signed.

        Raises:
            TrustRejected: the key belongs to nobody of role root.
        """
        keyid = key.public.keyid
        with alone(self._folder, "another signer"):
            carried = self.carried()
            root, envelope = self.newest_root()
            judges = [root]
            if root.version > 1:
                name = f"{root.version - 1}.root.json"
                before = _envelope(carried.roots.get(root.version - 1, b""), self._folder / name)
                judges.append(Root.parse(before.payload, name))
            holders = [r.person_of(keyid) for r in judges if keyid in r.keys_by_id()]
            person = next((p for p in holders if "root" in p.roles), None)
            if person is None:
                raise TrustRejected(
                    f"key {keyid[:16]}: belongs to nobody of role root", f"see airgap trust show {self._folder}"
                )
            signed = []
            if keyid not in envelope.signatures:
                signed.append(f"{root.version}.root.json")
                write_whole(self._folder / signed[-1], envelope.signed_by(key).dump())
            listed, list_envelope = self.revocations()
            may = keyid in root.keys_by_id() and keyid not in listed.keys
            if list_envelope is not None and may and keyid not in list_envelope.signatures:
                signed.append(_REVOCATIONS)
                write_whole(self._folder / _REVOCATIONS, list_envelope.signed_by(key).dump())
        return person.name, signed


def statement_digest(bundle: Path) -> str:
    """Digest of a bundle's Statement, for revoking it."""
    return unsigned_statement(bundle)[0].digest


def _read(path: Path, limit_bytes: int = LIMIT_BYTES) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise InputInvalid(f"{path}: {error.strerror}", "make a root with: airgap trust init FOLDER") from error
    if len(data) > limit_bytes:
        raise InputInvalid(f"{path}: more than {limit_bytes} bytes", "name the trust folder")
    return data


def _envelope(data: bytes, path: Path) -> Envelope:
    if not data:
        raise InputInvalid(f"{path}: missing; roots follow each other one by one", "copy the whole trust folder")
    return Envelope.parse(data, str(path))
