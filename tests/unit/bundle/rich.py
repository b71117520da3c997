"""A lock with one of everything, the payload that fits it, and a bundle of both that two persons signed."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle.sign import sign_bundle
from bundler.bundle.write import seal
from bundler.collect.provenance import make_provenance
from bundler.manifest.lock import Lock, LockedSource, dump_lock
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey
from custody.trust.root import Person, Root
from tests import bundles
from tests.bundles import Made, make_trust, stage
from tests.unit.collect.conftest import wheel_bytes

RELEASE = """\
Origin: Debian
Suite: stable
Codename: trixie
Date: Sat, 12 Sep 2026 07:55:41 UTC
Architectures: amd64
Components: main
SHA256:
"""
_OPENSSL = "3.5.1-1+deb13u1"
#: Package, version, architecture, path, uses.
DEBS = (
    ("openssl", _OPENSSL, "amd64", f"pool/main/o/openssl/openssl_{_OPENSSL}_amd64.deb", "appliance bootstrap"),
    ("python3", "3.13.5-1", "amd64", "pool/main/p/python3-defaults/python3_3.13.5-1_amd64.deb", "bootstrap tree"),
    ("gcc-14", "14.2.0-19", "amd64", "pool/main/g/gcc-14/gcc-14_14.2.0-19_amd64.deb", "tree"),
    ("ca-certificates", "20250419", "all", "pool/main/c/ca-certificates/ca-certificates_20250419_all.deb", "appliance"),
)  # fmt: skip
MODEL = b"GGUF" + bytes(range(256)) * 8000
BUILT = wheel_bytes("llama-cpp-python", "0.3.36", tag="py3-none-linux_x86_64")
OWN = wheel_bytes("airgap", "0.1.0")


@dataclass(frozen=True)
class Rich:
    """A lock, and what lies below `sealed/` of its bundle before it is sealed."""

    lock: Lock
    payload: dict[str, bytes]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def licensed_wheel(name: str, version: str, *headers: str) -> bytes:
    """A wheel whose metadata has more lines."""
    module = name.replace("-", "_")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
        archive.writestr(f"{module}-{version}.dist-info/METADATA", "\n".join(lines) + "\n\nA text: License: none\n")
        archive.writestr(f"{module}-{version}.dist-info/RECORD", "")
    return out.getvalue()


_SAYING = (
    ("rich", "15.0.0", "License-Expression: MIT", ("control",)),
    ("packaging", "26.3", "License: Apache-2.0 OR BSD-2-Clause", ("control", "engine")),
    ("numpy", "2.5.5", "Classifier: License :: OSI Approved :: BSD License", ("engine",)),
)
#: Version, bytes and environments of wheels of an index.
WHEELS = {name: (version, licensed_wheel(name, version, says), places) for name, version, says, places in _SAYING}


def rich(sign: Callable[[bytes], bytes] = lambda text: text, version: int = 1) -> Rich:
    """One of everything.

    Args:
        sign: makes an `InRelease` of the text of a Release.
    """
    payload: dict[str, bytes] = {
        f"data/apt/debian/{path}": _deb(name) for name, _, _, path, uses in DEBS if uses != "tree"
    }
    packages = lzma.compress("\n".join(_stanza(*deb[:4]) for deb in DEBS).encode())
    index = "main/binary-amd64/Packages.xz"
    inrelease = sign(f"{RELEASE} {sha256(packages)} {len(packages)} {index}\n".encode())
    payload |= {"data/apt/debian/dists/trixie/InRelease": inrelease, f"data/apt/debian/dists/trixie/{index}": packages}
    payload |= {f"data/wheels/{name}-{v}-py3-none-any.whl": data for name, (v, data, _) in WHEELS.items()}
    payload |= {
        "data/wheels/llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl": BUILT,
        "data/wheels/airgap-0.1.0-py3-none-any.whl": OWN,
        "data/models/words.gguf": MODEL,
        "data/files/readme.txt": b"hello\n",
        "data/ansible/playbooks/install.yml": b"---\n",
    }
    lock = _lock(version, payload)
    for source, filename in _filenames(lock.sources):
        made = make_provenance(source, lock, filename, sha256(payload[f"data/wheels/{filename}"]))
        payload[f"sbom/provenance/{filename}.json"] = made
    for environment in ("control", "engine"):
        lines = [(w.name, w.version, w.sha256) for w in lock.wheels if environment in w.environments]
        lines += [(s.name, s.version, sha256(payload[f"data/wheels/{filename}"]))
                  for s, filename in _filenames(lock.sources) if environment in s.environments]  # fmt: skip
        text = "".join(sorted(f"{name}=={v} --hash=sha256:{digest}\n" for name, v, digest in lines))
        payload[f"data/wheels/{environment}.txt"] = text.encode()
    return Rich(lock, payload)


def _filenames(sources: Iterable[LockedSource]) -> list[tuple[LockedSource, str]]:
    tags = {"airgap": "py3-none-any", "llama-cpp-python": "py3-none-linux_x86_64"}
    return [(s, f"{s.name.replace('-', '_')}-{s.version}-{tags[s.name]}.whl") for s in sources]


MACHINE_READABLE = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
#: What packages say of their licences; a name alone is another package, to whose file a link leads.
COPYRIGHTS = {
    "openssl": f"{MACHINE_READABLE}\nFiles: *\nLicense: Apache-2.0\n\nFiles: util/*\nLicense: GPL-1+ or Artistic\n",
    "python3": "python3-minimal",
    "ca-certificates": f"{MACHINE_READABLE}\nFiles: *\nLicense: GPL-2+\n\nFiles: mozilla/*\nLicense: MPL-2.0\n",
}


def deb_bytes(*members: tuple[str, bytes | str], compression: str = "xz") -> bytes:
    """A package (deb(5)) of files; of links where the content is text, of folders where a name ends with a slash."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(f"./{name}".rstrip("/"))
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    data = out.getvalue()
    found = b"!<arch>\n"
    suffix = f".{compression}" if compression else ""
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar", b"odd"), (f"data.tar{suffix}", data)):
        found += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        found += b"\n" * (len(content) % 2)
    return found


