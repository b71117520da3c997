"""The paper: the same value as digits, words and code, and what is typed from it comes back."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image, ImageFilter, ImageOps

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


def _scanned(picture: Image.Image) -> list[str]:
    """What somebody else's decoder reads of it, laid on a scanner askew and not quite sharp."""
    white = ImageOps.expand(picture, 40, 255)
    askew = white.rotate(7, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    return [code.text for code in zxingcpp.read_barcodes(askew.filter(ImageFilter.GaussianBlur(1.2)))]


def _drawn(page: str) -> Image.Image:
    """The page's drawing as a printer of 200 dots an inch has it: 46 mm wide, one dark run after the other."""
    width = int(re.search(r'viewBox="0 0 (\d+) \1"', page)[1])  # type: ignore[index]
    path = re.search(r'<path transform="scale\((\d+)\)" [^>]* d="([^"]*)"', page)
    assert path
    scale, picture = int(path[1]), Image.new("L", (width, width), 255)
    x = y = 0.0
    for command, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: (-?[\d.]+))?", path[2]):
        if command == "h":  # a line of one module's height, around y
            left, top, x = round(x * scale), round((y - 0.5) * scale), x + float(first)
            picture.paste(0, (left, top, round(x * scale), top + scale))
        else:
            x, y = (float(first), float(second)) if command == "M" else (x + float(first), y + float(second))
    return picture.resize((362, 362), Image.Resampling.BICUBIC)


def _typed(text: str) -> Image.Image:
    """The blocks of the text, each character two modules."""
    lines = [line[2:] for line in text.split("the fingerprint as a QR code\n")[1].splitlines()]
    picture = Image.new("L", (max(map(len, lines)), 2 * len(lines)), 255)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            upper, lower = {" ": (255, 255), "\u2580": (0, 255), "\u2584": (255, 0), "\u2588": (0, 0)}[character]
            picture.putpixel((column, 2 * row), upper)
            picture.putpixel((column, 2 * row + 1), lower)
    return picture.resize((picture.width * 8, picture.height * 8), Image.Resampling.NEAREST)


@pytest.mark.parametrize("profile", ["p384", "cnsa"])
def test_another_decoder_scans_the_code(tmp_path: Path, profile: str) -> None:
    made = make(tmp_path / "made", profile=profile)
    source = FolderSource(made.folder)
    made_paper = paper.make_paper(verify_statement(source, read_trust(source, made.fingerprint)))
    typed = _typed(paper.text(made_paper))
    assert _scanned(_drawn(paper.html(made_paper))) == [made.fingerprint]
    assert _scanned(typed) == [made.fingerprint]
    assert _scanned(ImageOps.invert(ImageOps.expand(typed, 40, 255))) == [made.fingerprint], "on a dark terminal"
    assert _scanned(Image.new("L", (362, 362), 255)) == []


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
