"""Carry a bundle to a host leaf by leaf: what lies there is hashed there, and only what differs is sent.

A carried file is right when the far end's own `sha256sum` or `sha384sum` says so, chunk by chunk; nothing is believed
for having been sent. So a copy that was cut off goes on, and one that was changed is mended. Whether the bundle may be
installed is not decided here: the host verifies it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from paramiko import SFTPClient

from bundler.bundle.read import FolderSource
from bundler.install.remote.link import FAR_SCRIPT, Link
from custody.errors import BundleMalformed, DigestMismatch, InputInvalid, SpaceShort
from custody.report import Reporter
from custody.trust.leaves import LEAF_BYTES
from custody.trust.profile import algorithm_of, hexdigest
from custody.trust.verify import Source, read_trust, verify_statement

#: A file that still differs after so many rounds has a disk or a memory below it that does not keep it.
_ROUNDS = 3
_SAY_S = 10.0
_FILE = b"file "


@dataclass(frozen=True)
class Piece:
    """One file to carry.

    Attributes:
        path: below the far end's `cargo/`.
        leaves: digest of every 1 MiB of it.
        algorithm: of those.
    """

    path: str
    file: Path
    size_bytes: int
    leaves: tuple[bytes, ...]
    algorithm: str


@dataclass(frozen=True)
class Cargo:
    """What every host gets.

    Attributes:
        release: the bundle's name and version.
        algorithm: of the digests.
        statement: digest of the Statement's bytes.
        start: digest of the script that runs first.
        source: the bundle, for its roots.
    """

    release: str
    algorithm: str
    statement: str
    start: str
    source: Source
    pieces: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        """Of all pieces."""
        return sum(piece.size_bytes for piece in self.pieces)


def load_cargo(folder: Path, pinned: str, start_digest: str, reporter: Reporter) -> Cargo:
    """Verify the Statement of what `start --stage` laid down, and list it for carrying.

    Payload files are not read here: each leaf is compared with the signed one when it is sent.

    Args:
        folder: holds `start`, `bootstrap/`, `sealed/` and `carrier/`.
        pinned: the root's fingerprint.
        start_digest: what the paper says of `start`.

    Raises:
        IntegrityFailure: something is not as signed, or `start` is not the one on the paper.
    """
    algorithm = algorithm_of(start_digest)
    start = plain_piece("start", folder / "start", algorithm)
    found = hexdigest(algorithm, start.file.read_bytes())
    if found != start_digest:
        raise DigestMismatch(
            f"{start.file}: expected {algorithm} {start_digest}, found {found}", "compare with the paper"
        )
    reporter.step("verify")
    source = FolderSource(folder)
    bundle = verify_statement(source, read_trust(source, pinned))
    if bundle.statement.algorithm != algorithm:
        raise InputInvalid(
            f"--start-digest: expected {bundle.statement.algorithm} of start, found {algorithm}",
            "copy it from the paper",
        )
    pieces = [start]
    for entry in bundle.entries():
        path = f"sealed/{entry.path}"
        leaves = tuple(bundle.leaves(entry))
        pieces.append(Piece(f"bundle/{path}", folder / path, entry.size_bytes, leaves, entry.algorithm))
    plain = [folder / "sealed" / bundle.statement.sums_name, *_files(folder / "carrier"), *_files(folder / "bootstrap")]
    for file in sorted(plain):
        pieces.append(plain_piece(f"bundle/{file.relative_to(folder)}", file, algorithm))
    pieces.append(plain_piece("far.sh", FAR_SCRIPT, algorithm))
    offer = bundle.offer
    return Cargo(offer.identity.id, algorithm, offer.statement_digest, start_digest, source, tuple(pieces))


def plain_piece(path: str, file: Path, algorithm: str) -> Piece:
    """A piece of a small file that no Statement names, as it is now."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BundleMalformed(f"{file}: {error.strerror}", "lay it down again: sh start MEDIUM --stage") from error
    leaves = [hashlib.new(algorithm, data[i : i + LEAF_BYTES]).digest() for i in range(0, len(data), LEAF_BYTES)]
    return Piece(path, file, len(data), tuple(leaves), algorithm)