def _deb(package: str) -> bytes:
    told, place = COPYRIGHTS.get(package), f"usr/share/doc/{package}"
    if told is None:
        return f"the package {package}".encode()
    link = "\n" not in told
    return deb_bytes((place, told) if link else (f"{place}/copyright", told.encode()), (f"usr/bin/{package}", b"code"))


def _stanza(package: str, version: str, architecture: str, path: str) -> str:
    data = _deb(package)
    return (f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nFilename: {path}\n"
            f"Size: {len(data)}\nSHA256: {sha256(data)}\n")  # fmt: skip


def _lock(version: int, payload: dict[str, bytes]) -> Lock:
    content = bundles.lock(version).model_dump()
    filename = "scikit_build_core-1.1.2-py3-none-any.whl"
    tool = {"name": "scikit-build-core", "version": "1.1.2", "filename": filename, "size_bytes": 9,
            "url": f"https://index.example/{filename}", "sha256": "7" * 64, "environments": ()}  # fmt: skip
    content |= {
        "tree_sha256": "9" * 64,
        "indexes": tuple(
            {"archive": "debian", "path": path.removeprefix("data/apt/debian/"), "size_bytes": len(data),
             "sha256": sha256(data)}
            for path, data in payload.items() if "/dists/" in path
        ),
        "debs": tuple(
            {"package": name, "version": v, "architecture": arch, "archive": "debian", "path": path,
             "size_bytes": len(_deb(name)), "sha256": sha256(_deb(name)), "uses": tuple(uses.split())}
            for name, v, arch, path, uses in DEBS
        ),
        "wheels": tuple(
            {"name": name, "version": v, "filename": f"{name}-{v}-py3-none-any.whl", "size_bytes": len(data),
             "url": f"https://index.example/{name}-{v}-py3-none-any.whl", "sha256": sha256(data),
             "environments": places}
            for name, (v, data, places) in WHEELS.items()
        ),
        "sources": (
            {"name": "airgap", "version": "0.1.0", "kind": "project", "filename": "", "url": "", "size_bytes": 0,
             "sha256": "5" * 64, "flags": {}, "build_requires": (), "environments": ("control",)},
            {"name": "llama-cpp-python", "version": "0.3.36", "kind": "sdist", "size_bytes": 77,
             "filename": "llama_cpp_python-0.3.36.tar.gz", "url": "/srv/index/llama_cpp_python-0.3.36.tar.gz",
             "sha256": "8" * 64, "flags": {"CMAKE_ARGS": "-DGGML_NATIVE=OFF -DGGML_AVX2=ON"},
             "build_requires": (tool,), "environments": ("engine",)},
        ),
        "models": (
            {"name": "words", "filename": "words.gguf", "origin": "/srv/models/words.gguf", "size_bytes": len(MODEL),
             "sha256": sha256(MODEL), "license": "Llama 3 Community License", "label": "general",
             "architecture": "llama", "context_tokens": 8192, "kv_bytes_per_token": 4096, "quantization": "Q4_K_M",
             "tokenizer": "gpt2", "chat_template_sha256": "6" * 64},
        ),
        "files": (
            {"name": "readme.txt", "origin": "https://site.example/readme.txt", "size_bytes": 6,
             "sha256": sha256(b"hello\n")},
        ),
    }  # fmt: skip
    return Lock.model_validate(content)


def sealed(folder: Path, made: Rich) -> Path:
    """An unsigned bundle in `folder`."""
    staging = stage(folder.with_name(folder.name + ".staging"), made.payload)
    seal(staging, made.lock, sha256(dump_lock(made.lock)), {}, folder, SilentReporter())
    return folder


def signed(folder: Path, made: Rich) -> Made:
    """A bundle signed by alice (builder) and bob (approver)."""
    alice, bob = PrivateKey.generate(), PrivateKey.generate()
    persons = (
        Person("alice", ("root", "builder"), (alice.public,)),
        Person("bob", ("root", "approver"), (bob.public,)),
    )
    pinned = make_trust(folder / "trust", Root(1, persons, {"root": 2, "builder": 1, "approver": 1}), [alice, bob])
    bundle = sealed(folder / "bundle", made)
    for key in (alice, bob):
        sign_bundle(bundle, key, folder / "trust", SilentReporter())
    return Made(bundle, folder / "trust", pinned, alice, bob)
