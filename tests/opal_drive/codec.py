"""Tokens of the TCG data stream: atoms, lists, named values and control tokens.

Follows the TCG Storage Architecture Core Specification 2.01, section 3.2.2 (data stream encoding). It decodes to plain
Python values and refuses what is cut short, reserved, nested too deep or out of place. Continued tokens (a byte string
in several atoms, 3.2.2.3.1.1) are refused: the drive announces a buffer that holds every value whole.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

_MAX_DEPTH = 16  # the deepest call of the specification nests 4 lists
_TINY_MAX, _TINY_SIGNED_MIN = 0x3F, -0x20
_SHORT_MAX_BYTES, _MEDIUM_MAX_BYTES, _LONG_MAX_BYTES = 0xF, 0x7FF, 0xFFFFFF
_MAX_INTEGER_BYTES = 8  # no column of Opal is wider than uinteger_8
_START_LIST, _END_LIST, _START_NAME, _END_NAME, _EMPTY = 0xF0, 0xF1, 0xF2, 0xF3, 0xFF


class CodecError(ValueError):
    """The bytes are not a data stream of this specification."""


class Control(enum.Enum):
    """Control tokens that stand outside of values (Core 3.2.2.4)."""

    CALL = 0xF8
    END_OF_DATA = 0xF9
    END_OF_SESSION = 0xFA
    START_TRANSACTION = 0xFB
    END_TRANSACTION = 0xFC


@dataclass(frozen=True)
class Name:
    """A named value: the key is a number, or a string in the parameters of Properties."""

    key: Value
    value: Value


Value: TypeAlias = "int | bytes | Name | list[Value]"
Item: TypeAlias = "Value | Control"


def encode(*items: Item) -> bytes:
    """Return the tokens of values and control tokens, one after the other, each in its shortest form.

    Raises:
        CodecError: A number or a string is too long for any atom.
    """
    return b"".join(map(_encode, items))


def decode(stream: bytes) -> list[Item]:
    """Return the values and control tokens of a stream.

    Raises:
        CodecError: Some token is cut short, reserved, nested too deep or out of place.
    """
    return _Decoder(stream).items()


def named(values: Iterable[Value]) -> dict[Value, Value]:
    """Return named values as a dictionary.

    Raises:
        CodecError: One of them has no name, a name that is no atom, or the name of another.
    """
    found: dict[Value, Value] = {}
    for value in values:
        if not isinstance(value, Name) or not isinstance(value.key, int | bytes) or value.key in found:
            raise CodecError("expected values with a name each, no name twice")
        found[value.key] = value.value
    return found


def _encode(item: Item) -> bytes:
    if isinstance(item, Control):
        return bytes([item.value])
    if isinstance(item, int):
        return _encode_integer(int(item))
    if isinstance(item, bytes):
        return _atom(item, is_bytes=True, signed=False)
    if isinstance(item, Name):
        return bytes([_START_NAME]) + _encode(item.key) + _encode(item.value) + bytes([_END_NAME])
    return bytes([_START_LIST]) + b"".join(map(_encode, item)) + bytes([_END_LIST])


def _encode_integer(number: int) -> bytes:
    if 0 <= number <= _TINY_MAX:
        return bytes([number])
    if _TINY_SIGNED_MIN <= number < 0:
        return bytes([0x40 | number & 0x3F])
    magnitude = number if number > 0 else ~number
    sign_bits = 0 if number > 0 else 1
    length = (magnitude.bit_length() + sign_bits + 7) // 8
    if length > _MAX_INTEGER_BYTES:
        raise CodecError(f"number of {length} bytes, expected {_MAX_INTEGER_BYTES} at most")
    return _atom(number.to_bytes(length, "big", signed=number < 0), is_bytes=False, signed=number < 0)


def _atom(data: bytes, *, is_bytes: bool, signed: bool) -> bytes:
    """Return a short, medium or long atom (Core 3.2.2.3.1)."""
    length = len(data)
    if length <= _SHORT_MAX_BYTES:
        return bytes([0x80 | is_bytes << 5 | signed << 4 | length]) + data
    if length <= _MEDIUM_MAX_BYTES:
        return bytes([0xC0 | is_bytes << 4 | signed << 3 | length >> 8, length & 0xFF]) + data
    if length <= _LONG_MAX_BYTES:
        return bytes([0xE0 | is_bytes << 1 | signed]) + length.to_bytes(3, "big") + data
    raise CodecError(f"byte string of {length} bytes, expected {_LONG_MAX_BYTES} at most")


class _Decoder:
    """Reads one stream from front to back."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._at = 0

    def items(self) -> list[Item]:
        items: list[Item] = []
        while self._skip_empty():
            byte = self._stream[self._at]
            if byte in _CONTROLS:
                self._at += 1
                items.append(_CONTROLS[byte])
            else:
                items.append(self._value(0))
        return items

    def _skip_empty(self) -> bool:
        """Pass over empty atoms; tell whether anything is left."""
        while self._at < len(self._stream) and self._stream[self._at] == _EMPTY:
            self._at += 1
        return self._at < len(self._stream)

    def _peek(self) -> int:
        if not self._skip_empty():
            raise CodecError("the stream ends inside a value")
        return self._stream[self._at]

    def _value(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise CodecError(f"nested deeper than {_MAX_DEPTH}")
        first = self._peek()
        if first == _START_LIST:
            return self._list(depth)
        if first == _START_NAME:
            return self._name(depth)
        if first < 0x40:
            self._at += 1
            return first
        if first < 0x80:
            self._at += 1
            return (first & 0x3F) - (0x40 if first & 0x20 else 0)
        return self._long_atom(first)

    def _list(self, depth: int) -> Value:
        self._at += 1
        values: list[Value] = []
        while self._peek() != _END_LIST:
            values.append(self._value(depth + 1))
        self._at += 1
        return values

    def _name(self, depth: int) -> Value:
        self._at += 1
        key, value = self._value(depth + 1), self._value(depth + 1)
        if self._peek() != _END_NAME:
            raise CodecError("a named value has more than a name and a value")
        self._at += 1
        return Name(key, value)

    def _long_atom(self, first: int) -> Value:
        """Return the value of a short, medium or long atom."""
        if first < 0xC0:
            header, is_bytes, signed, length = 1, first & 0x20, first & 0x10, first & 0xF
        elif first < 0xE0:
            header, is_bytes, signed = 2, first & 0x10, first & 0x08
            length = (first & 7) << 8 | self._header_byte(1)
        elif first < 0xE4:
            header, is_bytes, signed = 4, first & 2, first & 1
            length = self._header_byte(1) << 16 | self._header_byte(2) << 8 | self._header_byte(3)
        else:
            raise CodecError(f"token 0x{first:02x} is reserved or out of place")
        data = self._stream[self._at + header : self._at + header + length]
        if len(data) < length:
            raise CodecError(f"atom of {length} bytes, {len(data)} left in the stream")
        self._at += header + length
        if is_bytes and signed:
            raise CodecError("continued byte strings are not supported")
        if is_bytes:
            return data
        if not 1 <= length <= _MAX_INTEGER_BYTES:
            raise CodecError(f"number of {length} bytes, expected 1 to {_MAX_INTEGER_BYTES}")
        return int.from_bytes(data, "big", signed=bool(signed))

    def _header_byte(self, offset: int) -> int:
        if self._at + offset >= len(self._stream):
            raise CodecError("the stream ends inside an atom's header")
        return self._stream[self._at + offset]


_CONTROLS = {control.value: control for control in Control}
