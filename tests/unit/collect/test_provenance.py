"""Provenance of wheels that are built here: SLSA's own schema accepts it, and it names all that makes the bytes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from bundler.collect.provenance import compilers, make_provenance
from bundler.manifest.lock import Lock, LockedSource
from custody.trust import canonical
from tests.unit.bundle.rich import rich

WHEEL = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"


@pytest.fixture(scope="module")
def lock() -> Lock:
    return rich().lock


def made(lock: Lock, source: LockedSource) -> dict[str, Any]:
    content: dict[str, Any] = canonical.parse(make_provenance(source, lock, WHEEL, "a" * 64), "provenance", 1 << 20)
    return content


@pytest.mark.parametrize("number", [0, 1])
def test_upstream_s_schema_accepts_it(lock: Lock, number: int) -> None:
    content = made(lock, lock.sources[number])
    Statement.copy_from_pb(json_format.ParseDict(content, StatementMessage())).validate()
    predicate = json_format.ParseDict(content["predicate"], Provenance())
    assert predicate.run_details.builder.id == "urn:airgap:builder:v1"
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict({**content["predicate"], "materials": []}, Provenance())


def test_it_names_flags_compiler_source_tools_and_tree(lock: Lock) -> None:
    content = made(lock, lock.sources[1])
    assert content["subject"] == [{"name": WHEEL, "digest": {"sha256": "a" * 64}}]
    build = content["predicate"]["buildDefinition"]
    assert build["buildType"] == "urn:airgap:wheel:v1"
    assert build["externalParameters"] == {
        "name": "llama-cpp-python", "version": "0.3.36", "kind": "sdist", "source_sha256": "8" * 64,
        "flags": {"CMAKE_ARGS": "-DGGML_NATIVE=OFF -DGGML_AVX2=ON"},
    }  # fmt: skip
    assert build["internalParameters"]["tree_sha256"] == "9" * 64
    assert content["predicate"]["runDetails"]["builder"]["version"] == {"gcc-14": "14.2.0-19", "python3": "3.13.5-1"}
    names = [resource["name"] for resource in build["resolvedDependencies"]]
    assert names == [
        "llama_cpp_python-0.3.36.tar.gz", "scikit_build_core-1.1.2-py3-none-any.whl", "gcc-14", "python3",
    ]  # fmt: skip
    assert [resource["uri"] for resource in build["resolvedDependencies"]] == [
        "pkg:pypi/llama-cpp-python@0.3.36?file_name=llama_cpp_python-0.3.36.tar.gz",  # it came from a folder
        "https://index.example/scikit_build_core-1.1.2-py3-none-any.whl",
        "pkg:deb/debian/gcc-14@14.2.0-19?arch=amd64&distro=trixie",
        "pkg:deb/debian/python3@3.13.5-1?arch=amd64&distro=trixie",
    ]


def test_this_project_s_digest_is_one_of_a_listing(lock: Lock) -> None:
    first = made(lock, lock.sources[0])["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert first == {
        "name": "listing of the project's files", "digest": {"sha256": "5" * 64}, "mediaType": "text/plain",
    }  # fmt: skip


def test_it_depends_on_the_lock_alone(lock: Lock) -> None:
    turned = lock.model_copy(update={"debs": tuple(reversed(lock.debs))})
    source = lock.sources[1]
    assert make_provenance(source, turned, WHEEL, "a" * 64) == make_provenance(source, lock, WHEEL, "a" * 64)
    other = source.model_copy(update={"flags": {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}})
    assert make_provenance(other, lock, WHEEL, "a" * 64) != make_provenance(source, lock, WHEEL, "a" * 64)


def test_compilers_are_those_of_the_tree_alone(lock: Lock) -> None:
    cmake = lock.debs[0].model_copy(update={"package": "cmake", "uses": ("appliance",)})
    assert compilers(lock.model_copy(update={"debs": (*lock.debs, cmake)})) == {
        "gcc-14": "14.2.0-19",
        "python3": "3.13.5-1",
    }
