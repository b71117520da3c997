"""pip's --require-hashes is at work: a tampered wheel and an absent one stop the installation."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from bundler.install import stage
from bundler.install.stage import make_environment
from custody.errors import ProgramFailed


def wheel(path: Path, body: str) -> str:
    """A pure wheel with one module; returns its digest."""
    files = {
        "words.py": body,
        "words-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: words\nVersion: 1\n",
        "words-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(text)}\n")
        archive.writestr("words-1.dist-info/RECORD", "".join(rows) + "words-1.dist-info/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    wheels = tmp_path / "sealed/data/wheels"
    wheels.mkdir(parents=True)
    digest = wheel(wheels / "words-1-py3-none-any.whl", "said = 'as locked'\n")
    (wheels / "engine.txt").write_text(f"words==1 --hash=sha256:{digest}\n")
    return tmp_path


def test_a_good_wheel_is_installed_once(release: Path) -> None:
    folder = make_environment(release, "engine")
    done = subprocess.run(
        [folder / "bin/python", "-c", "import words; print(words.said)"], capture_output=True, check=True
    )
    assert done.stdout == b"as locked\n"
    made = (folder / "complete").stat().st_mtime_ns
    assert (make_environment(release, "engine") / "complete").stat().st_mtime_ns == made


def test_it_is_on_the_disk_before_it_is_called_complete(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a host that loses its power has the mark, and empty files beside it."""
    folder, seen = release / "engine", []  # type: Path, list[tuple[bool, bool]]
    look = lambda: seen.append((any(folder.rglob("words.py")), (folder / "complete").exists()))  # noqa: E731
    monkeypatch.setattr(stage.os, "sync", look)
    stage.make_environment(release, "engine")
    assert seen == [(True, False)]
    assert (folder / "complete").exists()


def test_a_tampered_wheel_stops_it_though_pip_alone_would_take_it(release: Path, tmp_path: Path) -> None:
    wheels = release / "sealed/data/wheels"
    wheel(wheels / "words-1-py3-none-any.whl", "said = 'something else'\n")
    with pytest.raises(ProgramFailed, match="DO NOT MATCH THE HASHES"):
        make_environment(release, "engine")
    assert not (release / "engine/complete").exists()
    subprocess.run(["/usr/bin/python3", "-m", "venv", tmp_path / "careless"], check=True)
    careless: list[str | Path] = [
        tmp_path / "careless/bin/pip",
        "--isolated",
        "install",
        "--no-index",
        "--find-links",
        wheels,
        "words",
    ]
    assert subprocess.run(careless, capture_output=True, check=False).returncode == 0


def test_an_absent_wheel_stops_it(release: Path) -> None:
    next((release / "sealed/data/wheels").glob("*.whl")).unlink()
    with pytest.raises(ProgramFailed, match="No matching distribution"):
        make_environment(release, "engine")
    assert not (release / "engine/complete").exists()
