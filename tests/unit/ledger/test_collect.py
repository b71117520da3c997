"""A collector outside the host: what root there signed anew shows at the next collection."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from custody import errors
from custody.errors import InputInvalid, LedgerBroken, SignatureRejected
from custody.ledger import origin
from custody.ledger.collect import begin, collect
from custody.ledger.export import export
from custody.ledger.log import open_log
from custody.ledger.note import Note
from custody.ledger.view import View
from custody.trust.keys import PrivateKey
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import PASSPHRASE, printed

ORIGIN = "site-7.example/audit"


class Site:
    """A log, and exports of it that somebody carries to a collector."""

    def __init__(self, base: Path) -> None:
        self.base, self.folder, self.keep = base, base / "log", base / "keep"
        origin.make(self.folder, ORIGIN)
        begin(self.keep, View(self.folder).key)

    def write(self, *entries: bytes) -> None:
        with open_log(self.folder) as log:
            log.append(entries)
            log.checkpoint()

    def export(self, name: str) -> Path:
        (self.base / name).mkdir()
        export(View(self.folder), self.base / name)
        return self.base / name

    def forget(self) -> None:
        """As root on the host: away with the entries and what was signed, the key stays."""
        for name in ("segments", "hashes", "checkpoint"):
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_exports_that_go_on_are_kept(site: Site) -> None:
    for number, size in enumerate((3, 300, 0, 1)):
        site.write(*(b'{"n":%d}' % i for i in range(size)))
        found = collect(site.export(f"e{number}"), site.keep)
        assert found.compared == len({0: (), 1: (3,), 2: (3, 303), 3: (3, 303)}[number])
    assert found.head.size == 304
    assert len(list(site.keep.glob("*.checkpoint"))) == 3


def test_a_past_that_was_signed_anew_is_found(site: Site) -> None:
    site.write(*(b'{"n":%d}' % i for i in range(10)))
    collect(site.export("before"), site.keep)
    site.forget()
    site.write(*(b'{"n":%d}' % (i if i != 4 else 99) for i in range(12)))
    with pytest.raises(LedgerBroken, match="the first 10 entries"):
        collect(site.export("after"), site.keep)


def test_an_old_copy_that_was_put_back_is_found(site: Site) -> None:
    site.write(b"{}")
    old = site.export("old")
    site.write(b"{}")
    collect(site.export("new"), site.keep)
    with pytest.raises(LedgerBroken, match="an old copy was put back"):
        collect(old, site.keep)


def test_two_pasts_of_one_size_are_found(site: Site) -> None:
    site.write(b'{"a":1}')
    collect(site.export("one"), site.keep)
    site.forget()
    site.write(b'{"a":2}')
    with pytest.raises(LedgerBroken, match="the first 1 entries"):
        collect(site.export("two"), site.keep)


def test_an_export_that_was_changed_or_is_not_whole_is_refused(site: Site) -> None:
    site.write(b'{"a":1}', b'{"a":2}')
    out = site.export("out")
    bundle = out / "tile/entries/000.p/2"
    good = bundle.read_bytes()
    for bad in (good.replace(b"1", b"3"), good[:-1], good + b"x", b"", good[: len(good) // 2]):
        bundle.write_bytes(bad)
        with pytest.raises(LedgerBroken):
            collect(out, site.keep)
    bundle.unlink()
    with pytest.raises(LedgerBroken, match="not whole"):
        collect(out, site.keep)
    assert not list(site.keep.glob("*.checkpoint"))


def test_another_log_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    other = Site(tmp_path / "two")
    other.write(b"{}")
    with pytest.raises(SignatureRejected):
        collect(other.export("out"), site.keep)
    with pytest.raises(InputInvalid, match="collects the log"):
        begin(site.keep, View(other.folder).key)


def test_the_command_collects_and_countersigns(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site.write(b"{}")
    out, key, secret = site.export("out"), tmp_path / "carol.key", tmp_path / "secret"
    key.write_bytes(PrivateKey.generate().dump(PASSPHRASE.encode()))
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    with_key = ["--name", "carol", "--key", str(key), "--passphrase-file", str(secret)]
    fresh = str(tmp_path / "fresh")
    assert refused(["ledger", "collect", str(out), fresh], capfd)[0] == 2
    printed(["ledger", "collect", str(out), fresh, "--log-key", str(out / "log.vkey"), *with_key], capfd)
    (cosigned,) = Path(fresh).glob("*.cosigned")
    assert [name for name, _id, _sig in Note.parse(cosigned.read_bytes(), "cosigned").signatures] == [ORIGIN, "carol"]
    assert "with 1 earlier" in printed(["ledger", "collect", str(out), fresh], capfd)
    (out / "tile/entries/000.p/1").write_bytes(b"\0\2[]")
    assert refused(["ledger", "collect", str(out), fresh], capfd)[0] == errors.LedgerBroken.exit_code
