"""A wheel's bytes depend on what is in it, and its key on all that makes it."""

from __future__ import annotations

import io
import zipfile

import pytest
from pydantic import ValidationError

from bundler.collect.compile import normalised, wheel_key
from bundler.manifest.lock import LockedSource, LockedWheel

from .conftest import wheel_bytes

SOURCE = LockedSource(
    name="thing", version="1.0", kind="sdist", filename="thing-1.0.tar.gz", url="https://i.example/u",
    size_bytes=1, sha256="0" * 64, flags={"CMAKE_ARGS": "-DA=ON"}, build_requires=(), environments=("engine",),
)  # fmt: skip
TOOL = LockedWheel(
    name="tool", version="1", filename="tool-1-py3-none-any.whl", url="https://i.example/u",
    size_bytes=1, sha256="1" * 64,
)  # fmt: skip


def _rewritten(wheel: bytes, date: tuple[int, int, int, int, int, int], compression: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as source, zipfile.ZipFile(out, "w", compression) as target:
        for name in reversed(source.namelist()):
            target.writestr(zipfile.ZipInfo(name, date), source.read(name), compression)
    return out.getvalue()


def test_normalised_forgets_order_times_and_compression() -> None:
    wheel = wheel_bytes("thing", "1.0")
    other = _rewritten(wheel, (2001, 2, 3, 4, 5, 6), zipfile.ZIP_DEFLATED)
    assert wheel != other
    assert normalised(wheel) == normalised(other)


def test_normalised_records_every_file() -> None:
    with zipfile.ZipFile(io.BytesIO(normalised(wheel_bytes("thing", "1.0")))) as archive:
        record = archive.read("thing-1.0.dist-info/RECORD").decode().splitlines()
        assert len(record) == len(archive.namelist())
        assert record[0].startswith("thing-1.0.dist-info/METADATA,sha256=")
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_normalised_notices_other_content() -> None:
    assert normalised(wheel_bytes("thing", "1.0")) != normalised(wheel_bytes("thing", "1.0", requires=("a",)))


def test_key_changes_with_whatever_makes_the_wheel() -> None:
    tree = "2" * 64
    changed = [
        {"sha256": "3" * 64},
        {"version": "1.1"},
        {"flags": {"CMAKE_ARGS": "-DA=OFF"}},
        {"build_requires": (TOOL,)},
        {"build_requires": (TOOL.model_copy(update={"sha256": "4" * 64}),)},
    ]
    keys = [wheel_key(SOURCE, tree), wheel_key(SOURCE, "5" * 64)]
    keys += [wheel_key(SOURCE.model_copy(update=change), tree) for change in changed]
    assert len(set(keys)) == len(keys)


def test_key_does_not_change_with_where_it_goes() -> None:
    elsewhere = SOURCE.model_copy(update={"environments": ("other",), "url": "v"})
    assert wheel_key(SOURCE, "2" * 64) == wheel_key(elsewhere, "2" * 64)


@pytest.mark.parametrize(
    "change",
    [{"name": "../../etc"}, {"version": "1.0\n--index-url=x"}, {"filename": "../x"}, {"environments": ("a/b",)}],
)
def test_lock_refuses_source_that_points_elsewhere(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LockedSource.model_validate({**SOURCE.model_dump(), **change})


def test_normalised_refuses_what_is_no_wheel() -> None:
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        normalised(b"nothing")
