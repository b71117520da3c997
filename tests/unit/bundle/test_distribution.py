"""Reading what a distribution signed."""

from __future__ import annotations

import hashlib
import lzma

import pytest

from bundler.bundle.distribution import parse_packages, parse_release, split_release
from custody.errors import DigestMismatch, SignatureRejected

BODY = b"hello"
RELEASE = f"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Date: Sat, 12 Sep 2026 07:55:41 UTC
MD5Sum:
 00 5 main/binary-amd64/Packages.xz
SHA256:
 {hashlib.sha256(BODY).hexdigest()} 5 main/binary-amd64/Packages.xz
-----BEGIN PGP SIGNATURE-----

abc
-----END PGP SIGNATURE-----
"""


def test_release_gives_date_and_digests() -> None:
    release = parse_release(RELEASE.encode(), "InRelease")
    assert release.date.isoformat() == "2026-09-12T07:55:41+00:00"
    release.check("main/binary-amd64/Packages.xz", BODY, "debian")


def test_signed_text_and_signature_come_apart() -> None:
    signed = split_release(RELEASE.encode(), "InRelease")
    assert signed.text.startswith(b"Origin: Debian\n") and signed.text.endswith(b"Packages.xz")
    assert signed.signature == b"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"


def test_release_refuses_another_index() -> None:
    release = parse_release(RELEASE.encode(), "InRelease")
    with pytest.raises(DigestMismatch, match=r"expects sha256 .* found"):
        release.check("main/binary-amd64/Packages.xz", b"hallo", "debian")
    with pytest.raises(DigestMismatch, match="no such entry"):
        release.check("contrib/binary-amd64/Packages.xz", BODY, "debian")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Origin: before\n" + RELEASE,
        RELEASE + "Origin: after\n",
        RELEASE + RELEASE,
        RELEASE.replace("Date:", "Day:"),
        RELEASE.replace("SHA256:\n", "SHA512:\n"),
        RELEASE.replace("-----BEGIN PGP SIGNATURE-----\n", ""),
        RELEASE.replace("Origin: Debian", "- Origin: Debian"),
        RELEASE.replace("Origin: Debian", "Origin: Debian "),
        RELEASE.replace("Origin: Debian", "Origin: Debian\r"),
        RELEASE.replace("Origin: Debian", "Origin: Debian\x0cSHA256:"),
        RELEASE.replace("Hash: SHA256\n", "Hash: SHA256\n \n"),
        RELEASE.replace("Hash: SHA256\n", "NotDashEscaped: yes\n"),
        RELEASE.replace("\nabc", "\nabc\n-----END PGP SIGNATURE-----\nabc"),
    ],
)
def test_release_refuses_what_is_not_one_signed_text(text: str) -> None:
    with pytest.raises(SignatureRejected):
        parse_release(text.encode(), "InRelease")


def test_packages_are_listed() -> None:
    text = "Package: a\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 3\nSHA256: ff\nEssential: yes\n"
    listed = list(parse_packages(lzma.compress(f"{text}\n{text.replace('yes', 'no')}".encode()), "Packages"))
    assert [(p.package, p.size_bytes, p.essential) for p in listed] == [("a", 3, True), ("a", 3, False)]


def test_packages_refuses_entry_without_digest() -> None:
    text = "Package: a\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 3\n"
    with pytest.raises(DigestMismatch):
        list(parse_packages(lzma.compress(text.encode()), "Packages"))


def test_packages_refuses_what_is_not_xz() -> None:
    with pytest.raises(DigestMismatch):
        list(parse_packages(b"Package: a\n", "Packages"))
