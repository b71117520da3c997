"""What commands leave in the custody ledger; the work itself is stood in for, it has tests of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance import engine
from appliance.drive import config, volume
from bundler.cli.record import record_bundle
from bundler.collect import build as building
from bundler.collect import resolve as resolving
from bundler.install import install, paths
from bundler.manifest.lock import save_lock
from custody import errors
from custody.ledger import record
from custody.ledger.event import parse
from custody.ledger.log import open_log
from custody.ledger.view import View
from custody.report import SilentReporter
from tests.bundles import lock, make, sealed
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import PASSPHRASE, ROOT, printed


def last(ledger: Path) -> dict[str, Any]:
    return [parse(entry) for _number, entry in View(ledger).entries()][-1]


def test_lock_and_build(
    ledger_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resolving, "resolve", lambda *_: lock())
    out, cache = tmp_path / "demo.lock.json", ["--cache", str(tmp_path / "cache")]
    command = ["lock", str(ROOT / "manifests/demo.yml"), "-o", str(out), *cache]
    printed([*command, "--dry-run"], capfd)
    assert last(ledger_here)["event"] == "begun"
    printed(command, capfd)
    digest = f"sha256:{hashlib.sha256(out.read_bytes()).hexdigest()}"
    assert (last(ledger_here)["event"], last(ledger_here)["digest"]) == ("locked", digest)
    save_lock(lock(), out)
    bundle = tmp_path / "bundle"
    monkeypatch.setattr(building, "build", lambda *_: hashlib.sha256(_statement(sealed(bundle))).hexdigest())
    with open_log(ledger_here):
        assert refused(["build", str(out), str(bundle), *cache], capfd)[0] == errors.AlreadyRunning.exit_code
    assert not bundle.exists()
    said = printed(["build", str(out), str(bundle), *cache], capfd)
    event = last(ledger_here)
    assert event["event"] == "built"
    assert event["digest"].removeprefix("sha256:") in said


def _statement(bundle: Path) -> bytes:
    return (bundle / "carrier/statement.json").read_bytes()


def test_unlock(
    ledger_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    place = SimpleNamespace(is_open=False, is_mounted=False)
    settings = SimpleNamespace(volume=place, serial="S1", mount="/srv/airgap")
    monkeypatch.setattr(config, "load", lambda: settings)
    monkeypatch.setattr(engine, "CONFIG", tmp_path / "none")
    monkeypatch.setattr(volume, "unlock", lambda _volume, passphrase, **_more: opened.append(passphrase) or [])
    command = ["unlock", "--passphrase-file", str(secret)]
    with open_log(ledger_here):
        assert refused(command, capfd)[0] == errors.AlreadyRunning.exit_code
    assert not opened
    printed(command, capfd)
    assert (opened, last(ledger_here)["event"], last(ledger_here)["subject"]) == ([PASSPHRASE], "unlocked", "S1")
    printed([*command, "--dry-run"], capfd)
    assert View(ledger_here).checkpoint().size == 2  # type: ignore[union-attr]


def test_site_files_and_releases(ledger_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SITE", tmp_path / "etc/site.yml")
    site = tmp_path / "site.yml"
    site.write_text("a: 1\n")
    assert [install.keep_site_file(site), install.keep_site_file(site)] == [True, False]
    assert paths.SITE.stat().st_mode & 0o777 == 0o600
    install._tell_rolled_back(Path("/r/demo-2"), Path("/r/demo-1"), SilentReporter())
    event = last(ledger_here)
    assert (event["event"], event["subject"], event["details"]) == ("rolled back", "demo-1", {"from": "demo-2"})
    with open_log(ledger_here):  # what went wrong before stays the error that is told
        install._tell_rolled_back(Path("/r/demo-2"), Path("/r/demo-1"), SilentReporter())


def test_a_bundle_of_profile_cnsa_is_named_by_its_own_digest(ledger_here: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "made", profile="cnsa")
    record_bundle("burned", made.folder, serial="4C530001")
    event = last(ledger_here)
    assert event["digest"] == f"sha384:{hashlib.sha384(_statement(made.folder)).hexdigest()}"
    assert record.ready()
