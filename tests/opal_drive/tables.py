"""The Admin SP and the Locking SP as they leave the factory: objects, their columns, who may do what with them.

Follows Opal SSC, sections 4.2 (Admin SP) and 4.3 (Locking SP); columns are those of Core 2.01, sections 5.3 and 5.7
(from memory), and what Pyrite leaves out is from memory. Rows that no known host asks for (Template, MethodID,
Certificates) are left out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from . import uids
from .codec import Name, Value
from .faults import DATA_STORE_BYTES, MBR_BYTES, TRY_LIMIT, Model

Columns: TypeAlias = "dict[int, Value]"
LOCKING_VERSION = 1
POWER_CYCLE, PROGRAMMATIC = 0, 3  # reset_types (Core 5.1.3.4)
INACTIVE, MANUFACTURED = 8, 9  # life_cycle_state (Core 5.1.3.5; Opal SSC 5.1.1: Manufactured-Inactive, Manufactured)


class Pin(enum.IntEnum):
    """Columns of C_PIN (Core 5.3.2.12)."""

    PIN = 3
    CHAR_SET = 4
    TRY_LIMIT = 5
    TRIES = 6
    PERSISTENCE = 7


class Auth(enum.IntEnum):
    """Columns of Authority (Core 5.3.2.10)."""

    COMMON_NAME = 2
    IS_CLASS = 3
    CLASS = 4
    ENABLED = 5
    OPERATION = 9
    CREDENTIAL = 10


class Ace(enum.IntEnum):
    """Columns of ACE (Core 5.3.2.9)."""

    EXPRESSION = 3
    COLUMNS = 4


class Lock(enum.IntEnum):
    """Columns of Locking (Core 5.7.2.2)."""

    COMMON_NAME = 2
    START = 3
    LENGTH = 4
    READ_ENABLED = 5
    WRITE_ENABLED = 6
    READ_LOCKED = 7
    WRITE_LOCKED = 8
    ON_RESET = 9
    ACTIVE_KEY = 10


class Mbr(enum.IntEnum):
    """Columns of MBRControl (Core 5.7.2.5)."""

    ENABLE = 1
    DONE = 2
    ON_RESET = 3


LIFE_CYCLE = 6  # of the SP table (Core 5.4.2.3)
PROGRAMMATIC_RESET_ENABLE = 8  # of TPerInfo (Opal SSC, 4.2.3)


@dataclass
class Object:
    """A row, or a byte table, and the access control list of each of its methods."""

    columns: Columns = field(default_factory=dict)
    acl: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)


Objects: TypeAlias = "dict[bytes, Object]"


def any_of(*authorities: bytes) -> list[Value]:
    """Return the BooleanExpr, in postfix (Core 5.1.3.3), that one of some authorities fulfils."""
    expression: list[Value] = []
    for position, authority in enumerate(authorities):
        expression.append(Name(uids.HALF_AUTHORITY, authority))
        if position:
            expression.append(Name(uids.HALF_BOOLEAN, 1))
    return expression


_ACE_ANYBODY = uids.ace(0x1)
_ACE_GET_ALL, _ACE_SET_EXPRESSION = uids.ace(0x38000), uids.ace(0x38001)


class _Builder:
    """Collects the objects of one SP."""

    def __init__(self, name: bytes, provider: bytes, ace_reader: bytes) -> None:
        self.objects: Objects = {}
        self._ace_reader = ace_reader
        self.anybody = self.ace(0x1, any_of(uids.ANYBODY))
        self.admins = self.ace(0x2, any_of(uids.ADMINS))
        self.row(uids.SP_INFO, {1: provider, 2: name, 6: 1}, get=[self.anybody])
        self.row(uids.THIS_SP, {}, others={uids.AUTHENTICATE: [self.anybody], uids.RANDOM: [self.anybody]})

    def row(
        self,
        uid: bytes,
        columns: Columns,
        get: Iterable[bytes] = (),
        set_: Iterable[bytes] = (),
        others: dict[bytes, list[bytes]] | None = None,
    ) -> None:
        """Add an object; column 0 of a row is its own UID."""
        acl = {uids.GET: tuple(get), uids.SET: tuple(set_)}
        acl |= {method: tuple(aces) for method, aces in (others or {}).items()}
        self.objects[uid] = Object({0: uid, **columns}, acl)

    def ace(
        self,
        row: int,
        who: list[Value],
        columns: Iterable[int] = (),
        *,
        settable: bool = False,
    ) -> bytes:
        """Add an ACE; without columns it grants all of them. Admins may say who fulfils one that is settable."""
        uid = uids.ace(row)
        cells: Columns = {1: b"", 2: b"", Ace.EXPRESSION: who, Ace.COLUMNS: [int(column) for column in columns]}
        self.row(uid, cells, get=[self._ace_reader], set_=[_ACE_SET_EXPRESSION] if settable else [])
        return uid

    def authority(
        self, uid: bytes, name: bytes, *, enabled: bool, get: list[bytes], set_: list[bytes], **more: Value
    ) -> None:
        """Add an authority; one with a credential authenticates by password."""
        credential = more.get("credential", bytes(8))
        columns: Columns = {
            1: name,
            Auth.COMMON_NAME: b"",
            Auth.IS_CLASS: more.get("is_class", 0),
            Auth.CLASS: more.get("member_of", bytes(8)),
            Auth.ENABLED: int(enabled),
            6: 0,
            7: 0,
            8: 0,
            Auth.OPERATION: 1 if credential != bytes(8) else 0,
            Auth.CREDENTIAL: credential,
        }
        self.row(uid, columns, get, set_)

    def c_pin(
        self, uid: bytes, name: bytes, pin: bytes, get: bytes, set_: bytes | None, limit: int, keep: bool
    ) -> None:
        """Add a PIN; with a limit of 0 it may be tried without end, and `keep` is its Persistence."""
        columns: Columns = {1: name, 2: b"", Pin.PIN: pin, Pin.CHAR_SET: bytes(8)}
        columns |= {Pin.TRY_LIMIT: limit, Pin.TRIES: 0, Pin.PERSISTENCE: int(keep)}
        self.row(uid, columns, [get], [set_] if set_ else [])

    def table(self, uid: bytes, rows: int, *, bytes_table: bool = False, set_: bytes | None = None) -> None:
        """Add the row of the Table table that describes a table."""
        columns: Columns = {1: b"", 2: b"", 4: 2 if bytes_table else 1, 7: rows, 8: 0, 11: rows, 12: rows, 13: 1, 14: 1}
        self.row(uids.uid(0x1, int.from_bytes(uid[:4], "big")), columns, get=[self.anybody])


_NO_PIN = (0, Pin.CHAR_SET, Pin.TRY_LIMIT, Pin.TRIES, Pin.PERSISTENCE)
_USER_COLUMNS = (Lock.READ_ENABLED, Lock.WRITE_ENABLED, Lock.READ_LOCKED, Lock.WRITE_LOCKED, Lock.ON_RESET)


def admin_sp(model: Model, msid: bytes, psid: bytes) -> Objects:
    """Return the objects of the Admin SP (Opal SSC, 4.2)."""
    sp = _Builder(b"Admin", uids.ADMIN_SP, _ACE_ANYBODY)
    set_enabled = sp.ace(0x30001, any_of(uids.SID), [Auth.ENABLED])
    get_no_pin = sp.ace(0x8C02, any_of(uids.ADMINS, uids.SID), _NO_PIN)
    set_sid = sp.ace(0x8C03, any_of(uids.SID), [Pin.PIN])
    get_msid = sp.ace(0x8C04, any_of(uids.ANYBODY), [0, Pin.PIN])
    set_admins = sp.ace(0x3A001, any_of(uids.ADMINS, uids.SID), [Pin.PIN])
    owner = sp.ace(0x30002, any_of(uids.SID))
    label = sp.ace(0x300E0, any_of(uids.PSID))
    set_reset = sp.ace(0x30003, any_of(uids.SID), [PROGRAMMATIC_RESET_ENABLE])

    anybody = [sp.anybody]
    sp.authority(uids.ANYBODY, b"Anybody", enabled=True, get=anybody, set_=[])
    sp.authority(uids.ADMINS, b"Admins", enabled=True, get=anybody, set_=[], is_class=1)
    sp.authority(uids.MAKERS, b"Makers", enabled=True, get=anybody, set_=[set_enabled], is_class=1)
    sp.authority(uids.SID, b"SID", enabled=True, get=anybody, set_=[], credential=uids.C_PIN_SID)
    admin1 = {"credential": uids.C_PIN_ADMIN_SP_ADMIN1, "member_of": uids.ADMINS}
    sp.authority(uids.ADMIN_SP_ADMIN1, b"Admin1", enabled=False, get=anybody, set_=[set_enabled], **admin1)
    keeps = model.keeps_tries
    sp.c_pin(uids.C_PIN_SID, b"C_PIN_SID", msid, get_no_pin, set_sid, TRY_LIMIT, keeps)
    sp.c_pin(uids.C_PIN_MSID, b"C_PIN_MSID", msid, get_msid, None, 0, False)
    sp.c_pin(uids.C_PIN_ADMIN_SP_ADMIN1, b"C_PIN_Admin1", b"", get_no_pin, set_admins, model.try_limit, keeps)
    if model.has_psid:  # PSID feature set 1.00, section 4
        sp.authority(uids.PSID, b"PSID", enabled=True, get=anybody, set_=[], credential=uids.C_PIN_PSID)
        sp.c_pin(uids.C_PIN_PSID, b"C_PIN_PSID", psid, get_no_pin, None, TRY_LIMIT, False)
    tper: Columns = {1: 0, 4: 1, 5: 1, 7: [b"Opal" if model.encrypts else b"Pyrite"], PROGRAMMATIC_RESET_ENABLE: 0}
    sp.row(uids.TPER_INFO, tper, anybody, [set_reset])
    revert = {uids.REVERT: [owner, sp.admins, *([label] if model.has_psid else [])]}
    sp.row(uids.ADMIN_SP, {1: b"Admin", LIFE_CYCLE: MANUFACTURED, 7: 0}, anybody, others=revert)
    locking = {uids.REVERT: [owner, sp.admins], uids.ACTIVATE: [owner]}
    sp.row(uids.LOCKING_SP, {1: b"Locking", LIFE_CYCLE: INACTIVE, 7: 0}, anybody, others=locking)
    return sp.objects


def locking_sp(model: Model) -> Objects:
    """Return the objects of the Locking SP as Activate finds them (Opal SSC, 4.3)."""
    sp = _Builder(b"Locking", uids.LOCKING_SP, _ACE_GET_ALL)
    sp.objects[uids.THIS_SP].acl[uids.REVERT_SP] = (sp.admins,)
    names = sp.ace(0x3, any_of(uids.ANYBODY), [0, Auth.COMMON_NAME])
    set_names = sp.ace(0x4, any_of(uids.ADMINS), [Auth.COMMON_NAME])
    _add_authorities(sp, model, names, set_names)
    info: Columns = {1: b"", 2: LOCKING_VERSION, 3: int(model.encrypts), 4: model.ranges, 5: 0, 6: 0}
    if model.encrypts:
        info |= {7: 1, 8: model.block_bytes, 9: model.alignment_blocks, 10: 0}
    sp.row(uids.LOCKING_INFO, info, get=[sp.anybody])
    for number in range(model.ranges + 1):
        _add_range(sp, model, number, names, set_names)
    sp.table(uids.GLOBAL_RANGE, model.ranges + 1)
    if model.has_shadow_mbr:
        set_all = sp.ace(0x3F800, any_of(uids.ADMINS), [Mbr.ENABLE, Mbr.DONE, Mbr.ON_RESET])
        set_done = sp.ace(0x3F801, any_of(uids.ADMINS), [Mbr.DONE, Mbr.ON_RESET], settable=True)
        control: Columns = {Mbr.ENABLE: 0, Mbr.DONE: 0, Mbr.ON_RESET: [POWER_CYCLE]}
        sp.row(uids.MBR_CONTROL, control, [sp.anybody], [set_all, set_done])
        sp.row(uids.MBR_TABLE, {}, [sp.anybody], [sp.admins])
        sp.table(uids.MBR_TABLE, MBR_BYTES, bytes_table=True)
    get_store = sp.ace(0x3FC00, any_of(uids.ADMINS), settable=True)
    set_store = sp.ace(0x3FC01, any_of(uids.ADMINS), settable=True)
    sp.row(uids.DATA_STORE_TABLE, {}, [get_store], [set_store])
    sp.table(uids.DATA_STORE_TABLE, DATA_STORE_BYTES, bytes_table=True)
    return sp.objects


def _add_authorities(sp: _Builder, model: Model, names: bytes, set_names: bytes) -> None:
    sp.ace(0x38000, any_of(uids.ADMINS))
    sp.ace(0x38001, any_of(uids.ADMINS), [Ace.EXPRESSION])
    get = [sp.ace(0x39000, any_of(uids.ADMINS), settable=True), names]
    set_enabled = sp.ace(0x39001, any_of(uids.ADMINS), [Auth.ENABLED])
    get_no_pin = sp.ace(0x3A000, any_of(uids.ADMINS), _NO_PIN)
    set_admins = sp.ace(0x3A001, any_of(uids.ADMINS), [Pin.PIN])
    sp.authority(uids.ANYBODY, b"Anybody", enabled=True, get=get, set_=[])
    sp.authority(uids.ADMINS, b"Admins", enabled=True, get=get, set_=[], is_class=1)
    sp.authority(uids.USERS, b"Users", enabled=True, get=get, set_=[], is_class=1)
    for number in range(1, model.admins + 1):
        uid, name = uids.admin(number), b"Admin%d" % number
        who = {"credential": uids.c_pin(uid), "member_of": uids.ADMINS}
        # Admin1 cannot be disabled: the last admin is never locked out.
        set_ = [set_enabled, set_names] if number > 1 else [set_names]
        sp.authority(uid, name, enabled=number == 1, get=get, set_=set_, **who)
        sp.c_pin(uids.c_pin(uid), b"C_PIN_" + name, b"", get_no_pin, set_admins, model.try_limit, model.keeps_tries)
    for number in range(1, model.users + 1):
        uid, name = uids.user(number), b"User%d" % number
        who = {"credential": uids.c_pin(uid), "member_of": uids.USERS}
        set_name = sp.ace(0x44000 + number, any_of(uids.ADMINS), [Auth.COMMON_NAME], settable=True)
        sp.authority(uid, name, enabled=False, get=get, set_=[set_enabled, set_name], **who)
        set_own = sp.ace(0x3A800 + number, any_of(uids.ADMINS, uid), [Pin.PIN], settable=True)
        sp.c_pin(uids.c_pin(uid), b"C_PIN_" + name, b"", get_no_pin, set_own, model.try_limit, model.keeps_tries)


def _add_range(sp: _Builder, model: Model, number: int, names: bytes, set_names: bytes) -> None:
    """Add a Locking row and its media key (Opal SSC, 4.3.5.2 and 4.3.5.5)."""
    admins = any_of(uids.ADMINS)
    admin_columns = _USER_COLUMNS if number == 0 else (Lock.START, Lock.LENGTH, *_USER_COLUMNS)
    readable = range(Lock.START, Lock.ACTIVE_KEY + 1)
    get = sp.ace(0x3D000 + number, admins, readable, settable=True)
    read_lock = sp.ace(0x3E000 + number, admins, [Lock.READ_LOCKED], settable=True)
    write_lock = sp.ace(0x3E800 + number, admins, [Lock.WRITE_LOCKED], settable=True)
    # ACE_Locking_GlblRng_Admins_Set, and one ACE_Locking_Admins_RangeStartToLOR for all other ranges
    set_all = sp.ace(0x3F001 if number else 0x3F000, admins, admin_columns)
    name = b"Locking_Range%d" % number if number else b"Locking_GlobalRange"
    columns: Columns = {1: name, Lock.COMMON_NAME: b"", Lock.START: 0, Lock.LENGTH: 0}
    columns |= dict.fromkeys(_USER_COLUMNS, 0)
    columns |= {Lock.ON_RESET: [POWER_CYCLE]}
    if model.encrypts:
        columns[Lock.ACTIVE_KEY] = uids.media_key(number)
        generate = sp.ace(0x3B800 + number, admins, settable=True)
        get_mode = sp.ace(0x3BFFF, any_of(uids.ANYBODY), [4])
        sp.row(uids.media_key(number), {1: b"", 4: 7}, [get_mode], others={uids.GEN_KEY: [generate]})
    sp.row(uids.locking_range(number), columns, [get, names], [read_lock, write_lock, set_all, set_names])
