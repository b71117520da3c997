"""`kill -9` at random points; then the same command ends as if it had never been stopped."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bundler.bundle.read import FolderSource, unsigned_statement
from bundler.manifest.lock import LockedFile, save_lock
from custody.report import SilentReporter
from custody.trust.verify import verify_unsigned
from tests import bundles
from tests.killing import points

AIRGAP = str(Path(sys.executable).with_name("airgap"))

_COPY = """
import sys
from pathlib import Path
from bundler.bundle.read import FolderSource
from bundler.install.stage import copy_models
from custody.report import SilentReporter
from custody.trust.verify import read_trust, verify_statement
source = FolderSource(Path(sys.argv[1]))
bundle = verify_statement(source, read_trust(source, sys.argv[2]))
copy_models(bundle, Path(sys.argv[3]), SilentReporter())
"""


def noise(name: str, size_mib: int) -> bytes:
    """Bytes that neither compress nor repeat, the same for the same name."""
    return hashlib.shake_256(name.encode()).digest(size_mib << 20)


def run(command: Sequence[str | Path], kill_after_s: float | None = None) -> tuple[int, float]:
    """Run a command, perhaps with SIGKILL to it alone; returns its status and seconds."""
    begun_s = time.monotonic()
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            said, _ = process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    if kill_after_s is None:
        assert process.returncode == 0, said.decode()
    return process.returncode, time.monotonic() - begun_s


def test_build_goes_on(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b", "c", "d"):
        origin = tmp_path / "origin" / name
        origin.parent.mkdir(exist_ok=True)
        origin.write_bytes(noise(name, 12))
        digest = hashlib.sha256(origin.read_bytes()).hexdigest()
        files.append(LockedFile(name=name, origin=str(origin), size_bytes=origin.stat().st_size, sha256=digest))
    lock = tmp_path / "lock.json"
    save_lock(bundles.lock().model_copy(update={"files": tuple(files)}), lock)
    whole = tmp_path / "whole"
    _, span_s = run([AIRGAP, "build", lock, whole / "bundle", "--cache", whole / "cache"])
    expected = (whole / "bundle/carrier/statement.json").read_bytes()
    for number, point_s in enumerate(points("build", 20, span_s)):
        place = tmp_path / str(number)
        command: list[str | Path] = [AIRGAP, "build", lock, place / "bundle", "--cache", place / "cache"]
        while run(command, point_s)[0] == 0:  # the one that was timed had less of the machine
            subprocess.run(["rm", "-r", place], check=True)
            point_s /= 2
        if (place / "bundle").exists():  # whatever carries a bundle's name is whole
            require_whole(place / "bundle")
        run(command)
        assert (place / "bundle/carrier/statement.json").read_bytes() == expected, f"point {number}, {point_s:.3f} s"
        require_whole(place / "bundle")
        subprocess.run(["rm", "-r", place], check=True)


def require_whole(bundle: Path) -> None:
    """Read all of an unsigned bundle."""
    verify_unsigned(FolderSource(bundle), unsigned_statement(bundle)[0], SilentReporter())


def test_the_copy_of_models_goes_on(tmp_path: Path) -> None:
    made = bundles.make(tmp_path, {**bundles.PAYLOAD, "data/models/large.gguf": noise("large", 96)})
    models = sorted((made.folder / "sealed/data/models").iterdir())
    command: list[str | Path] = [sys.executable, "-c", _COPY, made.folder, made.fingerprint]
    _, span_s = run([*command, tmp_path / "whole"])
    for number, point_s in enumerate(points("copy", 15, span_s)):
        place = tmp_path / str(number)
        while run([*command, place], point_s)[0] == 0:  # the one that was timed had less of the machine
            subprocess.run(["rm", "-r", place], check=True)
            point_s /= 2
        for model in models:  # whatever carries a model's name is that model
            assert not (place / model.name).exists() or (place / model.name).read_bytes() == model.read_bytes()
        run([*command, place])
        assert sorted(path.name for path in place.iterdir()) == [model.name for model in models]
        for model in models:
            assert (place / model.name).read_bytes() == model.read_bytes(), f"point {number}, {point_s:.3f} s"
        subprocess.run(["rm", "-r", place], check=True)


@pytest.mark.parametrize("size", [0, 5, 1 << 20])
def test_what_lies_there_is_hashed_and_not_believed(tmp_path: Path, size: int) -> None:
    made = bundles.make(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/words.gguf.part").write_bytes(b"x" * size)
    run([sys.executable, "-c", _COPY, made.folder, made.fingerprint, tmp_path / "models"])
    assert (tmp_path / "models/words.gguf").read_bytes() == bundles.MODEL
