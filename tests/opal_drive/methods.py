"""The methods of a session: Get, Set, Next, GetACL, GenKey, Random, Authenticate, Activate, Revert, RevertSP.

Follows Core 2.01, section 5.3.3 (base template) and 5.7 (Locking template), and Opal SSC, sections 4.2.1 and 5.1.
Every method is atomic unless `lifecycle` says otherwise: it changes nothing when it is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from . import access, ranges, uids
from .authentication import authenticate
from .codec import CodecError, Name, Value, named
from .faults import DATA_STORE_BYTES, MAX_PIN_BYTES, MBR_BYTES
from .lifecycle import Lifecycle
from .media import Media
from .packets import MethodCall, Status
from .power import Power
from .state import Provider, State
from .tables import POWER_CYCLE, PROGRAMMATIC, Ace, Columns, Lock, Mbr

MAX_RANDOM_BYTES = 32  # Opal SSC, 4.2.9.1: at least 32 (from memory)
MAX_READ_BYTES = 0xF000  # a byte table's piece that fits a response
_CELL_START_ROW, _CELL_END_ROW, _CELL_START_COLUMN, _CELL_END_COLUMN = 1, 2, 3, 4  # cell_block (Core 5.1.3.2)
_WHERE, _VALUES = 0, 1  # parameters of Set; Next has Where and Count at the same places
_KEEP_GLOBAL_RANGE_KEY = 0x060000
_WRITERS = {uids.SET, uids.GEN_KEY, uids.ACTIVATE, uids.REVERT, uids.REVERT_SP}


class Refused(Exception):
    """The method ends with a status other than success."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass
class Session:
    """An open session: with which SP, and who has authenticated."""

    number: int  # TSN
    host_number: int  # HSN
    provider: Provider
    writes: bool
    who: set[bytes] = field(default_factory=set)
    ended: bool = False  # a revert ends the session after its answer


