"""A log whose older segments are compressed, have expired, or lie on a medium: it says what it said before."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from custody.errors import InputInvalid, LedgerBroken, LedgerUnwritable
from custody.ledger import gone, origin, packed, segment
from custody.ledger.checkpoint import Checkpoint
from custody.ledger.cold import names_of, write_cold
from custody.ledger.collect import begin, collect
from custody.ledger.disk import RealDisk
from custody.ledger.export import export
from custody.ledger.log import Log, open_log
from custody.ledger.residue import line_of
from custody.ledger.tree import leaf_hash
from custody.ledger.verify import verify
from custody.ledger.view import CHECKPOINT, View
from tests.killing import SEED
from tests.unit.ledger.simulated import Sim, cuts
from tests.unit.ledger.test_torn import FOLDER, SIGNER

ORIGIN = "site-7.example/custody"
SIZE = segment.SEGMENT_ENTRIES
FIRST, SECOND, THIRD = (segment.name_of(number * SIZE) for number in range(3))
KEPT = b'"kind":"life"'


def entry(number: int) -> bytes:
    kind = b"life" if number % 1000 == 0 else b"request"
    return b'{"kind":"%b","n":%d}' % (kind, number)


def keeps(data: bytes) -> bool:
    return KEPT in data


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete segments and 300 entries, with checkpoints at 70,000 and at the end; to be copied."""
    folder = tmp_path_factory.mktemp("tiers") / "log"
    origin.make(folder, ORIGIN)
    with open_log(folder) as log:
        for until in (70_000, 2 * SIZE + 300):
            while log.size < until:
                log.append([entry(n) for n in range(log.size, min(log.size + 7_777, until))])
            log.checkpoint()
            shutil.copy(folder / CHECKPOINT, folder / f"{until}.checkpoint")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "log")
    return tmp_path / "log"


def pack(folder: Path, name: str) -> int:
    return packed.pack(RealDisk(), folder / segment.FOLDER, name)


def expire(
    folder: Path, name: str, *, change: Callable[[dict[str, object]], dict[str, object]] = dict
) -> gone.Tombstone:
    """As the audit process does it: what is left, the tombstone, signed, and then the text."""
    view = View(folder)
    stone = gone.prepare(view, name, keeps)
    with open_log(folder) as log:
        log.append([bury(stone, change)])
        log.checkpoint()
    gone.remove_text(view, name, stone)
    return stone


def bury(stone: gone.Tombstone, change: Callable[[dict[str, object]], dict[str, object]] = dict) -> bytes:
    fields = {"kind": "expired", **stone.content()}
    return json.dumps(change(fields), separators=(",", ":")).encode()


def head_of(view: View) -> Checkpoint:
    found = view.checkpoint()
    assert found is not None
    return found


def answers(folder: Path, numbers: tuple[int, ...] = (0, 7, SIZE - 1, SIZE, 2 * SIZE - 1, 2 * SIZE + 299)) -> object:
    """What a log says: the verdict, entries, proofs of them and of growth."""
    view = View(folder)
    head = head_of(view)
    older = Checkpoint.parse((folder / "70000.checkpoint").read_text().partition("\n\n")[0] + "\n", "older")
    proofs = [view.prove(number, head) for number in numbers]
    return verify(view, [older]), list(view.entries()), proofs, view.prove_growth(older, head), view.segments()


def test_a_compressed_segment_says_what_it_said(folder: Path) -> None:
    before = answers(folder)
    size_bytes = (folder / "segments" / FIRST).stat().st_size
    assert pack(folder, FIRST) < size_bytes / 4
    assert answers(folder) == before
    assert pack(folder, SECOND) == pack(folder, SECOND), "again: nothing is left to do"
    assert answers(folder) == before
    assert [path.name for path in sorted((folder / "segments").iterdir())] == [
        FIRST + ".gz", SECOND + ".gz", THIRD
    ]  # fmt: skip
    shutil.rmtree(folder / "hashes")
    with open_log(folder) as log:
        log.append([b"{}"])
        assert log.size == 2 * SIZE + 301
        log.checkpoint()
    assert verify(View(folder)).size == 2 * SIZE + 301


def test_any_debian_reads_a_compressed_segment(folder: Path) -> None:
    text = (folder / "segments" / FIRST).read_bytes()
    pack(folder, FIRST)
    done = subprocess.run(["gzip", "-dc", folder / "segments" / f"{FIRST}.gz"], capture_output=True, check=True)
    assert done.stdout == text


