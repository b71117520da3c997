"""Partition 1: `start` and the few packages that opening partition 2 may need on a bare host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from bundler.bundle.read import read_lock
from bundler.media import kit
from custody.trust import statement as statements
from custody.trust.profile import hexdigest
from custody.trust.statement import Entry
from custody.trust.verify import VerifiedBundle


@dataclass(frozen=True)
class StartPartition:
    """What partition 1 holds.

    Attributes:
        script: the bytes of `start`.
        sums: `bootstrap/SHA256SUMS`, or `SHA384SUMS`.
        debs: by file name in `bootstrap/`.
        kit: the auditor's, by file name in `audit/`.
    """

    script: bytes
    sums: bytes
    debs: dict[str, Entry]
    kit: dict[str, bytes]
    algorithm: str

    @property
    def size_bytes(self) -> int:
        """Size of the partition: contents, and room for the file system."""
        content = sum(entry.size_bytes for entry in self.debs.values())
        return content + content // 20 + (16 << 20)

    @property
    def sums_name(self) -> str:
        """Of the list in `bootstrap/`."""
        return statements.sums_name(self.algorithm)

    @property
    def script_digest(self) -> str:
        """What the paper says of `start`."""
        return hexdigest(self.algorithm, self.script)


def start_partition(bundle: VerifiedBundle) -> StartPartition:
    """Compose partition 1 from a verified bundle; the same bundle gives the same bytes."""
    debs = {}
    for deb in read_lock(bundle).debs:
        if "bootstrap" in deb.uses:
            debs[PurePosixPath(deb.path).name] = bundle.entry(f"data/apt/{deb.archive}/{deb.path}")
    sums = "".join(f"{entry.digest}  {name}\n" for name, entry in sorted(debs.items())).encode()
    algorithm = bundle.statement.algorithm
    script = kit.script("start.sh").replace("@BOOTSTRAP_DIGEST@", hexdigest(algorithm, sums))
    script = script.replace("@BUNDLE@", bundle.statement.predicate.bundle.id)
    return StartPartition(script.encode(), sums, debs, kit.kit(), algorithm)
