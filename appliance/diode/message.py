"""What goes through the diode: RFC 5424 messages, one a datagram (RFC 5426), in one spelling that is all that is read.

    <110>1 - - airgap - entry [airgap@32473 log="ORIGIN" seq="5"] {"...":"the entry, as it stands in the log"}
    <110>1 - - airgap - long [airgap@32473 log="ORIGIN" seq="6" size="65000"]
    <110>1 - - airgap - checkpoint [airgap@32473 log="ORIGIN" size="9" sent="7" note="BASE64"]

110 is facility 13 (log audit), severity 6 (RFC 5424, 6.2.1). Time and host are nil: an entry has its own, and copies
are alike. `long` stands for an entry that no datagram holds. `sent` says that every entry before it was said as often
as it will be; what is missing below it is lost. `note` is the signed tree head (C2SP `tlog-checkpoint`).
32473 is the number that RFC 5612 gives to examples: this project has none of its own.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from custody.ledger.segment import ENTRY_MAX_BYTES

#: Messages that are longer are never sent: the largest payload of a UDP datagram over IPv4.
LIMIT_BYTES = 65_507
_SD_ID = "airgap@32473"
_NUMBER = rb"(0|[1-9][0-9]{0,18})"
_LONG = re.compile(rb'%b" size="%b"\]' % (_NUMBER, _NUMBER))
_HEAD = re.compile(rb'%b" sent="%b" note="([A-Za-z0-9+/]{1,8192}={0,2})"\]' % (_NUMBER, _NUMBER))
_DIGITS = re.compile(_NUMBER)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log, by its number."""

    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Long:
    """An entry that only a file can bring."""

    seq: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint as the log signed it, not verified yet; `sent`: entries that were said as often as they will be."""

    note: bytes
    sent: int


Message = Entry | Long | Head


class Form:
    """Messages of one log."""

    def __init__(self, origin: str) -> None:
        escaped = re.sub(r'(["\\\]])', r"\\\1", origin)  # RFC 5424, 6.3.3
        begin = f'<110>1 - - airgap - %s [{_SD_ID} log="{escaped}" %s="'
        self._entry, self._long, self._head = (
            (begin % kind).encode() for kind in (("entry", "seq"), ("long", "seq"), ("checkpoint", "size"))
        )

    def entry(self, seq: int, data: bytes) -> bytes:
        """The message of an entry."""
        return b'%b%d"] %b' % (self._entry, seq, data)

    def long(self, seq: int, size_bytes: int) -> bytes:
        """The message in place of an entry that is too long for a datagram."""
        return b'%b%d" size="%d"]' % (self._long, seq, size_bytes)

    def head(self, note: bytes, size: int, sent: int) -> bytes:
        """The message of a signed tree head over `size` entries."""
        return b'%b%d" sent="%d" note="%b"]' % (self._head, size, sent, base64.b64encode(note))

    def parse(self, message: bytes) -> Message | None:
        """Read a message of this log; None of everything else."""
        if message.startswith(self._entry):
            return self._parse_entry(message)
        if message.startswith(self._long):
            found = _LONG.fullmatch(message, len(self._long))
            return Long(int(found[1]), int(found[2])) if found and int(found[2]) <= ENTRY_MAX_BYTES else None
        if message.startswith(self._head):
            found = _HEAD.fullmatch(message, len(self._head))
            if not found:
                return None
            try:
                return Head(base64.b64decode(found[3], validate=True), int(found[2]))
            except binascii.Error:
                return None
        return None

    def _parse_entry(self, message: bytes) -> Entry | None:
        begin = len(self._entry)
        end = message.find(b'"] {', begin, begin + 24)
        if end < 0 or not message.endswith(b"}") or not _DIGITS.fullmatch(message, begin, end):
            return None
        data = message[end + 3 :]
        return Entry(int(message[begin:end]), data) if b"\n" not in data and len(data) <= ENTRY_MAX_BYTES else None