def test_what_is_not_complete_is_not_compressed(folder: Path) -> None:
    with pytest.raises(InputInvalid, match="complete"):
        pack(folder, THIRD)
    data = (folder / "segments" / THIRD).read_bytes()
    (folder / "segments" / THIRD).unlink()
    (folder / "segments" / f"{THIRD}.gz").write_bytes(gzip.compress(data))
    for look in (lambda: verify(View(folder)), lambda: open_log(folder).__enter__()):
        with pytest.raises(LedgerBroken, match="does not hold a complete segment"):
            look()


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _with(line: bytes) -> Callable[[bytes], bytes]:
    """A compressed segment with a line put in before entry 7 (of the first segment) or 70,007 (of the second)."""

    def do(data: bytes) -> bytes:
        text = gzip.decompress(data)
        at = max(text.find(b'{"kind":"request","n":7}\n'), text.find(b'{"kind":"request","n":70007}\n'))
        return gzip.compress(text[:at] + line + text[at:], mtime=0)

    return do


def _other(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data).replace(b'"n":7}', b'"n":8}', 1), mtime=0)


@pytest.mark.parametrize(("change", "said"), [
    (_flip(5000), "was changed"),
    (_flip(-1), "after it was compressed"),
    (lambda data: data[:-9], "after it was compressed"),
    (lambda data: data[: len(data) // 2], "after it was compressed"),
    (lambda data: b"", "after it was compressed"),
    (lambda data: data + b"\0", "after it was compressed"),
    (lambda data: data + gzip.compress(b""), "after it was compressed"),
    (lambda data: gzip.compress(gzip.decompress(data)[:-100]), "after it was compressed"),
    (_other, "entry 7 was changed"),
    (_with(b' {"n":7}\n'), "entry 7 was changed"),
])  # fmt: skip
def test_a_changed_compressed_segment_is_found(folder: Path, change: Callable[[bytes], bytes], said: str) -> None:
    pack(folder, FIRST)
    path = folder / "segments" / f"{FIRST}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(LedgerBroken, match=said):
        verify(View(folder))


def test_what_a_compression_left_unfinished_does_no_harm(folder: Path) -> None:
    before = answers(folder)
    segments = folder / "segments"
    (segments / f".{FIRST}.gz.part").write_bytes(b"half")
    (segments / f"{FIRST}.gz").write_bytes(b"of another run")
    assert answers(folder) == before
    pack(folder, FIRST)
    assert not (segments / f".{FIRST}.gz.part").exists()
    assert answers(folder) == before


class Forgetful(RealDisk):
    """Takes what is written, and gives something else back."""

    def replace(self, path: Path, data: bytes) -> None:
        super().replace(path, data[:-1] + b"?")


def test_a_drive_that_gives_something_else_back_costs_no_text(folder: Path) -> None:
    before = answers(folder)
    with pytest.raises(LedgerUnwritable, match="does not come back"):
        packed.pack(Forgetful(), folder / "segments", FIRST)
    assert answers(folder) == before
    assert not (folder / "segments" / f"{FIRST}.gz").exists()


def test_an_expired_segment_leaves_the_log_intact(folder: Path, made: Path) -> None:
    older = answers(folder, (SIZE, 2 * SIZE + 299))
    pack(folder, FIRST)
    text = (made / "segments" / FIRST).read_bytes()
    stone = expire(folder, FIRST)
    view = View(folder)
    found = verify(view)
    assert found.size == 2 * SIZE + 301
    (expired,) = found.expired
    assert (expired.stone, expired.seq) == (stone, 2 * SIZE + 300)
    done = subprocess.run(["sha256sum"], input=text, capture_output=True, check=True)
    assert stone.text_sha256 == done.stdout.split()[0].decode()
    kept = [number for number, _entry in view.entries(0, SIZE)]
    assert kept == list(range(0, SIZE, 1000)), "what tells of the log itself stays"
    assert b"request" not in (folder / "segments" / FIRST.replace(".log", ".gone")).read_bytes()
    head = head_of(view)
    assert view.prove(SIZE + 5, head)[0] == entry(SIZE + 5)
    assert view.prove(3000, head)[0] == entry(3000)
    with pytest.raises(InputInvalid, match="entry 7 has expired"):
        view.prove(7, head)
    assert isinstance(older, tuple)
    for name in ("hashes", "hashes/0", "hashes/2"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with open_log(folder) as log:
            assert log.size == 2 * SIZE + 301
            log.checkpoint()
        assert verify(View(folder)).expired == found.expired


def test_an_expired_segment_may_hold_the_tombstone_of_another(folder: Path) -> None:
    expire(folder, FIRST)
    with open_log(folder) as log:
        log.append([entry(n) for n in range(log.size, 3 * SIZE + 5)])
        log.checkpoint()
    view = View(folder)
    stone = gone.prepare(view, THIRD, lambda data: gone.MARK in data)
    with open_log(folder) as log:
        log.append([bury(stone)])
        log.checkpoint()
    gone.remove_text(view, THIRD, stone)
    assert [each.seq for each in verify(View(folder)).expired] == [2 * SIZE + 300, 3 * SIZE + 5]


def test_text_that_a_crash_left_beside_its_tombstone_is_still_read(folder: Path) -> None:
    stone = gone.prepare(View(folder), FIRST, keeps)
    assert verify(View(folder)).expired == ()
    with open_log(folder) as log:
        log.append([bury(stone)])
        log.checkpoint()
    assert verify(View(folder)).expired == ()
    gone.remove_text(View(folder), FIRST, stone)
    assert len(verify(View(folder)).expired) == 1


def residue(folder: Path) -> Path:
    return folder / "segments" / FIRST.replace(".log", ".gone")


def _without_stone(folder: Path) -> None:
    gone.prepare(View(folder), FIRST, keeps)
    (folder / "segments" / FIRST).unlink()


def _unsigned_stone(folder: Path) -> None:
    stone = gone.prepare(View(folder), FIRST, keeps)
    with open_log(folder) as log:
        log.append([bury(stone)])
    (folder / "segments" / FIRST).unlink()


def _of(change: Callable[[dict[str, object]], dict[str, object]]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        expire(folder, FIRST, change=change)

    return do


def _edited(change: Callable[[str], str]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        expire(folder, FIRST)
        residue(folder).write_text(change(residue(folder).read_text()))

    return do


def _lines_swapped(text: str) -> str:
    lines = text.split("\n")
    lines[1], lines[2] = lines[2], lines[1]
    return "\n".join(lines)


def _hidden(text: str) -> str:
    """Entry 3,000, which stayed, put behind its hash: the tree is the same."""
    data = entry(3000)
    return text.replace(data.decode(), line_of(leaf_hash(data)).decode())


@pytest.mark.parametrize(("what", "said"), [
    (lambda folder: (folder / "segments" / FIRST).unlink(), f"expected {FIRST}"),
    (lambda folder: (folder / "segments" / SECOND).unlink(), f"expected {SECOND}"),
    (_without_stone, "no entry says that it expired"),
    (_unsigned_stone, "is not signed"),
    (_of(lambda stone: {**stone, "root": "00" * 32}), "is of another tree"),
    (_of(lambda stone: {**stone, "first": 5}), "no entry says that it expired"),
    (_of(lambda stone: {**stone, "last": 5}), "are not a segment"),
    (_of(lambda stone: {**stone, "first": SIZE, "last": 2 * SIZE - 1}), "no entry says that it expired"),
    (_of(lambda stone: {**stone, "kind": "request", "text": '"kind":"expired"'}), "no entry says that it expired"),
    (_of(lambda stone: {name: value for name, value in stone.items() if name != "text_sha256"}), "has no"),
    (_edited(lambda text: text.replace('"n":3000}', '"n":3001}')), "entry 3000 is not the one"),
    (_edited(_lines_swapped), "entry 1 is not the one"),
    (_edited(_hidden), "says that something else is left"),
    (_edited(lambda text: text.replace("=", "", 1)), "is neither an entry nor a hash"),
    (_edited(lambda text: text.replace("\n=", "\n==", 1)), "is not a hash"),
    (_edited(lambda text: text[: len(text) // 2]), "has not 65536 lines"),
    (_edited(lambda text: ""), "entries are missing"),
])  # fmt: skip
def test_a_segment_that_did_not_expire_properly_is_refused(
    folder: Path, what: Callable[[Path], None], said: str
) -> None:
    what(folder)
    with pytest.raises(LedgerBroken, match=said) as caught:
        verify(View(folder))
    assert caught.value.exit_code == 19


def test_changed_hashes_of_an_expired_segment_are_found_though_the_stored_ones_are_gone(folder: Path) -> None:
    expire(folder, FIRST)
    residue(folder).write_text(_lines_swapped(residue(folder).read_text()))
    shutil.rmtree(folder / "hashes")
    with pytest.raises(
        LedgerBroken, match=r"is not what its last line says|not those that a checkpoint was signed over"
    ):
        verify(View(folder))
    with pytest.raises(LedgerBroken), open_log(folder):
        pass


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_missing_segment_is_refused_at_opening_too(folder: Path, name: str) -> None:
    (folder / "segments" / name).unlink()
    with pytest.raises(LedgerBroken, match="segments in a row"), open_log(folder):
        pass


def test_what_is_not_of_the_log_does_not_expire(folder: Path) -> None:
    path = folder / "segments" / FIRST
    path.write_bytes(path.read_bytes().replace(b'"n":7}', b'"n":8}', 1))
    with pytest.raises(LedgerBroken, match="not those that its checkpoint was signed over"):
        gone.prepare(View(folder), FIRST, keeps)
    with pytest.raises(InputInvalid, match="complete"):
        gone.prepare(View(folder), THIRD, keeps)
    assert not residue(folder).exists()


def test_text_is_not_removed_for_what_was_changed_since(folder: Path) -> None:
    stone = gone.prepare(View(folder), FIRST, keeps)
    residue(folder).write_text(_lines_swapped(residue(folder).read_text()))
    with pytest.raises(LedgerBroken, match="not those of its tombstone"):
        gone.remove_text(View(folder), FIRST, stone)
    residue(folder).write_text(_hidden(_lines_swapped(residue(folder).read_text())))
    with pytest.raises(LedgerBroken, match="what is left is not what its tombstone says"):
        gone.remove_text(View(folder), FIRST, stone)
    assert (folder / "segments" / FIRST).exists()


def test_a_tombstone_of_an_older_process_is_believed_until_a_newer_one_says_what_is_left(folder: Path) -> None:
    older = lambda stone: {name: value for name, value in stone.items() if name != "left_sha256"}  # noqa: E731
    stone = expire(folder, FIRST, change=older)
    residue(folder).write_text(_hidden(residue(folder).read_text()))
    gone.require_left(View(folder))
    assert [each.stone.left_sha256 for each in verify(View(folder)).expired] == [""]
    with open_log(folder) as log:
        log.append([bury(stone)])
        log.checkpoint()
    with pytest.raises(LedgerBroken, match="is not what its tombstone says"):
        gone.require_left(View(folder))
    with pytest.raises(LedgerBroken, match="says that something else is left"):
        verify(View(folder))


def test_no_power_cut_while_segments_are_compressed_or_expire_costs_anything() -> None:
    """At every operation of both, on a simulated disk: before it and, within a write, after some bytes."""
    chance, disk = random.Random(SEED), Sim()
    print(f"AIRGAP_TEST_SEED={SEED}")
    log = Log(FOLDER, SIGNER, disk)
    while log.size < 2 * SIZE:
        log.append([entry(n) for n in range(log.size, min(log.size + 30_000, 2 * SIZE))])
    log.append([entry(2 * SIZE)])
    log.checkpoint()
    start = {path: bytes(data) for path, data in disk.files.items()}
    disk.ops.clear()

    packed.pack(disk, FOLDER / "segments", FIRST)
    view = View(FOLDER, disk, SIGNER.public)
    stone = gone.prepare(view, FIRST, keeps)
    log.append([bury(stone)])
    log.checkpoint()
    signed = len(disk.ops)
    gone.remove_text(view, FIRST, stone)
    removed = len(disk.ops)
    packed.pack(disk, FOLDER / "segments", SECOND)

    tried = 0
    for op, cut in cuts(start, disk.ops, step=97):
        after = cut.survivors(chance.choice(("none", "all", "any", "long")), chance)
        again = Log(FOLDER, SIGNER, after)
        again.checkpoint()
        found = verify(again.view)
        assert again.size >= 2 * SIZE + 1
        assert len(found.expired) == (op > signed + 1), f"operation {op} of {signed}, {removed}"
        if not found.expired:
            assert again.view.entry(7) == entry(7)
        assert again.view.entry(SIZE + 7) == entry(SIZE + 7)
        packed.pack(after, FOLDER / "segments", SECOND)
        if op > signed:
            gone.remove_text(again.view, FIRST, stone)
            assert len(verify(again.view).expired) == 1
        tried += 1
    print(f"{tried} power cuts")
    assert tried > 15


def test_an_export_of_a_log_with_an_expired_segment_is_collected_by_who_read_it_before(
    folder: Path, tmp_path: Path
) -> None:
    view = View(folder)
    for name in ("one", "two", "strange"):
        (tmp_path / name).mkdir()
    export(view, tmp_path / "one")
    begin(tmp_path / "kept", view.key)
    collect(tmp_path / "one", tmp_path / "kept")
    expire(folder, FIRST)
    export(View(folder), tmp_path / "two")
    assert not (tmp_path / "two/tile/entries/000").exists()
    assert collect(tmp_path / "two", tmp_path / "kept").compared == 1
    begin(tmp_path / "new", view.key)
    with pytest.raises(LedgerBroken, match="the export is not whole"):
        collect(tmp_path / "two", tmp_path / "new")
    tile = tmp_path / "two/tile/0/000"
    tile.write_bytes(_flip(40)(tile.read_bytes()))
    with pytest.raises(LedgerBroken, match="not those that a checkpoint was signed over"):
        collect(tmp_path / "two", tmp_path / "kept")


def check(out: Path, key: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["dash", out / "check", out, key], capture_output=True, text=True, check=False, env={})


def cold(folder: Path, out: Path, older: bytes = b"") -> Path:
    view = View(folder)
    out.mkdir()
    write_cold(view, names_of(view, 1, 1), out, older)
    return out


def test_a_cold_segment_verifies_with_openssl_alone_and_each_lie_is_refused(folder: Path, tmp_path: Path) -> None:
    key = folder / "log.pem"
    out = cold(folder, tmp_path / "out", (folder / "70000.checkpoint").read_bytes())
    subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    done = check(out, key)
    said = f"segment      entries {SIZE} to {2 * SIZE - 1} of {2 * SIZE + 300}\nverdict: accept\n"
    assert (done.returncode, done.stderr, done.stdout.endswith(said)) == (0, "", True), done.stdout + done.stderr
    assert "goes on      from 70000 entries" in done.stdout
    name = f"segments/{SECOND}.gz"
    lies: list[tuple[str, Callable[[bytes], bytes], int]] = [
        (name, lambda d: gzip.compress(gzip.decompress(d).replace(b'"n":70007}', b'"n":70008}')), 19),
        (name, lambda d: gzip.compress(gzip.decompress(d).replace(b'{"kind":"request","n":70007}\n', b"")), 19),
        (name, lambda d: d[:-20], 13),
        (name, _with(b' {"kind":"request","n":70006,"who":"mallory"}\n'), 13),
        (name, _with(b'#69999 70007 {"kind":"request","who":"mallory"}\n'), 13),
        (name, _with(b"\n"), 13),
        (name, lambda d: gzip.compress(gzip.decompress(d).replace(b'"n":70007}', b'"n":70007}\0,{}', 1)), 13),
        (name.replace("log.gz", "path"), lambda d: b"", 19),
        (name.replace("log.gz", "path"), _flip(5), 19),
        ("checkpoint", lambda d: d.replace(b"\n131372\n", b"\n131373\n"), 12),
        ("older", lambda d: d.replace(b"\n70000\n", b"\n70001\n"), 12),
        ("growth", lambda d: d.replace(b"old 70000", b"old 70001"), 13),
        ("growth", lambda d: b"\n".join([*d.split(b"\n")[:2], *d.split(b"\n")[3:]]), 19),
        ("growth", lambda d: b"\n".join([(lines := d.split(b"\n"))[0], lines[2], lines[1], *lines[3:]]), 19),
    ]  # fmt: skip
    for file, change, code in lies:
        data = (out / file).read_bytes()
        assert change(data) != data
        (out / file).write_bytes(change(data))
        done = check(out, key)
        assert (done.returncode, "verdict: refuse" in done.stdout) == (code, True), (file, done.stdout + done.stderr)
        (out / file).write_bytes(data)
    origin.make(tmp_path / "other", ORIGIN)
    assert check(out, tmp_path / "other/log.pem").returncode == 12


def test_only_what_is_complete_and_there_goes_onto_a_medium(folder: Path, tmp_path: Path) -> None:
    view = View(folder)
    assert names_of(view, 0, None) == [FIRST, SECOND]
    for span in ((0, 2), (2, None), (1, 0), (-1, 0)):
        with pytest.raises(InputInvalid, match="that are complete"):
            names_of(view, *span)
    expire(folder, FIRST)
    with pytest.raises(InputInvalid, match="has expired"):
        names_of(View(folder), 0, 1)
    path = folder / "segments" / SECOND
    path.write_bytes(path.read_bytes().replace(b'"n":70007}', b'"n":70008}', 1))
    (tmp_path / "out").mkdir()
    with pytest.raises(LedgerBroken, match="not those that its checkpoint was signed over"):
        write_cold(View(folder), [SECOND], tmp_path / "out")
