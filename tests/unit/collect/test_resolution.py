"""Python packages are chosen for the target, whatever the builder runs and is configured to."""

from __future__ import annotations

import pytest

from bundler.collect.resolution import Resolver, target_tags
from custody.errors import FetchFailed, InputInvalid

from .conftest import Index, manifest, sdist_bytes, wheel_bytes

BACKEND = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


@pytest.fixture
def resolver(tmp_path):
    return lambda *buildable: Resolver(manifest(["first"]).target, buildable, tmp_path)


def test_tags_are_the_target_s() -> None:
    tags = [str(tag) for tag in target_tags(manifest(["first"]).target)]
    assert tags[0] == "cp313-cp313-manylinux_2_41_x86_64"
    assert {"cp313-cp313-manylinux2014_x86_64", "cp311-abi3-manylinux_2_34_x86_64", "py3-none-any"} <= set(tags)
    assert not any("manylinux_2_42" in tag or "musllinux" in tag or "cp311-cp311" in tag for tag in tags)


def test_resolve_chooses_the_best_wheel_for_the_target(resolver, index: Index) -> None:
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "py3-none-any", "cp313-cp313-manylinux_2_17_x86_64"):
        index.add("native", f"native-1.0-{tag}.whl", wheel_bytes("native", "1.0", tag, ("plain>=1",)))
    digest = index.add("plain", "plain-2.0-py3-none-any.whl", wheel_bytes("plain", "2.0"))
    found = resolver().resolve(["native"], "environment test")
    assert [each.filename for each in found] == [
        "native-1.0-cp313-cp313-manylinux_2_17_x86_64.whl",
        "plain-2.0-py3-none-any.whl",
    ]
    assert found[1].sha256 == digest


def test_resolve_prefers_an_older_wheel_to_a_source_that_may_not_be_built(resolver, index: Index) -> None:
    index.add("thing", "thing-1.0-py3-none-any.whl", wheel_bytes("thing", "1.0"))
    index.add("thing", "thing-2.0.tar.gz", sdist_bytes("thing", "2.0", BACKEND))
    assert [each.version for each in resolver().resolve(["thing"], "test")] == ["1.0"]
    assert [each.filename for each in resolver("thing").resolve(["thing"], "test")] == ["thing-2.0.tar.gz"]


def test_resolve_refuses_source_that_the_manifest_does_not_allow(resolver, index: Index) -> None:
    index.add("thing", "thing-2.0.tar.gz", sdist_bytes("thing", "2.0", BACKEND))
    with pytest.raises(InputInvalid, match="thing") as caught:
        resolver().resolve(["thing"], "environment engine")
    assert "wheels.build" in caught.value.hint


def test_resolve_runs_no_code_of_a_source(resolver, index: Index, tmp_path) -> None:
    mark = tmp_path / "ran"
    evil = f'[build-system]\nrequires = []\nbuild-backend = "evil"\nbackend-path = ["."]\n# {mark}\n'
    index.add("thing", "thing-2.0.tar.gz", sdist_bytes("thing", "2.0", evil, ("plain",)))
    index.add("plain", "plain-1.0-py3-none-any.whl", wheel_bytes("plain", "1.0"))
    assert [each.name for each in resolver("thing").resolve(["thing"], "test")] == ["plain", "thing"]


def test_resolve_ignores_folders_that_the_builder_s_tools_are_told_to_look_into(
    resolver, index: Index, tmp_path, monkeypatch
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "plain-9.0-py3-none-any.whl").write_bytes(wheel_bytes("plain", "9.0"))
    index.add("plain", "plain-1.0-py3-none-any.whl", wheel_bytes("plain", "1.0"))
    monkeypatch.setenv("UV_FIND_LINKS", str(local))
    monkeypatch.setenv("PIP_FIND_LINKS", str(local))
    assert [each.version for each in resolver().resolve(["plain"], "test")] == ["1.0"]


def test_resolve_keeps_credentials_out_of_the_lock(resolver, index: Index, monkeypatch) -> None:
    import os

    address = os.environ["UV_DEFAULT_INDEX"]
    monkeypatch.setenv("UV_DEFAULT_INDEX", address.replace("//", "//someone:secret@"))
    index.add("plain", "plain-1.0-py3-none-any.whl", wheel_bytes("plain", "1.0"))
    (found,) = resolver().resolve(["plain"], "test")
    assert "secret" not in found.origin


def test_resolve_reports_unreachable_index(resolver, monkeypatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    with pytest.raises((FetchFailed, InputInvalid)):
        resolver().resolve(["plain"], "test")


def test_resolve_of_nothing_is_nothing(resolver) -> None:
    assert resolver().resolve([], "test") == []
