"""The paper: the same value as digits, words and code, and what is typed from it comes back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bundler.bundle.read import FolderSource
from bundler.cli import main
from bundler.cli.verify import parse_fingerprint
from bundler.media import kit, paper
from bundler.media.start import start_partition
from custody.errors import InputInvalid
from custody.trust.verify import VerifiedBundle, read_trust, verify_statement
from custody.trust.words import to_words
from tests.bundles import Made, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def bundle(made: Made) -> VerifiedBundle:
    source = FolderSource(made.folder)
    return verify_statement(source, read_trust(source, made.fingerprint))


def test_what_is_typed_from_the_paper_comes_back() -> None:
    for digits in ("0f" * 32, "c7" * 48):
        assert parse_fingerprint(" ".join(to_words(digits)).upper()) == digits
        assert parse_fingerprint(" ".join(paper.groups(digits.upper()))) == digits
        with pytest.raises(InputInvalid, match="expected 64 or 96 hexadecimal digits"):
            parse_fingerprint(digits[1:])


def test_the_paper_says_what_the_medium_shows(made: Made, bundle: VerifiedBundle) -> None:
    made_paper = paper.make_paper(bundle)
    assert made_paper.fingerprint == made.fingerprint
    assert made_paper.start == hashlib.sha256(start_partition(bundle).script).hexdigest()
    assert made_paper.check == hashlib.sha256(kit.kit()["check"]).hexdigest()
    text, page = paper.text(made_paper), paper.html(made_paper)
    for group in paper.groups(made.fingerprint) + paper.groups(made_paper.start) + list(made_paper.words):
        assert group in text
        assert group in page
    assert "minimum version   1" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "<svg" in page
    for outside in ("src=", "url(", "<script"):
        assert outside not in page


def test_the_paper_of_profile_cnsa_fits_its_page(tmp_path: Path) -> None:
    made = make(tmp_path / "made", profile="cnsa")
    source = FolderSource(made.folder)
    made_paper = paper.make_paper(verify_statement(source, read_trust(source, made.fingerprint)))
    text = paper.text(made_paper)
    assert (made_paper.algorithm, len(made_paper.start), len(made_paper.words)) == ("sha384", 96, 36)
    assert "sha384 of start" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "sha384sum" in paper.html(made_paper)


def test_the_command_writes_a_page_or_text(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    command = ["trust", "paper", str(made.trust), "--bundle", str(made.folder)]
    main(command)
    assert paper.groups(made.fingerprint)[0] in capsys.readouterr().out
    main([*command, "--out", str(tmp_path / "p.html")])
    assert (tmp_path / "p.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(SystemExit) as stop:
        main([*command, "--out", str(tmp_path / "p.doc")])
    assert stop.value.code == 21


def test_the_kit_is_two_files_and_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit-kit", str(tmp_path / "kit")])
    assert sorted(path.name for path in (tmp_path / "kit").iterdir()) == ["README.txt", "check"]
    assert hashlib.sha256((tmp_path / "kit/check").read_bytes()).hexdigest() in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["audit-kit", str(tmp_path / "kit")])
    assert stop.value.code == 22


def test_the_scripts_carry_one_judgement() -> None:
    judgement = kit.script("check.sh").split("# verify.sh: ")[1].split("\n\nif [ $# -lt 1 ]")[0]
    assert judgement in kit.script("start.sh")
    assert "@CARRIER@" not in kit.script("start.sh")
    assert "@" not in kit.script("check.sh").replace("~%@=", "")
