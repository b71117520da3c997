"""What a power cut must not lose: identity, media keys, and how both SPs differ from their factory state.

One JSON file, replaced as a whole (write, fsync, rename, fsync of the folder): after a cut it is the old one or the
new one. PINs and keys are in it in the clear; the file stands for the drive's protected memory.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import tables, uids
from .codec import CodecError, Control, Value, decode, encode
from .faults import Model
from .media import KEY_BYTES
from .tables import Columns, Object, Objects

VERSION = 1
# Without what people mistake for each other on a label.
_LABEL_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_LABEL_LENGTH = 32  # PSID feature set 1.00, section 4.2 (from memory): as long as a PIN may be


class StateError(ValueError):
    """The state file is not one of this program, or of another drive."""


class Store(Protocol):
    """Where the state lies."""

    def load(self) -> str | None:
        """Return what was saved last, or None."""

    def save(self, text: str) -> None:
        """Replace it, all or nothing."""


class MemoryStore:
    """For tests that lose power thousands of times."""

    def __init__(self) -> None:
        self.text: str | None = None

    def load(self) -> str | None:
        """Return what was saved last, or None."""
        return self.text

    def save(self, text: str) -> None:
        """Replace it."""
        self.text = text


class FileStore:
    """One file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> str | None:
        """Return what was saved last, or None."""
        return self._path.read_text("ascii") if self._path.exists() else None

    def save(self, text: str) -> None:
        """Replace the file; it is on the disk when this returns."""
        part = self._path.with_name(f".{self._path.name}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Provider:
    """An SP: its factory state, and what was set since."""

    def __init__(self, factory: Objects) -> None:
        self.factory = factory
        self.changes: dict[bytes, Columns] = {}

    def __contains__(self, uid: bytes) -> bool:
        return uid in self.factory

    def object(self, uid: bytes) -> Object:
        """Return an object with the values that it has now."""
        made = self.factory[uid]
        return Object({**made.columns, **self.changes.get(uid, {})}, made.acl)

    def get(self, uid: bytes, column: int) -> Value:
        """Return one cell."""
        changed = self.changes.get(uid, {})
        return changed[column] if column in changed else self.factory[uid].columns[column]

    def number(self, uid: bytes, column: int) -> int:
        """Return a cell that holds a number."""
        value = self.get(uid, column)
        assert isinstance(value, int)
        return value

    def text(self, uid: bytes, column: int) -> bytes:
        """Return a cell that holds a byte string."""
        value = self.get(uid, column)
        assert isinstance(value, bytes)
        return value

    def set(self, uid: bytes, columns: Columns) -> None:
        """Change cells."""
        self.changes.setdefault(uid, {}).update(columns)

    def rows(self, table: bytes) -> list[bytes]:
        """Return the rows of a table, in order; `table` is the first half of their UIDs."""
        return sorted(uid for uid in self.factory if uid[:4] == table)


@dataclass
class Identity:
    """What the factory wrote; it never changes."""

    serial: str
    msid: bytes
    psid: bytes


class State:
    """Everything that outlives a power cut. Changes count once `commit` returned."""

    def __init__(self, store: Store, model: Model, serial: str = "") -> None:
        """Load the state, and make that of a new drive when there is none.

        Raises:
            StateError: It is damaged, or the drive is of another model than asked for.
        """
        self._store = store
        self.model = model
        text = store.load()
        document = _parse(text) if text is not None else None
        if document is None:
            self.identity = Identity(serial, _label(), _label())
        else:
            self.identity = _identity(document)
        self.keys: list[bytes] = []  # by range; the global one first
        self.table_key = b""  # of the MBR and DataStore tables
        self.removing = False  # a revert began to remove data and has not finished
        self.admin = Provider(tables.admin_sp(model, self.identity.msid, self.identity.psid))
        self.locking = Provider(tables.locking_sp(model))
        if document is None:
            self.replace_keys(range(model.ranges + 1))
            self.table_key = secrets.token_bytes(KEY_BYTES)
            self.commit()
        else:
            self._apply(document)

    @property
    def active(self) -> bool:
        """Whether the Locking SP is activated."""
        return self.admin.get(uids.LOCKING_SP, tables.LIFE_CYCLE) == tables.MANUFACTURED

    @property
    def owned(self) -> bool:
        """Whether SID has another PIN than the one that anybody can read."""
        return self.admin.get(uids.C_PIN_SID, tables.Pin.PIN) != self.identity.msid

    def replace_keys(self, ranges: range | list[int]) -> None:
        """Make new media keys for some ranges."""
        if not self.keys:
            self.keys = [b""] * (self.model.ranges + 1)
        for number in ranges:
            self.keys[number] = secrets.token_bytes(KEY_BYTES)

    def key(self, number: int) -> bytes | None:
        """Return the media key of a range; None on a drive that does not encrypt."""
        return self.keys[number] if self.model.encrypts else None

    def commit(self) -> None:
        """Keep every change, all or nothing."""
        self._store.save(json.dumps(self._document(), sort_keys=True))

    def _document(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "model": _fixed(self.model),
            "serial": self.identity.serial,
            "msid": self.identity.msid.decode(),
            "psid": self.identity.psid.decode(),
            "keys": [key.hex() for key in self.keys],
            "table_key": self.table_key.hex(),
            "removing": self.removing,
            "admin": _pack(self.admin.changes),
            "locking": _pack(self.locking.changes),
        }

    def _apply(self, document: dict[str, Any]) -> None:
        if document.get("model") != _fixed(self.model):
            raise StateError(f"the image is of model {document.get('model')}, asked for {_fixed(self.model)}")
        try:
            self.keys = [bytes.fromhex(key) for key in document["keys"]]
            self.table_key = bytes.fromhex(document["table_key"])
            self.removing = bool(document["removing"])
            self.admin.changes = _unpack(document["admin"])
            self.locking.changes = _unpack(document["locking"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"damaged state: {error!r}") from error


def _fixed(model: Model) -> dict[str, Any]:
    """Return what an image cannot change."""
    return {"ssc": model.ssc, "block_bytes": model.block_bytes, "blocks": model.blocks}


def _label() -> bytes:
    return "".join(secrets.choice(_LABEL_LETTERS) for _ in range(_LABEL_LENGTH)).encode()


def _parse(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StateError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise StateError(f"expected a state of version {VERSION}")
    return document


def _identity(document: dict[str, Any]) -> Identity:
    try:
        return Identity(document["serial"], document["msid"].encode(), document["psid"].encode())
    except (KeyError, AttributeError) as error:
        raise StateError(f"damaged state: {error!r}") from error


def _pack(changes: dict[bytes, Columns]) -> dict[str, dict[str, str]]:
    """Values are kept as their tokens, which have every type that a cell can have."""
    return {uid.hex(): {str(at): encode(value).hex() for at, value in cells.items()} for uid, cells in changes.items()}


def _unpack(document: dict[str, dict[str, str]]) -> dict[bytes, Columns]:
    return {
        bytes.fromhex(uid): {int(at): _value(tokens) for at, tokens in cells.items()} for uid, cells in document.items()
    }


def _value(tokens: str) -> Value:
    items = decode(bytes.fromhex(tokens))
    if len(items) != 1 or isinstance(items[0], Control):
        raise CodecError("expected one value")
    return items[0]
