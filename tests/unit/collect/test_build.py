"""Building: a failed item means no bundle and keeps what was fetched; the same command then goes on."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from bundler.collect.build import build, check
from bundler.collect.cache import Cache
from bundler.manifest.lock import Lock, LockedFile
from custody.errors import (
    AlreadyRunning,
    BundleMalformed,
    DigestMismatch,
    FetchFailed,
    IntegrityFailure,
    TargetRefused,
)
from custody.lock import alone
from custody.report import SilentReporter
from tests.bundles import lock

PROJECT = Path(__file__).parents[3]


def with_files(folder: Path, **contents: bytes) -> Lock:
    """A lock with plain files only, whose origins lie in `folder`."""
    files = []
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(LockedFile(name=name, origin=str(folder / name), size_bytes=len(data), sha256=digest))
    return lock().model_copy(update={"files": tuple(files)})


def test_failed_items_are_named_and_the_next_try_goes_on(tmp_path: Path) -> None:
    wanted = with_files(tmp_path, good=b"good", changed=b"as locked", gone=b"gone")
    (tmp_path / "changed").write_bytes(b"tampered!")
    (tmp_path / "gone").unlink()
    bundle, cache = tmp_path / "bundle", Cache(tmp_path / "cache")
    with pytest.raises(FetchFailed) as caught:
        build(wanted, bundle, cache, PROJECT, SilentReporter())
    told = caught.value.message
    assert "2 of 3 items failed" in told
    assert f"file changed: expected sha256 {hashlib.sha256(b'as locked').hexdigest()}" in told
    assert hashlib.sha256(b"tampered!").hexdigest() in told
    assert "file gone" in told
    assert not bundle.exists()
    assert (tmp_path / ".bundle.staging").is_dir()
    assert cache.has(hashlib.sha256(b"good").hexdigest())

    (tmp_path / "changed").write_bytes(b"as locked")
    (tmp_path / "gone").write_bytes(b"gone")
    build(wanted, bundle, cache, PROJECT, SilentReporter())
    assert (bundle / "sealed/data/files/changed").read_bytes() == b"as locked"
    assert (bundle / "sealed/data/ansible/playbooks/install.yml").is_file()


def test_a_finished_build_is_done_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    wanted, bundle, cache = with_files(tmp_path, a=b"a"), tmp_path / "bundle", Cache(tmp_path / "cache")
    first = build(wanted, bundle, cache, PROJECT, SilentReporter())
    assert build(wanted, bundle, cache, PROJECT, SilentReporter()) == first
    with pytest.raises(TargetRefused, match=r"found [0-9a-f]{64}"):
        build(with_files(tmp_path, b=b"b"), bundle, cache, PROJECT, SilentReporter())
    payload = bundle / "sealed/data/files/a"
    payload.unlink()
    payload.write_bytes(b"x")
    with pytest.raises(IntegrityFailure):
        build(wanted, bundle, cache, PROJECT, SilentReporter())
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetRefused, match="something else"):
        build(wanted, tmp_path / "folder", cache, PROJECT, SilentReporter())


def test_two_builds_of_one_bundle_are_refused(tmp_path: Path) -> None:
    with alone(tmp_path / ".bundle.staging.lock", "somebody"), pytest.raises(AlreadyRunning, match="another build"):
        build(lock(), tmp_path / "bundle", Cache(tmp_path / "cache"), PROJECT, SilentReporter())


def test_a_harmed_cache_is_noticed_and_fetched_again(tmp_path: Path) -> None:
    wanted = with_files(tmp_path, good=b"good")
    cache = Cache(tmp_path / "cache")
    build(wanted, tmp_path / "one", cache, PROJECT, SilentReporter())
    cached = cache.path(hashlib.sha256(b"good").hexdigest())
    cached.unlink()  # a bundle may hold a second name of the same file
    cached.write_bytes(b"evil")
    build(wanted, tmp_path / "two", cache, PROJECT, SilentReporter())
    assert (tmp_path / "two/sealed/data/files/good").read_bytes() == b"good"


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    import http.server
    import threading

    data = bytes(range(256)) * 8192
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = self.headers.get("Range")
            asked.append(start)
            begin = int(start.removeprefix("bytes=").rstrip("-")) if start else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            self.wfile.write(data[begin:] if start else data[: len(data) // 2])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cache = Cache(tmp_path)
        url = f"http://127.0.0.1:{server.server_port}/model"
        path = cache.fetch(url, hashlib.sha256(data).hexdigest(), len(data), "model")
        server.shutdown()
    assert path.read_bytes() == data
    assert asked == [None, f"bytes={len(data) // 2}-"]


def test_an_approver_builds_again_and_sees_what_a_builder_slipped_in(tmp_path: Path) -> None:
    wanted, bundle = with_files(tmp_path, a=b"a"), tmp_path / "bundle"
    first = build(wanted, bundle, Cache(tmp_path / "cache"), PROJECT, SilentReporter())
    assert check(wanted, bundle, Cache(tmp_path / "own"), PROJECT, SilentReporter()) == first
    assert not (tmp_path / ".bundle.again").exists()

    project = tmp_path / "project"
    for part in ("playbooks", "roles", "plugins"):
        shutil.copytree(PROJECT / part, project / part)
    play = project / "playbooks/install.yml"
    play.write_text(play.read_text() + "# one more thing\n")
    slipped = tmp_path / "slipped"
    build(wanted, slipped, Cache(tmp_path / "cache"), project, SilentReporter())
    with pytest.raises(DigestMismatch, match=r"data/ansible/playbooks/install\.yml"):
        check(wanted, slipped, Cache(tmp_path / "own"), PROJECT, SilentReporter())
    with pytest.raises(BundleMalformed, match="expected the bundle of lock"):
        check(with_files(tmp_path, b=b"b"), bundle, Cache(tmp_path / "own"), PROJECT, SilentReporter())