class Methods:
    """Runs the calls of sessions on one drive."""

    def __init__(self, state: State, media: Media, power: Power) -> None:
        self._state = state
        self._media = media
        self._lifecycle = Lifecycle(state, media, power)
        self._table: dict[bytes, Callable[[Session, MethodCall], list[Value]]] = {
            uids.GET: self._get,
            uids.SET: self._set,
            uids.NEXT: self._next,
            uids.GET_ACL: self._get_acl,
            uids.GEN_KEY: self._gen_key,
            uids.RANDOM: self._random,
            uids.ACTIVATE: self._activate,
            uids.REVERT: self._revert,
            uids.REVERT_SP: self._revert_sp,
        }

    def run(self, session: Session, call: MethodCall, *, sid_blocked: bool) -> tuple[list[Value], Status]:
        """Run one call and return its result and status; a refused one changes nothing."""
        try:
            if call.method == uids.AUTHENTICATE:
                return self._authenticate(session, call, sid_blocked=sid_blocked), Status.SUCCESS
            if call.method not in self._table or (call.method in _WRITERS and not session.writes):
                raise Refused(Status.NOT_AUTHORIZED)
            return self._table[call.method](session, call), Status.SUCCESS
        except Refused as refused:
            return [], refused.status
        except CodecError:
            return [], Status.INVALID_PARAMETER

    # Base template

    def _get(self, session: Session, call: MethodCall) -> list[Value]:
        columns = self._open_columns(session, call)
        cell_block = call.parameters[0] if len(call.parameters) == 1 else None
        if not isinstance(cell_block, list):
            raise Refused(Status.INVALID_PARAMETER)
        bounds = named(cell_block)
        start, length = self._byte_table(call.invoking)
        if length:
            return [self._read_table(start, length, bounds)]
        row = session.provider.object(call.invoking)
        low = _number(bounds, _CELL_START_COLUMN, 0)
        high = _number(bounds, _CELL_END_COLUMN, max(row.columns))
        wanted = [at for at in sorted(row.columns) if low <= at <= high and at in columns]
        return [[Name(at, row.columns[at]) for at in wanted]]

    def _read_table(self, start: int, length: int, bounds: dict[Value, Value]) -> Value:
        low = _number(bounds, _CELL_START_ROW, 0)
        high = _number(bounds, _CELL_END_ROW, length - 1)
        if not 0 <= low <= high < length:
            raise Refused(Status.INVALID_PARAMETER)
        if high - low >= MAX_READ_BYTES:
            raise Refused(Status.RESPONSE_OVERFLOW)
        return self._media.read_bytes(start + low, high - low + 1, self._table_key())

    def _set(self, session: Session, call: MethodCall) -> list[Value]:
        columns = self._open_columns(session, call)
        parameters = named(call.parameters)
        values = parameters.get(_VALUES)
        start, length = self._byte_table(call.invoking)
        if length:
            at = _number(parameters, _WHERE, 0)
            if not isinstance(values, bytes) or not values or at < 0 or at + len(values) > length:
                raise Refused(Status.INVALID_PARAMETER)
            self._media.write_bytes(start + at, values, self._table_key())
            return []
        if not isinstance(values, list) or _WHERE in parameters:
            raise Refused(Status.INVALID_PARAMETER)
        cells: Columns = {}
        for column, value in named(values).items():
            if not isinstance(column, int) or column not in columns:
                raise Refused(Status.NOT_AUTHORIZED)
            if not self._fits(session.provider, call.invoking, column, value):
                raise Refused(Status.INVALID_PARAMETER)
            cells[column] = value
        self._check_range(call.invoking, cells)
        session.provider.set(call.invoking, cells)
        self._state.commit()
        return []

    def _next(self, session: Session, call: MethodCall) -> list[Value]:
        parameters = named(call.parameters)
        rows = session.provider.rows(call.invoking[:4])
        after = parameters.get(_WHERE)
        if after is not None:
            if not isinstance(after, bytes):
                raise Refused(Status.INVALID_PARAMETER)
            rows = [row for row in rows if row > after]
        count = _number(parameters, 1, len(rows))
        return [[*rows[: max(count, 0)]]]

    def _get_acl(self, session: Session, call: MethodCall) -> list[Value]:
        match call.parameters:
            case [bytes() as uid, bytes() as method] if call.invoking == uids.ACCESS_CONTROL_TABLE:
                acl = session.provider.object(uid).acl.get(method) if uid in session.provider else None
                if not acl:
                    raise Refused(Status.INVALID_PARAMETER)
                return [[*acl]]
        raise Refused(Status.INVALID_PARAMETER)

    def _random(self, session: Session, call: MethodCall) -> list[Value]:
        self._open_columns(session, call)
        match call.parameters:
            case [int() as count] if 0 <= count <= MAX_RANDOM_BYTES:
                return [secrets.token_bytes(count)]
        raise Refused(Status.INVALID_PARAMETER)

    def _authenticate(self, session: Session, call: MethodCall, *, sid_blocked: bool) -> list[Value]:
        match call.parameters:
            case [bytes() as authority, *rest] if call.invoking == uids.THIS_SP:
                proof = named(rest).get(0, b"")
                if not isinstance(proof, bytes):
                    raise Refused(Status.INVALID_PARAMETER)
            case _:
                raise Refused(Status.INVALID_PARAMETER)
        status = authenticate(self._state, session.provider, authority, proof, sid_blocked=sid_blocked)
        if status is Status.SUCCESS:
            session.who.add(authority)
        elif status is Status.AUTHORITY_LOCKED_OUT:
            raise Refused(status)
        return [int(status is Status.SUCCESS)]

    # Life cycle

    def _gen_key(self, session: Session, call: MethodCall) -> list[Value]:
        self._open_columns(session, call)
        return _finish(self._lifecycle.generate_key(call.invoking))

    def _activate(self, session: Session, call: MethodCall) -> list[Value]:
        self._open_columns(session, call)
        if call.parameters:  # Single User Mode and the number of DataStore tables: not this drive
            raise Refused(Status.INVALID_PARAMETER)
        return _finish(self._lifecycle.activate())

    def _revert(self, session: Session, call: MethodCall) -> list[Value]:
        self._open_columns(session, call)
        if call.invoking == uids.LOCKING_SP:
            return _finish(self._lifecycle.revert_locking())
        result = _finish(self._lifecycle.revert_admin())
        session.ended = True
        return result

    def _revert_sp(self, session: Session, call: MethodCall) -> list[Value]:
        self._open_columns(session, call)
        keep_global = bool(named(call.parameters).get(_KEEP_GLOBAL_RANGE_KEY, 0))
        result = _finish(self._lifecycle.revert_locking(keep_global=keep_global))
        session.ended = True
        return result

    # Helpers

    def _open_columns(self, session: Session, call: MethodCall) -> set[int]:
        """Return the columns that the session may use the method on."""
        if call.invoking not in session.provider:
            raise Refused(Status.NOT_AUTHORIZED)
        columns = access.open_columns(session.provider, session.who, call.invoking, call.method)
        if columns is None:
            raise Refused(Status.NOT_AUTHORIZED)
        return columns

    def _byte_table(self, uid: bytes) -> tuple[int, int]:
        """Return where a byte table starts in the image and its length; length 0: it is none."""
        if uid == uids.MBR_TABLE:
            return self._media.mbr_start, MBR_BYTES
        if uid == uids.DATA_STORE_TABLE:
            return self._media.data_store_start, DATA_STORE_BYTES
        return 0, 0

    def _table_key(self) -> bytes | None:
        return self._state.table_key if self._state.model.encrypts else None

    def _fits(self, provider: Provider, uid: bytes, column: int, value: Value) -> bool:
        """Tell whether a value is of its column's type."""
        table = uid[:4]
        if table == uids.C_PIN_SID[:4]:
            return isinstance(value, bytes) and len(value) <= MAX_PIN_BYTES
        if (table, column) == (uids.ace(0)[:4], Ace.EXPRESSION):
            return access.is_expression(provider, value)
        if (table, column) in ((uids.GLOBAL_RANGE[:4], Lock.ON_RESET), (uids.MBR_CONTROL[:4], Mbr.ON_RESET)):
            return isinstance(value, list) and value in ([POWER_CYCLE], [POWER_CYCLE, PROGRAMMATIC])
        if (table, column) in ((uids.GLOBAL_RANGE[:4], Lock.START), (uids.GLOBAL_RANGE[:4], Lock.LENGTH)):
            return isinstance(value, int)
        if isinstance(provider.get(uid, column), bytes):
            return isinstance(value, bytes) and len(value) <= MAX_PIN_BYTES  # names
        return value in (0, 1)

    def _check_range(self, uid: bytes, cells: Columns) -> None:
        """Refuse a range that cannot lie where these cells put it."""
        if uid[:4] == uids.GLOBAL_RANGE[:4] and {Lock.START, Lock.LENGTH} & set(cells):
            start = cells.get(Lock.START, self._state.locking.get(uid, Lock.START))
            length = cells.get(Lock.LENGTH, self._state.locking.get(uid, Lock.LENGTH))
            assert isinstance(start, int)
            assert isinstance(length, int)
            if not ranges.is_possible(self._state, uids.range_number(uid), start, length):
                raise Refused(Status.INVALID_PARAMETER)


def _finish(status: Status) -> list[Value]:
    """Return the empty result of a method that succeeded."""
    if status is not Status.SUCCESS:
        raise Refused(status)
    return []


def _number(values: dict[Value, Value], key: int, default: int) -> int:
    value = values.get(key, default)
    if not isinstance(value, int):
        raise Refused(Status.INVALID_PARAMETER)
    return value