def parse_leaves(said: bytes) -> dict[str, tuple[bytes, ...]]:
    """Leaves by path, from what `far.sh leaves` said; raises ValueError or KeyError for anything else."""
    found: dict[str, list[bytes]] = {}
    path = ""
    for line in said.splitlines():
        if line.startswith(_FILE):
            path = line.removeprefix(_FILE).decode(errors="replace")
            found[path] = []
        else:
            found[path].append(bytes.fromhex(line.split()[0].decode()))
    return {path: tuple(leaves) for path, leaves in found.items()}


def missing(piece: Piece, there: tuple[bytes, ...] | None) -> list[int]:
    """Numbers of the leaves that the far end lacks or has otherwise."""
    return [n for n, leaf in enumerate(piece.leaves) if there is None or n >= len(there) or there[n] != leaf]


def carry(
    link: Link,
    name: str,
    folder: str,
    algorithm: str,
    pieces: Iterable[Piece],
    free_bytes: int,
    on_sent: Callable[[int], None],
    reporter: Reporter,
) -> None:
    """Bring the far end's `cargo/` to exactly these pieces.

    Args:
        folder: on the host.
        free_bytes: of its file system.
        on_sent: called with the size of each chunk that went.

    Raises:
        SpaceShort: the host has no room for what is missing.
        DigestMismatch: a file of this machine has changed, or one keeps differing at the far end.
    """
    wanted = {piece.path: piece for piece in pieces}
    for turn in range(_ROUNDS + 1):
        reporter.note(f"{name}: hashing what lies there")
        there = parse_leaves(link.run("leaves", folder, algorithm))
        wrong = [piece for path, piece in wanted.items() if there.get(path) != piece.leaves]
        extra = sorted(there.keys() - wanted.keys())
        if not wrong and not extra:
            return
        if turn == _ROUNDS:
            raise DigestMismatch(
                f"{(wrong[0].path if wrong else extra[0])} differs after it was sent {_ROUNDS} times",
                "on the host: dmesg; df",
            )
        grows = sum(max(0, p.size_bytes - len(there.get(p.path, ())) * LEAF_BYTES) for p in wrong)
        if grows > free_bytes:
            raise SpaceShort(
                f"{folder}: expected {grows / 1e9:.1f} GB free, found {free_bytes / 1e9:.1f} GB",
                "name a folder with room in the inventory",
            )
        with link.sftp() as far:
            for path in extra:
                far.remove(f"{folder}/cargo/{path}")
            _send(far, name, f"{folder}/cargo", wrong, there, on_sent, reporter)


def _send(
    far: SFTPClient,
    name: str,
    base: str,
    pieces: list[Piece],
    there: Mapping[str, tuple[bytes, ...]],
    on_sent: Callable[[int], None],
    reporter: Reporter,
) -> None:
    total = sum(len(missing(piece, there.get(piece.path))) for piece in pieces) * LEAF_BYTES
    sent, said_s = 0, time.monotonic()
    folders = {base}
    for piece in pieces:
        _make_folders(far, f"{base}/{piece.path}", folders)
        with (
            piece.file.open("rb") as near,
            far.open(f"{base}/{piece.path}", "r+" if piece.path in there else "w") as stream,
        ):
            stream.set_pipelined(True)
            for number in missing(piece, there.get(piece.path)):
                near.seek(number * LEAF_BYTES)
                chunk = near.read(LEAF_BYTES)
                if hashlib.new(piece.algorithm, chunk).digest() != piece.leaves[number]:
                    raise DigestMismatch(
                        f"{piece.file}: leaf {number} has changed since it was verified on this machine",
                        "lay the bundle down again: sh start MEDIUM --stage",
                    )
                stream.seek(number * LEAF_BYTES)
                stream.write(chunk)
                sent += len(chunk)
                on_sent(len(chunk))
                if time.monotonic() - said_s > _SAY_S:
                    said_s = time.monotonic()
                    reporter.note(f"{name}: {sent / 1e6:.0f} of at most {total / 1e6:.0f} MB sent")
            stream.truncate(piece.size_bytes)


def _make_folders(far: SFTPClient, path: str, known: set[str]) -> None:
    folder = path.rpartition("/")[0]
    if folder in known:
        return
    _make_folders(far, folder, known)
    known.add(folder)
    try:
        far.mkdir(folder)
    except OSError:
        far.stat(folder)  # it was there


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
