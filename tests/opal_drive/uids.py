"""UIDs of objects and methods (Core 2.01, tables 239 to 243 (from memory); Opal SSC, sections 4.2 and 4.3)."""

from __future__ import annotations

SESSION_MANAGER = bytes.fromhex("00000000000000ff")
THIS_SP = bytes.fromhex("0000000000000001")
ADMIN_SP = bytes.fromhex("0000020500000001")
LOCKING_SP = bytes.fromhex("0000020500000002")

# Methods of the session manager
PROPERTIES = bytes.fromhex("000000000000ff01")
START_SESSION = bytes.fromhex("000000000000ff02")
SYNC_SESSION = bytes.fromhex("000000000000ff03")
CLOSE_SESSION = bytes.fromhex("000000000000ff06")

# Methods of a session
NEXT = bytes.fromhex("0000000600000008")
GET_ACL = bytes.fromhex("000000060000000d")
GEN_KEY = bytes.fromhex("0000000600000010")
REVERT_SP = bytes.fromhex("0000000600000011")
GET = bytes.fromhex("0000000600000016")
SET = bytes.fromhex("0000000600000017")
AUTHENTICATE = bytes.fromhex("000000060000001c")
REVERT = bytes.fromhex("0000000600000202")
ACTIVATE = bytes.fromhex("0000000600000203")
RANDOM = bytes.fromhex("0000000600000601")
METHOD_NAMES = {
    NEXT: "Next",
    GET_ACL: "GetACL",
    GEN_KEY: "GenKey",
    REVERT_SP: "RevertSP",
    GET: "Get",
    SET: "Set",
    AUTHENTICATE: "Authenticate",
    REVERT: "Revert",
    ACTIVATE: "Activate",
    RANDOM: "Random",
    PROPERTIES: "Properties",
    START_SESSION: "StartSession",
}

# Authorities
ANYBODY = bytes.fromhex("0000000900000001")
ADMINS = bytes.fromhex("0000000900000002")
MAKERS = bytes.fromhex("0000000900000003")
SID = bytes.fromhex("0000000900000006")
ADMIN_SP_ADMIN1 = bytes.fromhex("0000000900000201")
PSID = bytes.fromhex("000000090001ff01")
USERS = bytes.fromhex("0000000900030000")

# Rows and tables
SP_INFO = bytes.fromhex("0000000200000001")
TPER_INFO = bytes.fromhex("0000020100030001")
C_PIN_SID = bytes.fromhex("0000000b00000001")
C_PIN_MSID = bytes.fromhex("0000000b00008402")
C_PIN_ADMIN_SP_ADMIN1 = bytes.fromhex("0000000b00000201")
C_PIN_PSID = bytes.fromhex("0000000b0001ff01")
DATA_REMOVAL = bytes.fromhex("0000110100000001")
LOCKING_INFO = bytes.fromhex("0000080100000001")
MBR_CONTROL = bytes.fromhex("0000080300000001")
GLOBAL_RANGE = bytes.fromhex("0000080200000001")
MBR_TABLE = bytes.fromhex("0000080400000000")
DATA_STORE_TABLE = bytes.fromhex("0000100100000000")
ACCESS_CONTROL_TABLE = bytes.fromhex("0000000700000000")

# The halves that name the two types inside a BooleanExpr (Core 5.1.3.3: Authority_object_ref, boolean_ACE)
HALF_AUTHORITY = bytes.fromhex("00000c05")
HALF_BOOLEAN = bytes.fromhex("0000040e")


def uid(table: int, row: int) -> bytes:
    """Return the UID of a row: 4 bytes of its table, 4 of its own."""
    return table.to_bytes(4, "big") + row.to_bytes(4, "big")


def admin(number: int) -> bytes:
    """Return the authority AdminN of the Locking SP."""
    return uid(0x09, 0x00010000 + number)


def user(number: int) -> bytes:
    """Return the authority UserN of the Locking SP."""
    return uid(0x09, 0x00030000 + number)


def c_pin(authority: bytes) -> bytes:
    """Return the C_PIN row of AdminN or UserN."""
    return uid(0x0B, int.from_bytes(authority[4:], "big"))


def locking_range(number: int) -> bytes:
    """Return the Locking row of a range; 0 is the global one."""
    return uid(0x802, 0x00030000 + number) if number else GLOBAL_RANGE


def media_key(number: int) -> bytes:
    """Return the K_AES_256 row of a range; 0 is the global one."""
    return uid(0x806, 0x00030000 + number if number else 1)


def range_number(row: bytes) -> int:
    """Return the range that a Locking or K_AES_256 row belongs to."""
    low = int.from_bytes(row[4:], "big")
    return low - 0x00030000 if low > 0x00030000 else 0


def ace(row: int) -> bytes:
    """Return the UID of an ACE."""
    return uid(0x08, row)
