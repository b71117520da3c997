"""The paper that travels apart from the medium: what a host is told before it believes anything."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import jinja2
import segno

from bundler.media.kit import kit
from bundler.media.start import start_partition
from custody.trust.profile import hexdigest
from custody.trust.verify import VerifiedBundle
from custody.trust.words import to_words


@dataclass(frozen=True)
class Paper:
    """What stands on it.

    Attributes:
        version: of the bundle, and the lowest one that a host without a memory may install.
        fingerprint: of the newest root.
        algorithm: of the digests below.
        start, check: digest of the script that installs, and of the auditor's.
    """

    bundle: str
    channel: str
    version: int
    root_version: int
    fingerprint: str
    algorithm: str
    start: str
    check: str

    @property
    def words(self) -> tuple[str, ...]:
        """The fingerprint, to be read out."""
        return to_words(self.fingerprint)


def make_paper(bundle: VerifiedBundle) -> Paper:
    """The paper of a verified bundle; the same bundle gives the same paper."""
    identity, root, algorithm = bundle.statement.predicate.bundle, bundle.trust.root, bundle.statement.algorithm
    return Paper(
        bundle=identity.id,
        channel=identity.channel,
        version=identity.version,
        root_version=root.version,
        fingerprint=root.fingerprint,
        algorithm=algorithm,
        start=start_partition(bundle).script_digest,
        check=hexdigest(algorithm, kit()["check"]),
    )


def groups(digest: str) -> list[str]:
    """Hexadecimal digits in groups of four."""
    return [digest[i : i + 4] for i in range(0, len(digest), 4)]


def text(paper: Paper) -> str:
    """Eighty columns of text; the QR code needs a font with block characters."""
    lines = [
        "AIRGAP PAPER. It travels apart from the medium. Compare every digit.",
        "",
        f"bundle            {paper.bundle}, channel {paper.channel}",
        f"minimum version   {paper.version}",
        "",
        f"fingerprint of root {paper.root_version}",
        *_rows(groups(paper.fingerprint), 8, 6),
        "",
        "the same as words",
        *_rows([f"{n:2} {word}" for n, word in enumerate(paper.words, 1)], 6, 12),
        "",
        f"{paper.algorithm} of start (on the medium)",
        *_rows(groups(paper.start), 8, 6),
        "",
        f"{paper.algorithm} of audit/check (on the medium)",
        *_rows(groups(paper.check), 8, 6),
        "",
        "the fingerprint as a QR code",
        *_blocks(paper.fingerprint),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def html(paper: Paper) -> str:
    """One page that holds everything it needs, for A4."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("bundler.media").joinpath("paper.html").read_text())
    code = segno.make(paper.fingerprint, error="m", micro=False)
    drawing = code.svg_inline(scale=4, border=4, omitsize=True)
    return template.render(paper=paper, groups=groups, code=drawing)


def _rows(cells: list[str], columns: int, width: int) -> list[str]:
    return ["  " + "".join(cell.ljust(width) for cell in cells[i : i + columns]) for i in range(0, len(cells), columns)]


def _blocks(content: str) -> list[str]:
    """Two rows of the code in one line of characters, dark ones printed."""
    rows = [list(row) for row in segno.make(content, error="m", micro=False).matrix_iter(border=2)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [
        "  " + "".join(" \u2580\u2584\u2588"[(a & 1) + 2 * (b & 1)] for a, b in zip(*pair, strict=True))
        for pair in pairs
    ]
