"""What the custody ledger tells: the life of bundles, media and hosts, one canonical JSON object an event."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custody.errors import InputInvalid
from custody.ledger.moment import Moment, now
from custody.trust import canonical

SCHEMA = "airgap.event/1"
#: Every kind of event, and what its digest is of.
KINDS = {
    "begun": "the log's first entry; the checkpoint of the log before, if there was one",
    "locked": "the lock file",
    "built": "the Statement",
    "signed": "the Statement",
    "burned": "the Statement; details name the medium's serial; it was read back",
    "received": "the Statement; details name the medium's serial, or the folder that stood for it",
    "verified": "the Statement",
    "installed": "the Statement",
    "rolled back": "nothing; the subject is the release that serves again",
    "site changed": "the site file",
    "policy changed": "the policy folder; details name the version before",
    "people changed": "the people's database after it; the subject is the user",
    "clock set": "nothing; details say by how much, and the time of the event before",
    "unlocked": "nothing; the subject is the drive's serial",
    "decommissioned": "the certificate",
    "timestamped": "the RFC 3161 token; details have the log's size that it covers",
    "recovered": "what a crash left of a group that was never acknowledged",
}
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96})?")
#: The login that this process descends from, whatever `su` and `sudo` did since; all ones without one.
_LOGIN = Path("/proc/self/loginuid")
_NO_LOGIN = 0xFFFF_FFFF


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: one of `KINDS`.
        subject: to what: a bundle's id, a drive's or medium's serial, a file.
        digest: `sha256:HEX` or `sha384:HEX` of the bytes that matter; empty if there are none.
        details: more, by name; never a secret.
    """

    kind: str
    subject: str
    digest: str = ""
    details: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not _DIGEST.fullmatch(self.digest):
            raise InputInvalid(
                f"event {self.kind!r} with digest {self.digest!r}: expected a known kind, sha256:HEX", ""
            )

    def dump(self, moment: Moment | None = None) -> bytes:
        """The entry: canonical JSON, with when, who and where."""
        at = moment or now()
        content = {
            "schema": SCHEMA, "event": self.kind, "subject": self.subject, "digest": self.digest,
            "details": dict(self.details), "who": who(), "host": os.uname().nodename,
            "time": at.time, "boot_id": at.boot_id, "monotonic_ms": at.monotonic_ms,
        }  # fmt: skip
        return canonical.dump(content)


def parse(entry: bytes) -> dict[str, Any]:
    """An entry as JSON.

    Raises:
        InputInvalid: not an event of this schema.
    """
    try:
        content = json.loads(entry)
        if content["schema"] != SCHEMA or content["event"] not in KINDS:
            raise ValueError("an unknown schema or event")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputInvalid(f"entry: expected {SCHEMA}, found: {error}", "a newer airgap reads it") from error
    found: dict[str, Any] = content
    return found


def who() -> str:
    """Whose login this process descends from, or the user that it runs as."""
    try:
        login = int(_LOGIN.read_text())
    except (OSError, ValueError):
        login = _NO_LOGIN
    uid = os.getuid() if login == _NO_LOGIN else login
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
