"""A small signed archive and a small package index, both served over HTTP by the test itself."""

from __future__ import annotations

import hashlib
import http.server
import io
import lzma
import shutil
import subprocess
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import pytest

from bundler.manifest.models import Manifest

_PACKAGES = {
    # name: (essential, depends)
    "base-files": (True, ""),
    "apt": (False, "base-files"),
    "libfirst1": (False, "base-files"),
    "first": (False, "libfirst1 (= 1:1.0-1)"),
    "second": (False, "first"),
    "broken": (False, "no-such-package"),
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        return None


@pytest.fixture
def serve() -> Iterator[object]:
    """A function that serves a folder and returns its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@dataclass
class SignedArchive:
    """A repository under `folder`, signed by `home`'s only key, whose public half is `keyring`."""

    folder: Path
    home: Path
    keyring: Path

    @property
    def suite(self) -> Path:
        return self.folder / "dists/trixie"

    @property
    def inrelease(self) -> Path:
        return self.suite / "InRelease"

    def publish(self, valid_for: timedelta = timedelta(days=7), sign: bool = True) -> None:
        """Write the indexes and sign them."""
        stanzas = []
        for name, (essential, depends) in _PACKAGES.items():
            version = "1:1.0-1"
            fields = {
                "Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "nobody <n@example.org>",
                "Essential": "yes" if essential else "", "Depends": depends, "Description": "for a test",
                "Filename": f"pool/main/{name[0]}/{name}/{name}_1.0-1_amd64.deb", "Size": "1234",
                "MD5sum": hashlib.md5(name.encode()).hexdigest(), "SHA256": hashlib.sha256(name.encode()).hexdigest(),
            }  # fmt: skip
            stanzas.append("".join(f"{key}: {value}\n" for key, value in fields.items() if value))
        packages = self.suite / "main/binary-amd64/Packages.xz"
        packages.parent.mkdir(parents=True, exist_ok=True)
        plain = "\n".join(stanzas).encode()
        packages.write_bytes(lzma.compress(plain))
        rows = [("main/binary-amd64/Packages", plain), ("main/binary-amd64/Packages.xz", packages.read_bytes())]
        rows += [("empty/binary-amd64/Packages", b""), ("empty/binary-amd64/Packages.xz", lzma.compress(b""))]
        date = datetime.now(UTC) - timedelta(days=30)
        sums = "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}\n" for path, data in rows)
        (self.suite / "Release").write_text(
            f"Origin: Test\nSuite: stable\nCodename: trixie\nDate: {format_datetime(date, usegmt=True)}\n"
            f"Valid-Until: {format_datetime(date + timedelta(days=30) + valid_for, usegmt=True)}\n"
            f"Architectures: amd64\nComponents: main empty\nSHA256:\n{sums}"
        )
        self.inrelease.unlink(missing_ok=True)
        if sign:
            self.sign()

    def sign(self) -> None:
        """Make `InRelease` out of `Release`."""
        gpg(self.home, "--yes", "--clear-sign", "--digest-algo", "SHA256", "-o", self.inrelease, self.suite / "Release")


def gpg(home: Path, *arguments: str | Path) -> bytes:
    command = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*map(str, command), *map(str, arguments)], check=True, capture_output=True).stdout


@pytest.fixture(scope="session")
def signing_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A gpg home with one throwaway key."""
    if not shutil.which("gpg") or not shutil.which("apt-get"):
        pytest.skip("needs gpg and apt-get")
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg(home, "--quick-generate-key", "archive <archive@example.org>", "ed25519", "sign", "never")
    yield home
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False)


@pytest.fixture
def archive(tmp_path: Path, signing_home: Path) -> Iterator[SignedArchive]:
    # apt verifies as its own user, and every pytest that starts shuts the folder above `tmp_path` to others.
    with tempfile.TemporaryDirectory(prefix="airgap-keyring-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        keyring = folder / "keyring.gpg"
        keyring.write_bytes(gpg(signing_home, "--export"))
        made = SignedArchive(tmp_path / "archive", signing_home, keyring)
        made.publish()
        yield made


def manifest(packages: list[str], environments: Mapping[str, list[str]] | None = None, **build: object) -> Manifest:
    """A manifest for the archive above."""
    return Manifest.model_validate(
        {
            "schema_version": 1,
            "bundle": {"name": "test", "channel": "test", "version": 1},
            "target": {
                "distribution": "debian", "release": "trixie", "architecture": "amd64", "python": "3.13",
                "kernel": "6.12", "dpkg_status": Path("status"),
            },
            "apt": {
                "archives": ({"name": "debian", "suites": ("trixie",)},),
                "packages": tuple(packages), "bootstrap": ("first",),
            },
            "wheels": {
                "environments": {name: tuple(lines) for name, lines in (environments or {"control": []}).items()},
                "build": build, "build_packages": ("second",),
            },
        }
    )  # fmt: skip


def wheel_bytes(name: str, version: str, tag: str = "py3-none-any", requires: tuple[str, ...] = ()) -> bytes:
    """A small wheel that installs."""
    out, module = io.BytesIO(), name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "".join(
            [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"Requires-Dist: {r}\n" for r in requires)]
        ),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return out.getvalue()


def sdist_bytes(name: str, version: str, pyproject: str, requires: tuple[str, ...] = ()) -> bytes:
    """A source distribution, with metadata that needs no build."""
    out, top = io.BytesIO(), f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
    files = {"PKG-INFO": metadata + "".join(f"Requires-Dist: {r}\n" for r in requires), "pyproject.toml": pyproject}
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


class Index:
    """A simple package index below a folder (PEP 503)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, list[str]] = {}

    def add(self, project: str, filename: str, data: bytes) -> str:
        """Publish a file; returns its SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        (self._folder / "files").mkdir(parents=True, exist_ok=True)
        (self._folder / "files" / filename).write_bytes(data)
        link = f'<a href="/files/{filename}#sha256={digest}">{filename}</a>'
        self._entries.setdefault(project, []).append(link)
        page = self._folder / "simple" / project / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<!DOCTYPE html><html><body>{''.join(self._entries[project])}</body></html>")
        return digest


@pytest.fixture
def index(tmp_path: Path, serve: object, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An empty index that uv is set up to use."""
    folder = tmp_path / "index"
    (folder / "simple").mkdir(parents=True)
    monkeypatch.setenv("UV_DEFAULT_INDEX", serve(folder) + "/simple/")  # type: ignore[operator]
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Index(folder)
