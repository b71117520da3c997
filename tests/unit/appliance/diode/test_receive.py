"""What the receiver makes of it: all of it when nothing is lost, else the gaps exactly, nothing of lies."""

from __future__ import annotations

import base64
import os
import random
import shutil
from pathlib import Path

import pytest

from appliance.diode.fill import fill
from appliance.diode.message import Entry, Form
from appliance.diode.receive import _SLACK
from custody.errors import AlreadyRunning, EntriesMissing, InputInvalid, LedgerBroken
from custody.ledger import origin
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.log import open_log
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.ledger.verify import verify
from custody.ledger.view import View
from custody.lock import alone
from custody.report import SilentReporter
from tests.unit.appliance.diode.conftest import ORIGIN, Line, entries, losing

FORM = Form(ORIGIN)


def numbers(runs: tuple[range, ...]) -> set[int]:
    """What ranges name."""
    return {number for run in runs for number in run}


def mirrored(line: Line) -> list[bytes]:
    """Entries that count, out of a folder that the ledger's own tool finds intact."""
    view = View(line.far, key=line.key)
    found = verify(view)
    assert found.signed == found.size
    return [entry for _number, entry in view.entries(0, found.size)]


def test_all_of_it_arrives_and_is_verified(line: Line) -> None:
    found = line.run(entries(3000))
    assert (found.verdict, found.verified, found.signed) == ("complete", 3000, 3000)
    assert found.heard.copies == 3000
    assert found.problem is None
    assert mirrored(line) == entries(3000)
    found = line.run(entries(3000, 3000))
    assert (found.verdict, found.verified) == ("complete", 6000)
    assert mirrored(line) == entries(6000)


def test_more_than_a_segment_arrives(line: Line) -> None:
    line.run(entries(SEGMENT_ENTRIES - 5))
    found = line.run(entries(1010, SEGMENT_ENTRIES - 5))
    assert (found.verdict, found.verified) == ("complete", SEGMENT_ENTRIES + 1005)
    assert len(mirrored(line)) == SEGMENT_ENTRIES + 1005
    assert [path.name for path in line.received.glob("*.part")] == [f"{SEGMENT_ENTRIES:020}.part"]


def test_a_lost_copy_is_no_loss(line: Line) -> None:
    assert line.run(entries(500), lambda number: number % 2 == 0).verdict == "complete"


def test_every_gap_is_told_and_nothing_else(line: Line) -> None:
    line.append(entries(20_000))
    said = line.send()
    passes = losing(0.1, 7)
    kept = [message for number, message in enumerate(said) if passes(number)]
    line.deliver(kept)
    came = {found.seq for found in map(FORM.parse, kept) if isinstance(found, Entry)}
    standing = line.standing()
    assert standing.verdict == "missing"
    assert 0 < len(came) < 20_000
    assert numbers(standing.missing) == set(range(20_000)) - came
    assert isinstance(standing.problem, EntriesMissing)
    assert all(a.stop < b.start for a, b in zip(standing.missing, standing.missing[1:], strict=False))


def test_a_gap_that_closes_late_is_verified(line: Line) -> None:
    line.append(entries(100))
    said = line.send()
    lost = [message for message in said if isinstance(found := FORM.parse(message), Entry) and found.seq == 5]
    line.deliver([message for message in said if message not in lost])
    assert numbers(line.standing().missing) == {5}
    line.run(entries(100, 100))
    assert line.standing().verified == 0
    line.deliver(lost[:1])
    assert (line.standing().verdict, line.standing().verified) == ("complete", 200)


def test_what_is_under_way_is_not_missing(line: Line) -> None:
    line.append(entries(1000))
    said = line.send()
    line.deliver(said[:1200])  # the first copies, and not all of the second; one is lost so far
    assert line.standing().verdict == "complete"
    line.append(entries(1000, 1000))
    said = line.send()
    line.deliver(said[:500])
    assert (line.standing().verdict, line.standing().missing) == ("under way", ())
    assert line.standing().problem is None


def test_what_waited_long_behind_a_gap_is_read_from_the_disk(line: Line) -> None:
    said = []
    for start in range(0, 90_000, 9_000):
        line.append(entries(9_000, start))
        said += line.send()
    lost = FORM.entry(5, entries(1, 5)[0])
    line.deliver([message for message in said if message != lost])
    line.receiver = line.new_receiver()  # which remembers nothing of them
    assert (line.standing().verified, numbers(line.standing().missing)) == (0, {5})
    line.deliver([lost])
    line.receiver.advance()
    assert (line.standing().verdict, line.standing().verified) == ("complete", 90_000)
    assert mirrored(line) == entries(90_000)


