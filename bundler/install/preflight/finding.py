"""What a check says, what it may look at, and how the list is shown."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from bundler.install.site import Site
from bundler.manifest.lock import Lock
from custody.errors import PreflightFailed
from custody.trust.statement import Statement

#: Of the columns, in characters: 80 in all, less the indentation of an error.
_WIDTHS = (26, 26, 26)


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit.

    Attributes:
        stops: an installation does not begin; otherwise it is a warning.
    """

    what: str
    expected: str
    found: str
    remedy: str
    stops: bool = True


@dataclass(frozen=True)
class Case:
    """What is checked: this host, this site file, this release.

    Attributes:
        release: root-owned folder with `sealed/` and `carrier/`.
        floor_s: the newest time, in seconds since 1970, that a release which was healthy here spoke of.
        root: where the host's /sys, /proc, /etc and /var are read.
    """

    statement: Statement
    lock: Lock
    site: Site
    release: Path
    root: Path = Path("/")
    floor_s: int = 0

    def at(self, path: str | Path) -> Path:
        """An absolute path of the host, below `root`."""
        return self.root / str(path).lstrip("/")


def read(path: Path) -> str:
    """A file of the host without surrounding blanks; empty when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # not there; or a card that is down, whose carrier answers EINVAL
        return ""


def entries(folder: Path) -> list[Path]:
    """What lies in a folder of the host, sorted; empty when it is not there."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def require(findings: Sequence[Finding]) -> None:
    """Stop at findings; warnings alone do not.

    Raises:
        PreflightFailed: lists everything, warnings too, with its remedy.
    """
    stopping = sum(finding.stops for finding in findings)
    if stopping:
        raise PreflightFailed(
            f"preflight: {stopping} findings, {len(findings) - stopping} warnings; nothing was changed\n"
            + render(findings),
            "mend all findings, then run the same command again",
        )


def render(findings: Sequence[Finding]) -> str:
    """A table for people, 78 columns wide: findings first, then warnings; the remedy below each."""
    text = io.StringIO()
    console = Console(file=text, width=sum(_WIDTHS), markup=False, highlight=False, emoji=False, color_system=None)
    console.print(_row("WHAT", "EXPECTED", "FOUND"))
    for finding in sorted(findings, key=lambda f: not f.stops):
        console.print(
            _row(finding.what if finding.stops else f"warning: {finding.what}", finding.expected, finding.found)
        )
        console.print(Padding(f"remedy: {finding.remedy}", (0, 0, 1, 2)))
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _row(*cells: str) -> Table:
    row = Table.grid(padding=(0, 2, 0, 0))
    for width in _WIDTHS:
        row.add_column(width=width - 2, overflow="fold")
    row.add_row(*cells)
    return row


def day(seconds: float) -> str:
    """Seconds since 1970 as people write them."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def gigabytes(size_bytes: float) -> str:
    """A size as disks are sold."""
    return f"{size_bytes / 1e9:.2f} GB"
