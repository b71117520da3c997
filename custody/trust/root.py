"""The root of trust: which persons there are, their keys, and how many of them must agree on what.

A root is canonical JSON in a DSSE envelope, signed by the persons of role `root`. Persons are counted, never
keys: a key under two persons voids the root, and nobody is both builder and approver. Under a profile with two schemes
a person counts only with both. The root's *fingerprint* is the digest of the payload, which a site learns on paper.

Each root has a *flat twin*, a line-by-line text with the same content for shells; the payload holds the twin's
SHA-384, so the fingerprint covers both. Rotation and revocation come with TUF's update rules (root N+1 signed by
the thresholds of N and of N+1).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from custody.errors import SignatureRejected, TrustRejected
from custody.trust import canonical
from custody.trust.keys import PublicKey
from custody.trust.profile import PROFILES, Profile, hexdigest

PAYLOAD_TYPE = "application/vnd.airgap.root+json"
ROLES = ("root", "builder", "approver", "recovery")
#: A hundred persons with three keys of P-384 each stay below this, or fifty with one of each scheme.
LIMIT_BYTES = 1 << 20
#: A person, and the key files named after one.
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
#: How a person of each role signs: roots and lists of revocations, bundles, downgrade orders.
_COMMANDS = {
    "root": "airgap trust sign FOLDER --key KEY",
    "builder": "airgap sign BUNDLE --key KEY --trust FOLDER",
    "approver": "airgap sign BUNDLE --key KEY --trust FOLDER",
    "recovery": "airgap trust order FOLDER BUNDLE --from-version N --reason TEXT --out ORDER --key KEY",
}


@dataclass(frozen=True)
class Person:
    """Somebody who signs."""

    name: str
    roles: tuple[str, ...]
    keys: tuple[PublicKey, ...]


@dataclass(frozen=True)
class Root:
    """A root's content, checked for sense; whether it may be believed is `custody.trust.chain`'s answer."""

    version: int
    persons: tuple[Person, ...]
    thresholds: dict[str, int]
    profile: Profile = PROFILES["p384"]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        if not 1 <= self.version <= canonical.LARGEST:
            raise TrustRejected(f"root: version {self.version}, expected 1 or more")
        names = [person.name for person in self.persons]
        if len(set(names)) != len(names):
            raise TrustRejected("root: two persons have one name")
        for person in self.persons:
            if not NAME.fullmatch(person.name):
                raise TrustRejected(f"root: person {person.name!r}: expected lower-case letters, digits and hyphens")
            if not person.roles or set(person.roles) - set(ROLES) or len(set(person.roles)) != len(person.roles):
                raise TrustRejected(f"root: person {person.name}: roles are some of {', '.join(ROLES)}, each once")
            if {"builder", "approver"} <= set(person.roles):
                raise TrustRejected(f"root: person {person.name} is builder and approver; nobody may be both")
            for key in person.keys:
                if key.keyid in seen:
                    raise TrustRejected(f"root: key {key.keyid[:16]} is under {seen[key.keyid]} and {person.name}")
                seen[key.keyid] = person.name
            if odd := {key.scheme for key in person.keys} - self.profile.schemes:
                raise TrustRejected(
                    f"root: person {person.name}: profile {self.profile.name} knows no {min(odd)}",
                    f"give keys of {' and '.join(sorted(self.profile.schemes))}",
                )
        schemes = sorted(self.profile.schemes)
        held = "hold that role" + (f" with keys of {' and '.join(schemes)}" if schemes[1:] else "")
        for role in ("root", "builder", "approver"):
            count = sum(role in person.roles and self._complete(person.keys) for person in self.persons)
            wanted = self.thresholds.get(role, 0)
            if not 1 <= wanted <= count:
                raise TrustRejected(f"root: threshold for {role} is {wanted}, and {count} persons {held}")
        holders = sum("recovery" in person.roles and self._complete(person.keys) for person in self.persons)
        if "recovery" in self.thresholds and not 1 <= self.thresholds["recovery"] <= holders:
            raise TrustRejected(
                f"root: threshold for recovery is {self.thresholds['recovery']}, and {holders} persons {held}"
            )
        if set(self.thresholds) - set(ROLES):
            raise TrustRejected("root: a threshold for an unknown role")

    @property
    def fingerprint(self) -> str:
        """What is pinned and printed: digest of the payload's bytes, lower-case hex."""
        return hexdigest(self.profile.algorithm, self.payload())

    def keys_by_id(self) -> dict[str, PublicKey]:
        """All keys by id."""
        return {key.keyid: key for person in self.persons for key in person.keys}

    def person_of(self, keyid: str) -> Person:
        """Who holds a key of this root."""
        return next(p for p in self.persons if any(key.keyid == keyid for key in p.keys))

    def persons_with(self, role: str, keyids: frozenset[str]) -> tuple[str, ...]:
        """Names of the distinct persons of a role who hold these keys, one of each scheme at least; sorted."""
        return tuple(
            sorted(
                person.name
                for person in self.persons
                if role in person.roles and self._complete(key for key in person.keys if key.keyid in keyids)
            )
        )

    def _halves(self, role: str, keyids: frozenset[str]) -> list[tuple[str, str]]:
        """Persons who signed with one scheme and not with another, and which."""
        found = []
        for person in self.persons:
            used = {key.scheme for key in person.keys if key.keyid in keyids}
            if role in person.roles and used:
                found += [(person.name, scheme) for scheme in sorted(self.profile.schemes - used)]
        return found

    def _complete(self, keys: Iterable[PublicKey]) -> bool:
        return {key.scheme for key in keys} == self.profile.schemes

    def require(self, role: str, keyids: frozenset[str], what: str) -> tuple[str, ...]:
        """The persons of `role` who signed, if they are enough.

        Raises:
            SignatureRejected: fewer persons than the role's threshold.
        """
        persons = self.persons_with(role, keyids)
        wanted = self.thresholds[role]
        if len(persons) < wanted:
            halves = "".join(f"; {person} signed without {scheme}" for person, scheme in self._halves(role, keyids))
            raise SignatureRejected(
                f"{what}: expected signatures of {wanted} {role}(s), found {len(persons)}"
                f" ({', '.join(persons) or 'nobody'}{halves})",
                f"sign it with: {_COMMANDS[role]}",
            )
        return persons

    def flat(self) -> bytes:
        """The flat twin: one fact a line, fields parted by one blank, sorted by person."""
        lines = ["airgap-root 1", f"version {self.version}", f"profile {self.profile.name}"]
        lines += [f"threshold {role} {count}" for role, count in sorted(self.thresholds.items())]
        for person in sorted(self.persons, key=lambda p: p.name):
            lines += [f"role {person.name} {role}" for role in sorted(person.roles)]
            for key in sorted(person.keys, key=lambda k: k.keyid):
                lines.append(f"key {person.name} {key.keyid} {base64.b64encode(key.der).decode()}")
        return ("\n".join(lines) + "\n").encode()

    def payload(self) -> bytes:
        """Canonical JSON."""
        return canonical.dump(
            {
                "_type": "airgap-root",
                "schema_version": 1,
                "version": self.version,
                "profile": self.profile.name,
                "flat_sha384": hexdigest("sha384", self.flat()),
                "thresholds": self.thresholds,
                "persons": [
                    {
                        "name": person.name,
                        "roles": sorted(person.roles),
                        "keys": [
                            {"keyid": k.keyid, "scheme": k.scheme, "public": base64.b64encode(k.der).decode()}
                            for k in sorted(person.keys, key=lambda k: k.keyid)
                        ],
                    }
                    for person in sorted(self.persons, key=lambda p: p.name)
                ],
            }
        )

    @staticmethod
    def parse(payload: bytes, name: str) -> Root:
        """Read a root's payload.

        Raises:
            BundleMalformed: not canonical JSON.
            TrustRejected: a field is missing, unknown, or makes no sense.
        """
        content = canonical.parse(payload, name, LIMIT_BYTES)
        try:
            persons = tuple(
                Person(
                    p["name"],
                    tuple(p["roles"]),
                    tuple(PublicKey(base64.b64decode(k["public"])) for k in p["keys"]),
                )
                for p in content["persons"]
            )
            root = Root(
                _integer(content["version"]),
                persons,
                {r: _integer(n) for r, n in content["thresholds"].items()},
                PROFILES[content["profile"]],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TrustRejected(f"{name}: not a root: {error!r}") from error
        if root.payload() != payload:
            raise TrustRejected(f"{name}: unknown fields, or fields that contradict each other")
        return root


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected an integer, found {value!r}")
    return value