def test_an_old_tree_head_said_again_does_not_hide_a_silence(line: Line) -> None:
    line.run(entries(10))
    old = FORM.head((line.log_folder / "checkpoint").read_bytes(), 10, 10)
    line.run(entries(10, 10))
    line.receiver.heard.at = "2020-01-01T00:00:00+00:00"
    line.deliver([old])
    assert line.receiver.heard.at.startswith("2020")


def test_order_does_not_matter(line: Line) -> None:
    line.append(entries(2000))
    said = line.send()
    random.Random(3).shuffle(said)
    line.deliver(said)
    assert line.standing().verdict == "complete"


def test_the_file_path_brings_all_of_it(line: Line) -> None:
    line.run([*entries(2000), *entries(1, 2000, 40_000), *entries(2000, 2001)], losing(0.1, 1))
    before = line.standing()
    assert numbers(before.too_long) <= {2000}
    found = fill(line.far, line.export(), SilentReporter())
    assert found.size == 4001
    assert found.brought == len(numbers(before.missing) | numbers(before.too_long) | {2000})
    assert found.compared == 1
    assert not found.overruled
    assert line.standing().verdict == "complete"
    assert mirrored(line) == [*entries(2000), *entries(1, 2000, 40_000), *entries(2000, 2001)]


def test_a_receiver_goes_on_beside_a_fill(line: Line) -> None:
    line.run(entries(3000), losing(0.2, 2))
    assert line.standing().verified == 0
    fill(line.far, line.export(), SilentReporter())
    found = line.run(entries(100, 3000))  # the same receiver, which opened the mirror before
    assert (found.verdict, found.verified) == ("complete", 3100)
    assert mirrored(line) == entries(3100)


def test_a_receiver_does_not_wait_for_a_fill(line: Line) -> None:
    line.append(entries(50))
    with alone(line.far / "lock", "a fill"):
        line.deliver(line.send())
        assert line.standing().verdict == "under way"
    line.receiver.advance()
    assert line.standing().verdict == "complete"


def test_a_second_fill_and_an_older_export(line: Line) -> None:
    line.run(entries(300), losing(0.3, 4))
    old = line.export("old")
    line.append(entries(300, 300))
    fill(line.far, line.export("new"), SilentReporter())
    assert fill(line.far, line.base / "new", SilentReporter()).brought == 0
    with pytest.raises(InputInvalid, match="600 are verified"):
        fill(line.far, old, SilentReporter())


def test_fill_refuses_an_export_that_was_changed(line: Line) -> None:
    line.run(entries(300), losing(0.3, 5))
    before = line.standing()
    export = line.export()
    bundle = export / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"seq":7,', b'"seq":8,'))
    with pytest.raises(LedgerBroken, match="export"):
        fill(line.far, export, SilentReporter())
    assert line.standing() == before
    bundle.unlink()
    with pytest.raises(LedgerBroken, match="not whole"):
        fill(line.far, export, SilentReporter())
    shutil.rmtree(export)
    with pytest.raises(InputInvalid, match="expected an export"):
        fill(line.far, export, SilentReporter())
    assert line.standing() == before


def test_somebody_else_who_speaks_first_is_found_and_overruled(line: Line) -> None:
    line.receiver.take(FORM.entry(3, b'{"seq":3,"text":"a lie"}'))
    found = line.run(entries(10))
    assert found.verdict == "contradicted"
    assert isinstance(found.problem, LedgerBroken)
    assert found.heard.conflicting == [3]
    assert line.run(entries(10, 10)).verdict == "contradicted"
    line.receiver = line.new_receiver()
    assert line.run(entries(10, 20)).verdict == "contradicted"
    assert fill(line.far, line.export(), SilentReporter()).overruled == [3]
    assert line.standing().verdict == "complete"
    assert line.run(entries(10, 30)).verdict == "complete"
    assert mirrored(line) == entries(40)


def test_what_was_verified_before_a_contradiction_stays(line: Line) -> None:
    line.run(entries(10))
    line.receiver.take(FORM.entry(12, b"{}"))
    assert line.run(entries(10, 10)).verdict == "contradicted"
    assert line.standing().verified == 10
    assert mirrored(line) == entries(10)


