"""Licences of packages: taken from the file that says them, mapped where that is certain, else in its words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cyclonedx.spdx import is_supported_id

from bundler.bundle.copyright import SPDX, deb_licences
from bundler.bundle.licence import Declared

from .rich import MACHINE_READABLE, deb_bytes

PLACE = "usr/share/doc/tool"
SEE = (Declared(f"see /{PLACE}/copyright", spdx=False),)
COPYRIGHT = f"""\
{MACHINE_READABLE}Upstream-Name: tool
License: GPL-2+

Files: *
Copyright: 2020  Somebody
License:  Expat
 Permission is hereby granted, free of charge.
 .
 Files: not one
 License: not one

Files: debian/*
Copyright: 2021, Another
license: LGPL-2.1+   or Artistic
 \t
License: Unused-1.0
 Its text.

Files: new/*
License: MIT
"""


def said(folder: Path, *members: tuple[str, bytes | str], compression: str = "xz") -> tuple[Declared, ...]:
    (folder / "tool_1_all.deb").write_bytes(deb_bytes(*members, compression=compression))
    return deb_licences(folder / "tool_1_all.deb", "tool")


def with_text(folder: Path, text: str) -> tuple[Declared, ...]:
    return said(folder, (f"{PLACE}/copyright", text.encode()))


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_names_are_mapped_where_they_mean_one_text(tmp_path: Path, compression: str) -> None:
    members = (
        ("usr/", b""),
        ("usr/bin/tool", b"x" * 99_999),
        (f"{PLACE}/", b""),
        (f"{PLACE}/copyright", COPYRIGHT.encode()),
    )
    assert said(tmp_path, *members, compression=compression) == (
        Declared("GPL-2.0-or-later"),
        Declared("LGPL-2.1+ or Artistic", spdx=False),
        Declared("MIT", spdx=False),  # Debian's name for several texts
        Declared("MIT"),  # Expat
    )


def test_a_package_that_dpkg_makes_is_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / PLACE).mkdir(parents=True)
    (tree / PLACE / "copyright").write_text(COPYRIGHT)
    (tree / "DEBIAN/control").write_text(
        "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: x\n"
    )
    for compression in ("xz", "gzip", "none"):
        deb = tmp_path / f"{compression}.deb"
        subprocess.run(["dpkg-deb", f"-Z{compression}", "--build", tree, deb], check=True, capture_output=True)
        assert len(deb_licences(deb, "tool")) == 4


def test_links_and_texts_for_people_are_pointed_at(tmp_path: Path) -> None:
    assert said(tmp_path, (PLACE, "tool-common")) == SEE
    assert said(tmp_path, (f"{PLACE}/", b""), (f"{PLACE}/copyright", "../tool-common/copyright")) == SEE
    assert with_text(tmp_path, "This package was debianized by hand.\n\nLicense: see the homepage\n") == SEE
    assert with_text(tmp_path, "") == SEE
    assert with_text(tmp_path, "x" * (5 << 20)) == SEE
    assert with_text(tmp_path, COPYRIGHT.replace("1.0/\n", "0.9/\n")) == SEE


@pytest.mark.parametrize("name", ["", "a\x1b[31mred", "every word of it " * 9])
def test_one_licence_without_a_fitting_name_is_pointed_at_with_all(tmp_path: Path, name: str) -> None:
    assert with_text(tmp_path, COPYRIGHT.replace("  Expat", f" {name}")) == SEE


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    whole = deb_bytes((f"{PLACE}/copyright", COPYRIGHT.encode() * 99))
    for data in (b"", b"!<arch>\n", b"no archive", whole[:400], whole.replace(b"data.tar.xz ", b"data.tar.zst")):
        (tmp_path / "deb").write_bytes(data)
        assert deb_licences(tmp_path / "deb", "tool") == ()
    assert deb_licences(tmp_path / "none", "tool") == ()
    assert said(tmp_path, ("usr/bin/tool", b"x"), ("usr/share/doc/other/copyright", COPYRIGHT.encode())) == ()


def test_every_identifier_is_one() -> None:
    assert [one for one in SPDX.values() if not is_supported_id(one)] == []
    assert all(name == name.lower() and not name.rstrip("+").endswith(".0") for name in SPDX)
    assert {SPDX[name] for name in ("gpl-2", "lgpl-2+", "gfdl-niv-1.3+", "expat")} == {
        "GPL-2.0-only", "LGPL-2.0-or-later", "GFDL-1.3-no-invariants-or-later", "MIT",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpl-2.0.0+", "GPL-2.0-or-later"), ("Apache-2", "Apache-2.0"), ("bsd-3-CLAUSE", "BSD-3-Clause")],
)
def test_names_have_no_case_and_no_last_zeros(tmp_path: Path, name: str, expected: str) -> None:
    assert with_text(tmp_path, f"{MACHINE_READABLE}\nFiles: *\nLicense: {name}\n") == (Declared(expected),)
