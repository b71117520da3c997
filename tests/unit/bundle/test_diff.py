"""What differs between two bundles or locks, and how it is shown."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundler.bundle.diff import Contents, Difference, difference, read_contents
from bundler.bundle.write import SBOM_NAME
from bundler.cli import cli
from bundler.cli.diff import page, rows
from bundler.manifest.lock import Lock, dump_lock
from custody.errors import BundleMalformed, DigestMismatch, InputInvalid
from custody.trust import canonical

from .rich import BUILT, DEBS, OWN, Rich, licensed_wheel, rich, sealed, sha256

OLD = rich().lock


@pytest.fixture(scope="module")
def as_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("diff") / "bundle", rich())


@pytest.fixture
def bundle(as_made: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(as_made, tmp_path / "bundle"))


def changed(kind: str, number: int, **fields: object) -> Lock:
    """The lock with one item changed."""
    content = OLD.model_dump()
    content[kind][number].update(fields)
    return Lock.model_validate(content)


def without(kind: str, number: int) -> Lock:
    items = getattr(OLD, kind)
    return OLD.model_copy(update={kind: items[:number] + items[number + 1 :]})


def told(new: Lock, old: Lock = OLD) -> list[tuple[str, str, str, list[tuple[str, str, str]]]]:
    found = difference(Contents(old), Contents(new))
    return [(c.word, c.kind, c.name, c.facts) for c in found.changes]


def table(new: Lock) -> list[str]:
    return list(rows(difference(Contents(OLD), Contents(new))))


def test_the_same_has_no_difference() -> None:
    assert told(OLD) == []
    assert table(OLD)[0] == "small-1 -> small-1: no difference"


def test_a_newer_package() -> None:
    new = changed("debs", 0, version="3.5.2-1", sha256="a" * 64, size_bytes=1_500_019)
    (openssl,) = told(new)
    assert openssl[:3] == ("changed", "package", "openssl")
    assert ("version", "3.5.1-1+deb13u1", "3.5.2-1") in openssl[3]
    assert "changed  package    openssl: 3.5.1-1+deb13u1 -> 3.5.2-1                  +1.5 MB" in table(new)


def test_the_same_version_with_other_bytes_is_told_by_its_digest() -> None:
    (openssl,) = told(changed("debs", 0, sha256="a" * 64))
    assert openssl[3] == [("sha256", OLD.debs[0].sha256, "a" * 64)]
    assert any("sha256" in row and "aaaaaaaaaaaa" in row for row in table(changed("debs", 0, sha256="a" * 64)))


def test_packages_of_the_build_tree_count_by_the_tree_s_digest_alone() -> None:
    assert told(changed("debs", 2, version="14.3.0-1")) == []
    found = told(OLD.model_copy(update={"tree_sha256": "1" * 64}))
    assert [each[:3] for each in found] == [
        ("changed", "built here", "airgap"), ("changed", "built here", "llama-cpp-python"),
    ]  # fmt: skip


def test_gone_and_new() -> None:
    assert [each[:3] for each in told(without("debs", 0))] == [("gone", "package", "openssl")]
    assert [each[:3] for each in told(OLD, without("files", 0))] == [("new", "file", "readme.txt")]


def test_two_versions_of_a_wheel_side_by_side() -> None:
    second = OLD.wheels[0].model_copy(update={"version": "16.0", "filename": "rich-16.0-py3-none-any.whl",
                                              "sha256": "b" * 64, "environments": ("engine",)})  # fmt: skip
    both = OLD.model_copy(update={"wheels": (*OLD.wheels, second)})
    assert [each[:3] for each in told(both)] == [("new", "wheel", "rich")]
    assert [each[:3] for each in told(OLD, both)] == [("gone", "wheel", "rich")]
    third = second.model_copy(update={"version": "16.1", "sha256": "c" * 64})
    moved = told(OLD.model_copy(update={"wheels": (*OLD.wheels, third)}), both)
    assert [(each[0], each[3][0]) for each in moved] == [("changed", ("version", "16.0", "16.1"))]


def test_a_model_of_another_quantization_and_licence() -> None:
    new = changed("models", 0, quantization="Q8_0", license="MIT", sha256="d" * 64)
    model, gone, came = told(new)
    assert model[3][:3] == [
        ("quantization", "Q4_K_M", "Q8_0"),
        ("licence", "Llama 3 Community License", "MIT"),
        ("sha256", OLD.models[0].sha256, "d" * 64),
    ]
    assert (gone[:3], came[:3]) == (
        ("gone", "licence", "Llama 3 Community License"), ("new", "licence", "MIT"),
    )  # fmt: skip


def test_another_chat_template_under_the_same_name() -> None:
    (model,) = told(changed("models", 0, chat_template_sha256="e" * 64))
    assert model[3] == [("chat template sha256", "6" * 64, "e" * 64)]


def test_flags_are_told_word_by_word() -> None:
    new = changed("sources", 1, flags={"CMAKE_ARGS": "-DGGML_NATIVE=OFF -DGGML_CUDA=ON"})
    text = re.sub(r"\s+", " ", " ".join(table(new)))
    assert "llama-cpp-python: flag CMAKE_ARGS with -DGGML_CUDA=ON, without -DGGML_AVX2=ON" in text
    turned = changed("sources", 1, flags={"CMAKE_ARGS": "-DGGML_AVX2=ON -DGGML_NATIVE=OFF"})
    assert "in another order" in re.sub(r"\s+", " ", " ".join(table(turned)))


def test_what_the_bundle_is_for() -> None:
    new = OLD.model_copy(update={"target": OLD.target.model_copy(update={"kernel": "6.13", "driver": "550.163.01"})})
    assert told(new) == [
        ("new", "bundle", "target driver", [("value", "", "550.163.01")]),
        ("changed", "bundle", "target kernel", [("value", "6.12", "6.13")]),
    ]


def test_rows_are_80_columns_whatever_the_names() -> None:
    new = changed("files", 0, name="a" * 120)
    long = new.model_copy(
        update={"models": (OLD.models[0].model_copy(update={"license": "word " * 60, "name": "m" * 63}),)}
    )
    assert max(map(len, table(long))) <= 80


def test_a_bundle_s_sbom_tells_licences_of_wheels_and_sizes_of_what_was_built(tmp_path: Path, as_made: Path) -> None:
    old = as_made
    made, name = rich(version=2), "data/wheels/rich-15.0.0-py3-none-any.whl"
    wheel = licensed_wheel("rich", "15.0.0", "License-Expression: ISC")
    new = sealed(tmp_path / "new", Rich(made.lock, {**made.payload, name: wheel}))
    found = difference(read_contents(old), read_contents(new))
    assert [(c.word, c.kind, c.name) for c in found.changes] == [
        ("changed", "bundle", "version"), ("changed", "wheel", "rich"),
        ("new", "licence", "ISC"), ("gone", "licence", "MIT"),
    ]  # fmt: skip
    assert found.changes[1].facts == [("licence", "MIT", "ISC")]
    assert found.sizes["built here"] == (len(OWN) + len(BUILT),) * 2
    # One side alone knows its licences, of all or of packages: no difference.
    lock = tmp_path / "old.lock.json"
    lock.write_bytes(dump_lock(OLD))
    assert difference(read_contents(lock), read_contents(old)).changes == ()


def test_a_bundle_of_before_that_knew_no_licences_of_packages(tmp_path: Path, as_made: Path) -> None:
    now = read_contents(as_made)
    assert now.packages is not None
    assert difference(replace(now, packages=None), now).changes == ()
    silent = {path: replace(known, licences=()) for path, known in now.packages.items()}
    assert {c.kind for c in difference(replace(now, packages=silent), now).changes} == {"package", "licence"}
    made = rich()
    unread = {path: b"odd" for path in made.payload if path.endswith(".deb")}
    assert read_contents(sealed(tmp_path / "unread", Rich(made.lock, {**made.payload, **unread}))).packages is None


def test_a_package_with_another_licence(tmp_path: Path, as_made: Path) -> None:
    now = read_contents(as_made)
    path = f"data/apt/debian/{DEBS[0][3]}"
    assert now.packages is not None
    other = {**now.packages, path: replace(now.packages[path], licences=("Apache-2.0", "ISC"))}
    package, gone, came = difference(now, replace(now, packages=other)).changes
    assert package.facts == [("licence", "Apache-2.0, GPL-1+ or Artistic", "Apache-2.0, ISC")]
    assert [(c.word, c.kind, c.name) for c in (gone, came)] == [
        ("gone", "licence", "GPL-1+ or Artistic"), ("new", "licence", "ISC"),
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["lock.json", SBOM_NAME])
def test_refuses_a_bundle_whose_lock_or_sbom_was_changed(bundle: Path, path: str) -> None:
    file = bundle / "sealed" / path
    file.write_bytes(file.read_bytes().replace(b"openssl", b"opensSl"))
    with pytest.raises(DigestMismatch, match=path):
        read_contents(bundle)


@pytest.mark.parametrize(
    "content",
    [
        "[]", '{"components": [{}]}', "{", "[" * 100_000,
        '{"components": [{"bom-ref": "data/wheels/a", "name": "a", "version": "1", "properties": []}]}',
        '{"components": [{"bom-ref": "data/wheels/a", "name": "a", "version": "\\u001b[31m", "properties":'
        ' [{"name": "airgap:size_bytes", "value": "1"}]}]}',
    ],
)  # fmt: skip
def test_refuses_an_sbom_that_is_not_ours(bundle: Path, content: str) -> None:
    """Unsigned bundles are compared too, so its Statement may name anything."""
    (bundle / "sealed" / SBOM_NAME).write_text(content)
    statement: dict[str, Any] = json.loads((bundle / "carrier/statement.json").read_bytes())
    for named in (*statement["predicate"]["files"], *statement["predicate"]["sbom"]):
        if named["path"] == SBOM_NAME:
            named["sha256"] = sha256(content.encode())
    (bundle / "carrier/statement.json").write_bytes(canonical.dump(statement))
    with pytest.raises(BundleMalformed, match="not an SBOM of ours"):
        read_contents(bundle)


def test_the_command_reads_locks_and_bundles(tmp_path: Path) -> None:
    old, new = tmp_path / "old.lock.json", sealed(tmp_path / "new", rich(version=2))
    old.write_bytes(dump_lock(OLD))
    done = CliRunner().invoke(cli, ["diff", str(old), str(new)], catch_exceptions=False)
    assert done.stdout.splitlines()[:2] == [
        "small-1 -> small-2: 0 new, 1 changed, 0 gone", "changed  bundle     version: 1 -> 2",
    ]  # fmt: skip
    content = json.loads(CliRunner().invoke(cli, ["diff", str(old), str(new), "--json"]).stdout)
    assert content["schema"] == "airgap.diff/1"
    assert content["changes"] == [
        {"kind": "bundle", "name": "version", "change": "changed", "old": {"facts": {"value": "1"}, "size_bytes": None},
         "new": {"facts": {"value": "2"}, "size_bytes": None}},
    ]  # fmt: skip
    old.write_text("{}")
    assert isinstance(CliRunner().invoke(cli, ["diff", str(old), str(new)]).exception, InputInvalid)


def test_the_page_needs_nothing_else_and_shows_markup_as_text(tmp_path: Path) -> None:
    evil = changed("models", 0, license="<script>alert(1)</script> & MIT")
    text = page(difference(Contents(OLD), Contents(evil)))
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; MIT" in text
    assert not re.search(r"(?:src|href|url)\s*[=(]", text)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    lock, html = tmp_path / "lock.json", tmp_path / "diff.html"
    lock.write_bytes(dump_lock(OLD))
    CliRunner().invoke(cli, ["diff", str(lock), str(lock), "--html", str(html)], catch_exceptions=False)
    assert "no difference" in html.read_text()


def test_sizes_are_of_what_is_carried() -> None:
    found: Difference = difference(Contents(OLD), Contents(without("models", 0)))
    assert found.sizes["model"] == (len(rich().payload["data/models/words.gguf"]), 0)
    assert "size     all" in table(OLD)[-1]