def test_two_pasts_are_found_though_the_log_signed_both(line: Line, tmp_path: Path) -> None:
    shutil.copytree(line.log_folder, tmp_path / "other", ignore=shutil.ignore_patterns("segments", "hashes"))
    with open_log(tmp_path / "other") as other:
        other.append([b'{"past":"another"}'] * 10)
        other.checkpoint()
    forged = (tmp_path / "other/checkpoint").read_bytes()
    line.run(entries(10))
    line.deliver([FORM.head(forged, 10, 10)])
    found = line.standing()
    assert (found.verdict, found.heard.forked) == ("forked", 10)
    assert isinstance(found.problem, LedgerBroken)
    assert (line.received / "forked").read_bytes() == forged


def test_two_pasts_beyond_a_gap_are_found_too(line: Line) -> None:
    line.run(entries(10), losing(0.5, 1))
    assert line.standing().verdict == "missing"
    signer = origin.load(line.log_folder)
    line.deliver([FORM.head(Checkpoint(ORIGIN, 10, bytes(32)).signed_by(signer).dump(), 10, 10)])
    assert line.standing().verdict == "forked"


def test_an_older_tree_head_said_again_is_nothing(line: Line) -> None:
    line.run(entries(10))
    old = (line.log_folder / "checkpoint").read_bytes()
    line.run(entries(10, 10))
    line.deliver([FORM.head(old, 10, 10)])
    assert line.standing().verdict == "complete"


def test_hostile_datagrams_are_refused(line: Line) -> None:
    line.run(entries(20))
    head = (line.log_folder / "checkpoint").read_bytes()
    other = origin.make(line.base / "stranger", ORIGIN)
    entry = FORM.entry(25, b'{"a":1}')
    hostile = [
        b"", b"\x00" * 65_507, b"<110>1", entry[:-1], entry + b"\n", entry + b"\n{}", b" " + entry,
        entry.replace(b'"25"', b'"025"'), entry.replace(b'"25"', b'"-1"'), entry.replace(b'"25"', b'"2_5"'),
        entry.replace(b'"25"', b'"+5"'), entry.replace(b'"25"', b'" 5"'), entry.replace(b'"25"', "\"٢\"".encode()),
        entry.replace(b'"25"', b'"%s"' % (b"9" * 19)), entry.replace(b'"25"', b'"%s"' % (b"9" * 60_000)),
        entry.replace(b'"25"', b'""'), entry.replace(b"110", b"111"), entry.replace(b"site-7", b"site-8"),
        FORM.entry(20 + _SLACK, b"{}"), FORM.entry(2**63, b"{}"), FORM.long(2**62, 5), FORM.long(25, 99_999),
        FORM.long(25, 5) + b"x", FORM.entry(25, b"[]"), FORM.entry(25, b"{\n}"),
        FORM.head(b"", 5, 5), FORM.head(b"x" * 7000, 5, 5), FORM.head(head, 5, 5) + b" ",
        FORM.head(head, 5, 5).replace(b'note="', b'note="='), FORM.head(head[:-3], 5, 5),
        FORM.head(Checkpoint(ORIGIN, 2**60, bytes(32)).signed_by(other).dump(), 2**60, 2**60),
        FORM.head(head.replace(b"\n20\n", b"\n21\n"), 21, 21),
    ]  # fmt: skip
    before = line.standing()
    files = {path: path.stat().st_size for path in line.received.glob("*.part")}
    line.deliver(hostile)
    found = line.standing()
    assert found.heard.refused == len(hostile)
    assert (found.verdict, found.verified, found.signed, found.missing) == ("complete", 20, 20, ())
    assert found.heard.sent == before.heard.sent
    assert {path: path.stat().st_size for path in line.received.glob("*.part")} == files


def test_a_tree_head_cannot_be_made_to_say_that_more_was_sent(line: Line) -> None:
    line.run(entries(20))
    line.deliver([FORM.head((line.log_folder / "checkpoint").read_bytes(), 20, 2**60)])
    assert (line.standing().verdict, line.standing().heard.sent) == ("complete", 20)


def test_a_flood_takes_no_more_room_than_the_log_may(line: Line) -> None:
    chance = random.Random(1)
    flood = [FORM.entry(chance.randrange(2**40), b"{%b}" % (b"x" * 1000)) for _ in range(2000)]
    flood += [FORM.entry(seq, b"{}") for seq in range(0, 4 * _SLACK, 7)]
    flood += [FORM.long(seq, 60_000) for seq in range(0, 4 * _SLACK, 7)]
    flood += [chance.randbytes(chance.randrange(2000)) for _ in range(2000)]
    line.deliver(flood)
    assert sum(path.stat().st_size for path in line.received.iterdir()) < _SLACK * 16
    assert line.standing().heard.conflicts == 0


