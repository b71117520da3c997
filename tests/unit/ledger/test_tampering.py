"""What somebody does to a log who can write its files: each is found and named."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.errors import InputInvalid, LedgerBroken
from custody.ledger import origin
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.export import export
from custody.ledger.log import open_log
from custody.ledger.segment import SEGMENT_ENTRIES
from custody.ledger.tree import EMPTY_ROOT, Frontier, leaf_hash
from custody.ledger.verify import verify
from custody.ledger.view import View

ORIGIN = "site-7.example/custody"
SEGMENT = Path("segments") / f"{0:020}.log"


def make(folder: Path) -> list[Checkpoint]:
    """Five groups of four entries, a checkpoint after the second and the fifth."""
    heads = []
    origin.make(folder, ORIGIN)
    with open_log(folder) as log:
        for group in range(5):
            log.append([b'{"n":%d,"who":"alice"}' % (4 * group + i) for i in range(4)])
            if group in {1, 4}:
                heads.append(log.checkpoint())
    return heads


def sign_nothing(folder: Path) -> None:
    """The checkpoint of an empty log, made by somebody who has the log's key: it says nothing of any entry."""
    (folder / "checkpoint").write_bytes(Checkpoint(ORIGIN, 0, EMPTY_ROOT).signed_by(origin.load(folder)).dump())


def rehash(text: str) -> str:
    """The segment with the lines that end groups made anew, by somebody who knows how."""
    frontier, first, lines = Frontier(), 0, []
    for line in text.splitlines():
        if line.startswith("#"):
            root = base64.b64encode(frontier.root()).decode()
            line, first = f"#{first} {frontier.size} {root}", frontier.size
        else:
            frontier.extend([leaf_hash(line.encode())])
        lines.append(line + "\n")
    return "".join(lines)


def lines_swapped(text: str) -> str:
    return text.replace('{"n":5,', "?").replace('{"n":6,', '{"n":5,').replace("?", '{"n":6,')


#: What is done to the text, and what the log is then said to be.
CHANGES: dict[str, tuple[Callable[[str], str], str]] = {
    "change": (lambda t: t.replace('"n":5,"who":"alice"', '"n":5,"who":"mallo"'), "entry 5 was changed"),
    "delete": (lambda t: t.replace('{"n":5,"who":"alice"}\n', ""), "entry 5 was changed"),
    "reorder": (lines_swapped, "entry 5 was changed"),
    "insert": (lambda t: t.replace('{"n":5,', '{"n":99}\n{"n":5,'), "entry 5 was changed"),
    "delete a group": (lambda t: re.sub(r'\{"n":4(.*\n){5}', "", t), "entry 4 was changed"),
    "cut off the tail": (lambda t: t[: t.index('{"n":16')], "cut off"),
    "cut off all but what an older checkpoint covers": (lambda t: t[: t.index('{"n":8')], "cut off"),
    "cut off in a group": (lambda t: t[: t.index('{"n":18')], "after entry 15"),
    "empty": (lambda t: "", "cut off"),
    "add what is no group": (lambda t: t + '{"n":20}\n#19 21 AAAA\n' * 2, ""),
}
#: The same by somebody who makes the hashes of groups anew.
REHASHED = {name: change for name, (change, _found) in CHANGES.items() if not name.startswith(("add", "cut off in"))}


@pytest.mark.parametrize("name", [name for name in CHANGES if not name.startswith("add")])
@pytest.mark.parametrize("hashes", ["hashes kept", "hashes removed"])
def test_verify_finds_what_was_done_to_the_entries(tmp_path: Path, name: str, hashes: str) -> None:
    make(tmp_path)
    change, said = CHANGES[name]
    text = (tmp_path / SEGMENT).read_text()
    assert change(text) != text
    (tmp_path / SEGMENT).write_text(change(text))
    if hashes == "hashes removed":
        shutil.rmtree(tmp_path / "hashes")
        said = "" if "entry" in said else said
    with pytest.raises(LedgerBroken, match=said or None):
        verify(View(tmp_path))
    with pytest.raises(LedgerBroken), open_log(tmp_path):
        pass


