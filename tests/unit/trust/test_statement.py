"""Paths that a bundle may hold, and the documents that a Statement names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from custody.errors import BundleMalformed
from custody.trust import canonical, statement
from custody.trust.statement import Identity, StatementTarget, check_paths
from tests.bundles import sealed


@pytest.mark.parametrize(
    "paths",
    [
        ["/etc/passwd"], ["a/../b"], ["a//b"], ["./a"], [".hidden"], ["-rf"], ["a/-x"], ["a b"], ["a\nb"], ["é"], [""],
        ["a" * 513], ["A", "a"], ["a", "a/b"], ["dir/A", "DIR/b", "dir"],
    ],
)  # fmt: skip
def test_bad_paths_are_refused(paths: list[str]) -> None:
    with pytest.raises(BundleMalformed):
        check_paths(paths)


def test_good_paths_pass() -> None:
    check_paths(["data/apt/debian/pool/main/g/gcc/libc++_1%3a2~rc1+b1@x=y.deb", "data/b", "data/Xorg.deb", "X"])


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["Data/a", "b", "data/A"], "data/A: differs from Data/a at most in case"),
        (["a/b/c", "a/B"], "a/B: is a file, and a folder for a/b/c"),
        (["x/y", "x", "x/z"], "x: is a file, and a folder for x/z"),
    ],
)
def test_paths_that_a_disk_would_mix_up_are_both_named(paths: list[str], says: str) -> None:
    with pytest.raises(BundleMalformed, match=f"^{says}$"):
        check_paths(paths)


def _without_document(predicate: dict[str, Any]) -> None:
    predicate["sbom"] = []


def _of_another_digest(predicate: dict[str, Any]) -> None:
    predicate["sbom"][0]["sha256"] = "0" * 64


def _twice(predicate: dict[str, Any]) -> None:
    predicate["sbom"] *= 2


def _of_no_file(predicate: dict[str, Any]) -> None:
    predicate["sbom"].append({"path": "sbom/other.json", "sha256": "0" * 64})


def _elsewhere(predicate: dict[str, Any]) -> None:
    predicate["sbom"][0]["path"] = "lock.json"


def _with_more(predicate: dict[str, Any]) -> None:
    predicate["sbom"][0]["size_bytes"] = 1


@pytest.mark.parametrize("change", [_without_document, _of_another_digest, _twice, _of_no_file, _elsewhere, _with_more])
def test_parse_refuses_a_statement_whose_sbom_is_not_that_of_its_files(tmp_path: Path, change: Any) -> None:
    data = (sealed(tmp_path / "bundle") / "carrier/statement.json").read_bytes()
    content = json.loads(data)
    assert [document["path"] for document in content["predicate"]["sbom"]] == ["sbom/bundle.cdx.json"]
    statement.parse(data, "as sealed")
    change(content["predicate"])
    with pytest.raises(BundleMalformed, match="sbom"):
        statement.parse(canonical.dump(content), "changed")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["predicate"]["bundle"].pop("base"),
        lambda content: content["predicate"]["files"][0].update(sha384=None),
    ],
    ids=["left out", "nothing in it"],
)
def test_a_statement_has_one_spelling(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((sealed(tmp_path / "bundle") / "carrier/statement.json").read_bytes())
    change(content)
    with pytest.raises(BundleMalformed, match="changed: a field is left out"):
        statement.parse(canonical.dump(content), "changed")


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
def test_the_digest_of_a_statement_is_that_of_its_bytes(tmp_path: Path, algorithm: str) -> None:
    data = (sealed(tmp_path / "bundle", digest=algorithm) / "carrier/statement.json").read_bytes()
    assert statement.parse(data, "it").digest == hashlib.new(algorithm, data).hexdigest()


def test_a_list_of_digests_has_one_spelling(tmp_path: Path) -> None:
    files = statement.parse((sealed(tmp_path / "b") / "carrier/statement.json").read_bytes(), "it").predicate.files
    expected = "".join(f"{each.sha256}  {each.path}\n" for each in sorted(files, key=lambda each: each.path))
    assert len(files) > 1
    assert statement.sums(reversed(files)) == expected.encode()
    assert (tmp_path / "b/sealed/SHA256SUMS").read_bytes() == expected.encode()


def test_documents_have_the_digests_of_their_files(tmp_path: Path) -> None:
    data = (sealed(tmp_path / "bundle", digest="sha384") / "carrier/statement.json").read_bytes()
    (document,) = statement.parse(data, "it").predicate.sbom
    (file,) = (each for each in statement.parse(data, "it").predicate.files if each.path == document.path)
    assert (document.sha256, document.sha384) == (file.sha256, file.sha384)
    assert len(document.digest) == 96


def test_a_bundle_of_the_first_days_without_sbom_is_read(tmp_path: Path) -> None:
    content = json.loads((sealed(tmp_path / "bundle") / "carrier/statement.json").read_bytes())
    content["predicate"]["sbom"] = []
    content["predicate"]["files"] = [f for f in content["predicate"]["files"] if not f["path"].startswith("sbom/")]
    assert statement.parse(canonical.dump(content), "old").predicate.sbom == ()


@pytest.mark.parametrize(("driver", "told"), [(None, ""), ("550.163.01", "550.163.01")])
def test_facts_are_lines_that_a_shell_reads(driver: str | None, told: str) -> None:
    identity = Identity(
        name="site", channel="stable", version=7, security_epoch=2, digest="sha256", lock_sha256="ab" * 32,
        lowest_revocation=3, lowest_verifier="0.1.0", source_date_epoch=1_760_000_000,
    )  # fmt: skip
    target = StatementTarget(
        distribution="debian", release="trixie", architecture="amd64", python="3.13", kernel="6.12", driver=driver
    )
    assert statement.facts(identity, target).decode().splitlines() == [
        "format=1", "bundle=site", "channel=stable", "version=7", "security_epoch=2", "base=",
        "source_date_epoch=1760000000", "lowest_revocation=3", "lowest_verifier=0.1.0", "distribution=debian",
        "release=trixie", "architecture=amd64", "python=3.13", "kernel=6.12", f"driver={told}",
    ]  # fmt: skip