def test_random_damage_to_messages_never_ends_the_receiver(line: Line) -> None:
    line.append(entries(200))
    chance = random.Random(11)
    for message in line.send():
        data = bytearray(message)
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        line.receiver.take(bytes(data[: chance.randrange(len(data) + 1)]))
    line.receiver.advance()
    line.receiver.save()
    assert line.standing().verified == 0 or mirrored(line) == entries(200)


def test_an_entry_comes_although_somebody_said_that_it_is_too_long(line: Line) -> None:
    line.receiver.take(FORM.long(3, 60_000))
    assert line.run(entries(10)).verdict == "complete"
    line.receiver = line.new_receiver()
    assert line.run(entries(10, 10)).verdict == "complete"


def test_a_receiver_that_starts_again_goes_on(line: Line) -> None:
    line.append(entries(5000))
    said = line.send()
    half = said[: len(said) // 4]
    line.deliver(half)
    line.receiver = line.new_receiver()  # the other was killed: it closed nothing
    came = {found.seq for found in map(FORM.parse, half) if isinstance(found, Entry)}
    assert line.standing().verified == 0
    line.deliver([message for message in said if FORM.parse(message) not in [FORM.parse(m) for m in half[1:20]]])
    assert len(came) > 1000
    assert (line.standing().verdict, line.standing().heard.conflicts) == ("complete", 0)
    assert mirrored(line) == entries(5000)


@pytest.mark.parametrize("torn", [b"7 {", b"7", b"7 {}x\n8 {\x00\n", b"\x00" * 100, b"x" * 200_000, b"70000 {}\n"])
def test_lines_that_a_kill_left_half_are_passed_over(line: Line, torn: bytes) -> None:
    line.append(entries(10))
    said = line.send()
    line.deliver([m for m in said if not (isinstance(f := FORM.parse(m), Entry) and f.seq in (7, 8))])
    (part,) = line.received.glob("*.part")
    with part.open("ab") as stream:
        stream.write(torn)
    with (line.received / "heads").open("ab") as stream:
        stream.write(base64.b64encode(b"half")[:-2])
    line.receiver = line.new_receiver()
    assert numbers(line.standing().missing) == {7, 8}
    line.deliver(said)
    assert (line.standing().verdict, line.standing().verified) == ("complete", 10)
    assert mirrored(line) == entries(10)


def test_what_a_kill_left_behind_the_checkpoint_is_cut_off(line: Line) -> None:
    line.run(entries(10))
    before = mirrored(line)
    segment = next((line.far / "segments").iterdir())
    with segment.open("ab") as stream:
        stream.write(b'{"never":"verified"}\n#10 11 ')
    (line.far / "segments/00000000000000065536.log").write_bytes(b"{}\n")
    line.receiver = line.new_receiver()
    assert mirrored(line) == before
    assert line.run(entries(10, 10)).verdict == "complete"


@pytest.mark.parametrize("what", ["segments/00000000000000000000.log", "hashes/0", "checkpoint"])
def test_a_mirror_that_was_changed_is_refused(line: Line, what: str) -> None:
    line.run(entries(300))
    data = bytearray((line.far / what).read_bytes())
    data[len(data) // 2] ^= 1
    (line.far / what).write_bytes(data)
    with pytest.raises(LedgerBroken):  # either the receiver or the tool says so
        line.new_receiver()
        verify(View(line.far, key=line.key))


def test_silence_is_a_finding(line: Line) -> None:
    from appliance.diode.standing import judge

    assert judge(line.far).verdict == "silent"
    line.run(entries(3))
    assert judge(line.far, 3600).verdict == "complete"
    state = line.received / "state.json"
    now = judge(line.far).heard.at
    state.write_text(state.read_text().replace(now, "2020-01-01T00:00:00+00:00"))
    found = judge(line.far, 300)
    assert found.verdict == "silent"
    assert isinstance(found.problem, EntriesMissing)
    assert judge(line.far).verdict == "complete"


def test_two_receivers_do_not_share_a_folder(line: Line) -> None:
    again = alone(line.far / "receiving.lock", "another receiver")
    with alone(line.far / "receiving.lock", "a receiver"), pytest.raises(AlreadyRunning), again:
        os.abort()
