"""The SBOM: valid by CycloneDX's own strict schema, complete, and the same for the same lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bundler.bundle.licence import Declared, wheel_licence
from bundler.bundle.write import SBOM_NAME
from custody.trust import statement as statements

from . import rich
from .rich import Rich, licensed_wheel, sealed, sha256


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("sbom") / "bundle", rich.rich())


@pytest.fixture(scope="module")
def sbom(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "sealed" / SBOM_NAME).read_text())
    return content


def component(sbom: dict[str, Any], path: str) -> dict[str, Any]:
    (found,) = (each for each in sbom["components"] if each["bom-ref"] == path)
    content: dict[str, Any] = found
    return content


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in component["properties"]}


def test_it_is_valid_by_the_strict_schema(bundle: Path) -> None:
    text = (bundle / "sealed" / SBOM_NAME).read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    broken = text.replace('"SHA-256"', '"SHA-257"', 1)  # a validator that cannot say no proves nothing
    assert validator.validate_str(broken) is not None


def test_every_file_of_the_payload_is_in_it_with_its_digest(sbom: dict[str, Any], bundle: Path) -> None:
    found = {each["bom-ref"]: each["hashes"] for each in sbom["components"]}
    payload = [path for path in (bundle / "sealed/data").rglob("*") if path.is_file()]
    assert found == {
        path.relative_to(bundle / "sealed").as_posix(): [{"alg": "SHA-256", "content": sha256(path.read_bytes())}]
        for path in payload
    }
    (whole,) = (each for each in sbom["dependencies"] if each["ref"] == "bundle")
    assert whole["dependsOn"] == sorted(found)


def test_time_and_serial_number_follow_from_the_lock(sbom: dict[str, Any], tmp_path: Path) -> None:
    assert sbom["metadata"]["timestamp"] == "2025-10-09T08:53:20+00:00"
    assert sbom["serialNumber"].startswith("urn:uuid:") and sbom["serialNumber"][23] == "5"
    again = json.loads((sealed(tmp_path / "again", rich.rich()) / "sealed" / SBOM_NAME).read_text())
    assert again == sbom
    other = json.loads((sealed(tmp_path / "other", rich.rich(version=2)) / "sealed" / SBOM_NAME).read_text())
    assert other["serialNumber"] != sbom["serialNumber"]


def test_packages_have_the_names_that_scanners_know(sbom: dict[str, Any]) -> None:
    openssl = component(sbom, f"data/apt/debian/{rich.DEBS[0][3]}")
    assert openssl["purl"] == "pkg:deb/debian/openssl@3.5.1-1%2Bdeb13u1?arch=amd64&distro=trixie"
    assert (openssl["version"], properties(openssl)["airgap:uses"]) == ("3.5.1-1+deb13u1", "appliance bootstrap")
    assert not [each for each in sbom["components"] if each["name"] == "gcc-14"], "the build tree is not carried"


def test_packages_have_the_licences_that_they_declare(sbom: dict[str, Any]) -> None:
    openssl, python3, certificates = (
        component(sbom, f"data/apt/debian/{deb[3]}")["licenses"] for deb in rich.DEBS if deb[4] != "tree"
    )
    assert openssl == [
        {"license": {"acknowledgement": "declared", "id": "Apache-2.0"}},
        {"license": {"acknowledgement": "declared", "name": "GPL-1+ or Artistic"}},
    ]
    (pointer,) = python3
    assert pointer["license"]["name"] == "see /usr/share/doc/python3/copyright"
    assert [each["license"]["id"] for each in certificates] == ["GPL-2.0-or-later", "MPL-2.0"]


def test_wheels_have_address_licence_and_environments(sbom: dict[str, Any]) -> None:
    wheel = component(sbom, "data/wheels/packaging-26.3-py3-none-any.whl")
    assert wheel["purl"] == "pkg:pypi/packaging@26.3?file_name=packaging-26.3-py3-none-any.whl"
    assert wheel["licenses"] == [{"expression": "Apache-2.0 OR BSD-2-Clause", "acknowledgement": "declared"}]
    assert wheel["externalReferences"][0]["url"] == "https://index.example/packaging-26.3-py3-none-any.whl"
    assert properties(wheel)["airgap:environments"] == "control engine"


def test_a_wheel_built_here_names_its_source_and_its_provenance(sbom: dict[str, Any], bundle: Path) -> None:
    name = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    wheel = component(sbom, f"data/wheels/{name}")
    (ancestor,) = wheel["pedigree"]["ancestors"]
    assert (ancestor["name"], ancestor["hashes"][0]["content"]) == ("llama_cpp_python-0.3.36.tar.gz", "8" * 64)
    (provenance,) = wheel["externalReferences"]
    assert provenance["type"] == "attestation"
    data = (bundle / "sealed/sbom" / provenance["url"]).read_bytes()
    assert provenance["hashes"] == [{"alg": "SHA-256", "content": sha256(data)}]


def test_this_project_does_not_pass_for_a_package_of_an_index(sbom: dict[str, Any]) -> None:
    own = component(sbom, "data/wheels/airgap-0.1.0-py3-none-any.whl")
    assert own["purl"] == "pkg:generic/airgap@0.1.0"
    assert properties(own)["airgap:source_listing_sha256"] == "5" * 64


def test_models_are_an_ml_bom(sbom: dict[str, Any]) -> None:
    model = component(sbom, "data/models/words.gguf")
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"name": "Llama 3 Community License", "acknowledgement": "declared"}}]
    assert model["modelCard"]["modelParameters"] == {"modelArchitecture": "llama"}
    assert properties(model["modelCard"]) == {
        "airgap:chat_template_sha256": "6" * 64,
        "airgap:context_tokens": "8192",
        "airgap:kv_bytes_per_token": "4096",
        "airgap:quantization": "Q4_K_M",
        "airgap:tokenizer": "gpt2",
    }


def test_paths_of_the_builder_stay_out(bundle: Path) -> None:
    documents = [path.read_text() for path in (bundle / "sealed/sbom").rglob("*.json")]
    assert len(documents) == 3
    assert not [text for text in documents if "/srv/" in text or str(bundle) in text]


def test_the_statement_binds_every_document(bundle: Path) -> None:
    statement = statements.parse((bundle / "carrier/statement.json").read_bytes(), "statement")
    assert {(d.path, d.sha256) for d in statement.predicate.sbom} == {
        (path.relative_to(bundle / "sealed").as_posix(), sha256(path.read_bytes()))
        for path in (bundle / "sealed/sbom").rglob("*.json")
    }


def test_a_file_that_no_lock_names_is_a_plain_file(tmp_path: Path) -> None:
    made = rich.rich()
    stray = {"data/wheels/stray-1.0-py3-none-any.whl": b"no archive", "data/wheels/not-a-wheel.whl": b""}
    folder = sealed(tmp_path / "bundle", Rich(made.lock, {**made.payload, **stray}))
    sbom = json.loads((folder / "sealed" / SBOM_NAME).read_text())
    for path in stray:
        found = component(sbom, path)
        assert (found["type"], "purl" in found, "version" in found) == ("file", False, False)


def test_what_an_interrupted_seal_left_is_made_again(tmp_path: Path) -> None:
    made = rich.rich()
    folder = sealed(tmp_path / "bundle", Rich(made.lock, {**made.payload, SBOM_NAME: b"half"}))
    whole = sealed(tmp_path / "whole", made)
    assert (folder / "carrier/statement.json").read_bytes() == (whole / "carrier/statement.json").read_bytes()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["License-Expression: MIT", "License: see file"], "MIT"),
        (["License: BSD-3-Clause"], "BSD-3-Clause"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT License"),
        (["License: " + "all of a licence's text " * 9], None),
        (["License: a\x1b[31mred"], None),
        (["Classifier: License :: OSI Approved"], "OSI Approved"),
        ([], None),
    ],
)
def test_a_wheel_says_its_licence(tmp_path: Path, headers: list[str], expected: str | None) -> None:
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    wheel.write_bytes(licensed_wheel("thing", "1.0", *headers))
    assert wheel_licence(wheel) == ((Declared(expected),) if expected else ())


def test_a_wheel_that_cannot_be_read_has_no_known_licence(tmp_path: Path) -> None:
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK no archive")
    assert wheel_licence(wheel) == ()