@pytest.mark.parametrize("name", REHASHED)
def test_verify_finds_it_though_groups_were_made_anew(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    text = (tmp_path / SEGMENT).read_text()
    (tmp_path / SEGMENT).write_text(rehash(REHASHED[name](text)))
    shutil.rmtree(tmp_path / "hashes")
    with pytest.raises(LedgerBroken, match=r"not those that a checkpoint was signed over|cut off"):
        verify(View(tmp_path))
    with pytest.raises(LedgerBroken), open_log(tmp_path):
        pass


@pytest.mark.parametrize("name", REHASHED)
def test_who_signs_anew_is_found_by_the_checkpoint_that_left_before(tmp_path: Path, name: str) -> None:
    """Root on the host has the log's key: nothing on the host tells. An older checkpoint does, wherever it lies."""
    older, newest = make(tmp_path)
    text = (tmp_path / SEGMENT).read_text()
    (tmp_path / SEGMENT).write_text(rehash(REHASHED[name](text)))
    shutil.rmtree(tmp_path / "hashes")
    sign_nothing(tmp_path)
    with open_log(tmp_path) as log:
        log.append([b'{"n":%d,"who":"mallo"}' % i for i in range(30)])
        log.checkpoint()
    assert verify(View(tmp_path)).torn_bytes == 0
    with pytest.raises(LedgerBroken, match="not those that a checkpoint was signed over"):
        verify(View(tmp_path), [newest])
    if name not in {"cut off the tail", "cut off all but what an older checkpoint covers"}:
        with pytest.raises(LedgerBroken):
            verify(View(tmp_path), [older])


@pytest.mark.parametrize("hashes", ["hashes kept", "hashes removed"])
def test_a_log_whose_checkpoint_was_taken_away_is_refused_and_not_signed_anew(tmp_path: Path, hashes: str) -> None:
    """By somebody without the log's key: the process would sign the past that he made."""
    make(tmp_path)
    text = (tmp_path / SEGMENT).read_text()
    (tmp_path / SEGMENT).write_text(rehash(text.replace("alice", "mallo")))
    (tmp_path / "checkpoint").unlink()
    if hashes == "hashes removed":
        shutil.rmtree(tmp_path / "hashes")
    with pytest.raises(LedgerBroken, match=r"no checkpoint|stored hash") as found:
        verify(View(tmp_path))
    if hashes == "hashes removed":
        assert "or this is a copy whose first one has not come" in str(found.value)
        assert "diode fill" in found.value.hint
    with pytest.raises(LedgerBroken, match="20 entries, and no checkpoint"), open_log(tmp_path):
        pass
    assert not (tmp_path / "checkpoint").exists()


def test_an_old_image_put_back_is_found_by_a_newer_checkpoint(tmp_path: Path) -> None:
    make(tmp_path / "log")
    shutil.copytree(tmp_path / "log", tmp_path / "image")
    with open_log(tmp_path / "log") as log:
        log.append([b"{}"])
        head = log.checkpoint()
    assert verify(View(tmp_path / "image")).size == 20
    with pytest.raises(LedgerBroken, match="cut off"):
        verify(View(tmp_path / "image"), [head])


def test_a_changed_hash_is_found_and_misleads_nobody(tmp_path: Path) -> None:
    make(tmp_path)
    file = tmp_path / "hashes/0"
    data = bytearray(file.read_bytes())
    data[5 * 32] ^= 1
    file.write_bytes(data)
    view = View(tmp_path)
    head = view.checkpoint()
    assert head is not None
    with pytest.raises(LedgerBroken, match="entry 5 is not the one that its stored hash is of"):
        verify(view)
    with pytest.raises(LedgerBroken, match="was changed"):
        view.prove(4, head)
    with open_log(tmp_path):
        pass  # makes them anew
    assert verify(View(tmp_path)).size == 20


def test_a_changed_hash_of_a_tile_is_found(tmp_path: Path) -> None:
    origin.make(tmp_path, ORIGIN)
    with open_log(tmp_path) as log:
        log.append([b"{}"] * 600)
        head = log.checkpoint()
    file = tmp_path / "hashes/1"
    file.write_bytes(file.read_bytes()[:32] + bytes(32))
    with pytest.raises(LedgerBroken, match="of level 1 was changed, the entries were not"):
        verify(View(tmp_path))
    with pytest.raises(LedgerBroken, match="the hashes are not those"):
        export(View(tmp_path), tmp_path / "out")
    with pytest.raises(LedgerBroken):
        View(tmp_path).prove(599, head)
    file.unlink()
    with pytest.raises(LedgerBroken, match="missing"):
        export(View(tmp_path), tmp_path / "out")
    with open_log(tmp_path):
        pass
    export(View(tmp_path), tmp_path / "out")


def test_a_missing_or_foreign_segment_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "segments/foreign").touch()
    with pytest.raises(LedgerBroken, match="foreign"):
        verify(View(tmp_path))
    (tmp_path / "segments/foreign").rename(tmp_path / SEGMENT)
    with pytest.raises(LedgerBroken, match="cut off"):
        verify(View(tmp_path))
    (tmp_path / SEGMENT).unlink()
    with pytest.raises(LedgerBroken, match="cut off"):
        verify(View(tmp_path))


def test_a_group_beyond_a_segment_s_end_and_a_segment_that_is_not_full_are_refused(tmp_path: Path) -> None:
    """Somebody who has no need of hashes: the log as it would be, had it been written so."""
    origin.make(tmp_path, ORIGIN)
    size = SEGMENT_ENTRIES
    with open_log(tmp_path) as log:
        log.append([b"{}"] * (size - 2))
        log.append([b"{}", b"{}", b'{"next":1}'])
    first, second = sorted((tmp_path / "segments").iterdir())
    text, rest = first.read_text(), second.read_text()
    first.write_text(text + rest)
    second.unlink()
    sign_nothing(tmp_path)
    for name in ("0", "1", "2"):
        (tmp_path / "hashes" / name).unlink()
    with pytest.raises(LedgerBroken, match="was changed"), open_log(tmp_path):
        pass
    last = text[: text.rindex("{}\n{}\n#")]
    first.write_text(last)
    second.write_text(rest)
    with pytest.raises(LedgerBroken, match="entries are missing or too many"):
        verify(View(tmp_path))


def test_who_cannot_write_makes_no_other_log(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="expected a log"), open_log(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
