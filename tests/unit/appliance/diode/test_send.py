"""What the sender says: every record as often as it shall, the copies apart, only what is signed, from where it was."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest

from appliance.diode.config import load
from appliance.diode.message import Entry, Form, Head, Long
from appliance.diode.send import BLOCK, Bucket, Sender
from custody.errors import InputInvalid, LedgerBroken
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.report import SilentReporter
from tests.unit.appliance.diode.conftest import ORIGIN, Line, entries

FORM = Form(ORIGIN)
#: RFC 5424, section 6: PRI VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG].
RFC5424 = re.compile(
    rb'<(\d{1,3})>1 - - [!-~]{1,48} - [!-~]{1,32} \[[!#-<>-\\^-~]+( [!#-<>-\\^-~]+="([^"\\\]]|\\["\\\]])*")*\]( .*)?',
    re.DOTALL,
)


def seqs(said: list[bytes]) -> list[int]:
    """Numbers of the entries, in the order in which they were said."""
    return [found.seq for found in map(FORM.parse, said) if isinstance(found, Entry)]


def test_every_record_is_said_twice_and_the_copies_are_apart(line: Line) -> None:
    line.append(entries(1000))
    assert seqs(line.send()) == [*range(1000), *range(1000)]
    assert line.send() == []


def test_entries_are_said_as_they_stand_in_the_log(line: Line) -> None:
    wanted = [*entries(3), '{"text":"ä \\" ] \\\\"}'.encode()]
    line.append(wanted)
    said = [found.data for found in map(FORM.parse, line.send()) if isinstance(found, Entry)]
    assert said == wanted * 2


def test_what_no_checkpoint_covers_is_not_said(line: Line) -> None:
    line.append(entries(5))
    line.log.append(entries(5, 5))  # durable, and acknowledged; a crash may still show it for torn
    assert set(seqs(line.send())) == set(range(5))
    line.log.checkpoint()
    assert set(seqs(line.send())) == set(range(5, 10))


def test_the_tree_head_goes_before_and_after_and_says_how_far(line: Line) -> None:
    line.append(entries(BLOCK + 10))
    found = [FORM.parse(message) for message in line.send()]
    assert [each.sent for each in found if isinstance(each, Head)] == [0, 0, *[BLOCK] * 4, *[BLOCK + 10] * 2]
    note = (line.log_folder / "checkpoint").read_bytes()
    assert {each.note for each in found if isinstance(each, Head)} == {note}
    assert isinstance(found[0], Head)
    assert isinstance(found[-1], Head)


def test_an_entry_that_no_datagram_holds_is_announced(line: Line) -> None:
    line.append([*entries(1), *entries(1, 1, 30_000), *entries(1, 2)])
    said = line.send()
    assert max(map(len, said)) <= line.settings.datagram_bytes == 1452
    assert [each for each in map(FORM.parse, said) if isinstance(each, Long)] == [Long(1, 30_019)] * 2
    assert seqs(said) == [0, 2] * 2


def test_every_message_is_rfc_5424(line: Line) -> None:
    line.append([*entries(2), *entries(1, 2, 30_000)])
    for message in line.send():
        found = RFC5424.fullmatch(message)
        assert found, message
        assert int(found[1]) == 110


def test_an_origin_with_quotes_and_brackets_is_escaped() -> None:
    form = Form('a"b]c\\d')
    message = form.entry(1, b"{}")
    assert RFC5424.fullmatch(message)
    assert b'log="a\\"b\\]c\\\\d"' in message
    assert form.parse(message) == Entry(1, b"{}")
    assert FORM.parse(message) is None


def test_a_sender_that_starts_again_goes_on(line: Line) -> None:
    line.append(entries(BLOCK * 2))
    assert line.sender.step()  # one block, and it is killed
    line.wire.clear()
    line.sender = line.new_sender()
    assert seqs(line.send()) == [*range(BLOCK, BLOCK * 2)] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"log": 1}', '{"log": "other+1+AA==", "next": 7}'])
def test_a_position_that_is_none_or_of_another_log_begins_anew(line: Line, text: str) -> None:
    line.append(entries(5))
    line.send()
    line.settings.position.write_text(text)
    line.sender = line.new_sender()
    assert seqs(line.send()) == [*range(5)] * 2


def test_the_newest_tree_head_is_said_again_when_nothing_is_new(line: Line) -> None:
    line.append(entries(3))
    line.sender = line.new_sender(idle_s=0.01)
    assert line.sender.step()
    line.wire.clear()
    time.sleep(0.02)
    assert line.sender.step()
    assert [FORM.parse(message) for message in line.wire] == [
        Head((line.log_folder / "checkpoint").read_bytes(), 3)
    ] * 2  # fmt: skip


def test_segments_that_follow_one_another_are_followed(line: Line) -> None:
    line.append(entries(SEGMENT_ENTRIES - 1000))
    first = seqs(line.send())
    line.append(entries(2000, SEGMENT_ENTRIES - 1000))
    assert len(line.log.view.segments()) == 2
    assert sorted({*first, *seqs(line.send())}) == list(range(SEGMENT_ENTRIES + 1000))


def test_a_log_with_less_than_its_checkpoint_covers_is_refused(line: Line) -> None:
    line.append(entries(3))
    segment = next((line.log_folder / "segments").iterdir())
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:1]))
    with pytest.raises(LedgerBroken, match="entry 0 is not there"):
        line.sender.step()


def test_the_bucket_gives_no_more_than_the_rate() -> None:
    bucket, done, stop = Bucket(200, 0.01), [0], threading.Event()

    def take() -> None:
        while not stop.is_set():
            bucket.take()
            done[0] += 1

    begun = time.monotonic()
    thread = threading.Thread(target=take)
    thread.start()
    while done[0] < 60:
        time.sleep(0.005)
    span_s = time.monotonic() - begun
    stop.set()
    thread.join()
    assert span_s >= (60 - 1 - 2) / 200  # never faster; how much slower is the machine's business


def test_a_pause_is_made_up_for_a_quarter_above_the_rate(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1,000 records a second, each said once: 250 are owed after a pause of a second, and never more."""
    clock = [1000.0]
    monkeypatch.setattr("appliance.diode.send.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("appliance.diode.send.time.sleep", lambda span_s: clock.__setitem__(0, clock[0] + span_s))
    settings = line.settings.model_copy(update={"rate": 1000, "repeat": 1})
    said: list[float] = []
    sender = Sender(settings, lambda _data: said.append(clock[0]), SilentReporter())
    clock[0] += 1.0
    begun = clock[0]
    while clock[0] < begun + 4:
        sender._say(b"record")
    counts = [sum(begun + n <= at < begun + n + 1 for at in said) for n in range(4)]
    assert counts[0] == pytest.approx(1250, abs=20)
    assert counts[1:] == pytest.approx([1000] * 3, abs=5)


def test_settings_are_strict(tmp_path: Path) -> None:
    file = tmp_path / "diode.json"
    good = {"schema_version": 1, "log": "/l", "position": "/p", "port": 5514, "address": "192.0.2.1"}
    file.write_text(json.dumps(good))
    assert load(file).datagram_bytes == 1452
    changes = ({"address": "nobody"}, {"rate": 0}, {"more": 1}, {"port": 0}, {"schema_version": 2})
    for text in ("", "{", "{}", *(json.dumps(good | change) for change in changes)):
        file.write_text(text)
        with pytest.raises(InputInvalid):
            load(file)
