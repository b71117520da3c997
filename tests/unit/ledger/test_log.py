"""A log on this machine's disk: numbers, segments, readers beside a writer, many threads, hashes made anew."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from custody.errors import AlreadyRunning, BundleMalformed, InputInvalid, LedgerBroken, SecretRefused, TargetRefused
from custody.ledger import origin, segment
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.disk import _OpenFile
from custody.ledger.export import tile_path
from custody.ledger.log import open_log
from custody.ledger.note import LogKey, Note
from custody.ledger.proof import Growth, Proof
from custody.ledger.tree import EMPTY_ROOT, inclusion_proof, leaf_hash, root_of_inclusion
from custody.ledger.verify import verify
from custody.ledger.view import CHECKPOINT, View

ORIGIN = "site-7.example/custody"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    origin.make(tmp_path / "log", ORIGIN)
    return tmp_path / "log"


def entries(start: int, stop: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, stop)]


def test_a_log_keeps_order_and_numbers_over_openings(folder: Path) -> None:
    with open_log(folder) as log:
        assert (log.append(entries(0, 3)), log.append([]), log.append(entries(3, 4))) == (
            range(3),
            range(3, 3),
            range(3, 4),
        )
        assert log.checkpoint().size == 4
    with open_log(folder) as log:
        assert (log.size, log.torn) == (4, None)
        assert log.append(entries(4, 5)) == range(4, 5)
    assert list(View(folder).entries()) == list(enumerate(entries(0, 5)))
    assert list(View(folder).entries(2, 4)) == [(2, b'{"n":2}'), (3, b'{"n":3}')]
    found = verify(View(folder))
    assert (found.size, found.signed) == (5, 4)


def test_an_empty_log_is_signed_too(folder: Path) -> None:
    with open_log(folder) as log:
        assert log.checkpoint() == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert verify(View(folder)).size == 0


def test_a_log_is_signed_before_its_first_entry(folder: Path) -> None:
    assert verify(View(folder)).size == 0, "begun, and never opened"
    with open_log(folder) as log:
        assert View(folder).checkpoint() == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
        log.append(entries(0, 2))
    found = verify(View(folder))
    assert (found.size, found.signed) == (2, 0), "a crash came before the next checkpoint"
    with open_log(folder) as log:
        assert (log.size, log.torn) == (2, None)


def test_an_entry_is_a_line_whatever_else_ends_lines_elsewhere(folder: Path) -> None:
    odd = [b'{"a":"\r\x0b\x0c\x1c\x85"}', b'{"b":"\xe2\x80\xa8"}', b'{"#":"#"}']
    with open_log(folder) as log:
        log.append(odd)
        head = log.checkpoint()
        assert [log.view.prove(index, head)[0] for index in range(3)] == odd
    with open_log(folder) as log:
        assert (log.size, log.torn) == (3, None)


_LONG = b"{" + b" " * 65535 + b"}"


@pytest.mark.parametrize("entry", [b"", b"1", b'{"a":1}\n', b'{"a":\n1}', b'{"a":"\0"}', b' {"a":1}', b"#{}", _LONG])
def test_what_is_no_entry_is_refused_and_nothing_of_it_written(folder: Path, entry: bytes) -> None:
    with open_log(folder) as log:
        with pytest.raises(InputInvalid):
            log.append([b"{}", entry])
        assert log.size == 0


def test_segments_end_where_tiles_do_and_groups_go_on_in_the_next(folder: Path) -> None:
    size = segment.SEGMENT_ENTRIES
    with open_log(folder) as log:
        log.append(entries(0, size - 3))
        assert log.append(entries(size - 3, size + 4)) == range(size - 3, size + 4)
        head = log.checkpoint()
    with open_log(folder) as log:
        assert log.size == size + 4
        log.append(entries(size + 4, size + 5))
        for index in (0, size - 1, size, size + 3):
            entry, path = log.view.prove(index, head)
            assert (entry, len(path) <= 17) == (b'{"n":%d}' % index, True)
    assert View(folder).segments() == [f"{0:020}.log", f"{size:020}.log"]
    assert verify(View(folder), [head]).size == size + 5
    for lost in (["hashes"], ["hashes/2"], ["hashes/0", "hashes/1"]):
        for name in lost:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with open_log(folder) as log:
            assert log.view.prove(7, log.checkpoint())[0] == b'{"n":7}'
    (folder / "hashes/2").write_bytes(bytes(32))
    with open_log(folder) as log:
        assert log.size == size + 5
        log.view.prove(7, log.checkpoint())
    assert verify(View(folder)).size == size + 5


def test_growth_is_proven_and_another_past_is_not(folder: Path, tmp_path: Path) -> None:
    heads = []
    with open_log(folder) as log:
        for size in (1, 6, 8, 300):
            log.append(entries(log.size, size))
            heads.append(log.checkpoint())
    view = View(folder)
    for old in heads:
        assert len(view.prove_growth(old, heads[-1])) <= 9
    with pytest.raises(LedgerBroken, match="the first 6 entries"):
        view.prove_growth(Checkpoint(ORIGIN, 6, bytes(32)), heads[-1])
    with pytest.raises(LedgerBroken, match="does not reach"):
        view.prove_growth(Checkpoint(ORIGIN, 301, bytes(32)), heads[-1])
    with pytest.raises(LedgerBroken, match="does not reach"):
        view.prove_growth(heads[0], Checkpoint(ORIGIN, 999, bytes(32)))


def test_a_proof_of_growth_is_read_back_and_bound_to_both_ends(folder: Path) -> None:
    heads = []
    with open_log(folder) as log:
        for size in (5, 9):
            log.append(entries(log.size, size))
            heads.append(log.checkpoint())
    view = View(folder)
    data = Growth(5, tuple(view.prove_growth(*heads)), (folder / CHECKPOINT).read_bytes()).dump()
    assert Growth.parse(data, "growth").verify(heads[0], view.key, "growth") == heads[1]
    for bad in (b"", data.replace(b"old 5", b"old 05"), data.replace(b"old", b"new"), data[:30], data[1:]):
        with pytest.raises(BundleMalformed):
            Growth.parse(bad, "growth")
    for old in (Checkpoint(ORIGIN, 5, bytes(32)), Checkpoint(ORIGIN, 4, heads[0].root)):
        with pytest.raises(LedgerBroken, match="does not go on"):
            Growth.parse(data, "growth").verify(old, view.key, "growth")


def test_one_writer_at_a_time(folder: Path) -> None:
    with open_log(folder), pytest.raises(AlreadyRunning, match="another writer"), open_log(folder):
        pass


def test_readers_see_whole_groups_while_somebody_writes(folder: Path) -> None:
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            view = View(folder)
            head = view.checkpoint()
            seen.append(verify(view).size)
            if head is not None and head.size:
                view.prove(head.size - 1, head)

    reader = threading.Thread(target=look)
    with open_log(folder) as log:
        reader.start()
        for number in range(0, 600, 3):
            log.append(entries(number, number + 3))
            if number % 30 == 0:
                log.checkpoint()
    stop.set()
    reader.join()
    assert seen
    assert all(size % 3 == 0 for size in seen)


def test_a_log_is_never_begun_twice_and_a_key_never_swapped(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetRefused):
        origin.make(folder, ORIGIN)
    origin.make(tmp_path / "other", ORIGIN)
    shutil.copy(tmp_path / "other/log.key", folder / "log.key")
    with pytest.raises(SecretRefused, match="another one"), open_log(folder):
        pass
    (folder / "log.key").chmod(0o644)
    with pytest.raises(SecretRefused, match="0644"), open_log(folder):
        pass
    with pytest.raises(InputInvalid, match="expected a log"):
        View(tmp_path)


@pytest.mark.parametrize("name", ["", "with blank", "with+plus", "ümlaut", "x" * 256, "line\n"])
def test_names_that_c2sp_advises_against_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputInvalid):
        origin.make(tmp_path / "log", name)


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n\n", "\n"),
    lambda text: text + "x",
    lambda text: text.replace("\n2\n", "\n02\n"),
    lambda text: text.replace("\n2\n", "\n2\nextension\n"),
    lambda text: text.replace("\n2\n", "\n-2\n"),
    lambda text: text.replace("=\n\n", "\n\n"),
    lambda text: text.replace("\N{EM DASH}", "-"),
    lambda text: text.replace("site-7", "site-8", 1),
    lambda text: text.replace("\n", "\r\n"),
])  # fmt: skip
def test_malformed_checkpoints_are_refused(folder: Path, change: object) -> None:
    with open_log(folder) as log:
        log.append(entries(0, 2))
        log.checkpoint()
    file = folder / CHECKPOINT
    assert callable(change)
    text = change(file.read_text())
    assert text != file.read_text()
    file.write_bytes(text.encode())
    with pytest.raises(LedgerBroken):
        verify(View(folder))
    with pytest.raises(LedgerBroken), open_log(folder):
        pass


def test_a_proof_is_read_back_and_bound_to_its_entry(folder: Path, tmp_path: Path) -> None:
    with open_log(folder) as log:
        log.append(entries(0, 9))
        head = log.checkpoint()
        entry, path = log.view.prove(5, head)
    data = Proof(5, tuple(path), (folder / CHECKPOINT).read_bytes()).dump()
    key = View(folder).key
    assert Proof.parse(data, "proof").verify(entry, key, "proof") == head
    with pytest.raises(LedgerBroken):
        Proof.parse(data, "proof").verify(b'{"n":6}', key, "proof")
    with pytest.raises(LedgerBroken):
        Proof.parse(data.replace(b"index 5", b"index 4"), "proof").verify(entry, key, "proof")
    for bad in (b"", data[:40], data.replace(b"@v1", b"@v2"), data.replace(b"index 5", b"index 05"), b"\xff" + data):
        with pytest.raises(BundleMalformed):
            Proof.parse(bad, "proof")
    other = origin.make(tmp_path / "other", ORIGIN).public
    with pytest.raises(Exception, match="expected a signature"):
        Proof.parse(data, "proof").verify(entry, other, "proof")


def test_tiles_lie_where_c2sp_puts_them() -> None:
    assert str(tile_path(0, 1234067, 256)) == "tile/0/x001/x234/067"
    assert str(tile_path(1, 5, 17)) == "tile/1/005.p/17"
    assert str(tile_path("entries", 1000, 256)) == "tile/entries/x001/000"


def test_a_key_of_another_kind_or_id_is_refused() -> None:
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert LogKey.parse(key).vkey == key
    for bad in ("", "a+b", key.replace("c7", "c8"), key.replace("ARpc", "BRpc"), key[:-4], key + "="):
        with pytest.raises(InputInvalid, match=r"expected one line NAME\+HASH\+KEY"):
            LogKey.parse(bad)
    with pytest.raises(InputInvalid, match=r"expected one line NAME\+HASH\+KEY"):
        LogKey.parse(LogKey.parse(key).pem.decode())
    with pytest.raises(BundleMalformed):
        Note.parse(b"text\n\n" + b"\xe2\x80\x94 a AAAAAAA=\n" * 65, "note")


@pytest.mark.nightly
def test_a_proof_among_a_million_entries_is_twenty_hashes(folder: Path) -> None:
    """O(log n): hashes in the proof, and bytes that are read for it, counted below the log."""
    size = 10**6
    with open_log(folder) as log:
        for start in range(0, size, 1000):
            log.append(entries(start, start + 1000))
        head = log.checkpoint()
        first = Checkpoint(ORIGIN, 1, leaf_hash(b'{"n":0}'))
        view, count, read = View(folder), [0], _OpenFile.read

        def counted(self: _OpenFile, offset: int, length: int) -> bytes:
            count[0] += length
            return read(self, offset, length)

        for index in (0, 1, 123_456, 999_999):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_OpenFile, "read", counted)
                count[0] = 0
                path = inclusion_proof(index, size, view.hashes.node)
            print(f"entry {index}: {len(path)} hashes, {count[0]} bytes read")
            assert len(path) <= 20
            assert count[0] <= 3 * 8192 * 2
            assert root_of_inclusion(index, size, leaf_hash(b'{"n":%d}' % index), path) == head.root
        assert len(view.prove_growth(first, head)) <= 20
    with open_log(folder) as log:
        assert log.size == size
    assert verify(View(folder), [head, first]).size == size
