"""The auditor's kit, and the part of it that `start` carries too: a bundle judged without this project's Python."""

from __future__ import annotations

from importlib.resources import files

from custody.trust.verify import CARRIER

#: Where the kit lies in partition 1.
FOLDER = "audit"
_TEMPLATES = files("bundler.media")
_PLACE = "#@VERIFY@\n"


def script(template: str) -> str:
    """A script with the judgement filled in; what else is in @...@ stays."""
    text = _TEMPLATES.joinpath(template).read_text()
    judgement = _TEMPLATES.joinpath("verify.sh").read_text().replace("@CARRIER@", CARRIER.pattern)
    before, found, after = text.partition(_PLACE)
    assert found, f"{template}: {_PLACE!r} is missing"
    return f"{before}{judgement}{after}"


def kit() -> dict[str, bytes]:
    """The files of the kit by name; one version of airgap gives the same bytes whatever the bundle."""
    return {"check": script("check.sh").encode(), "README.txt": _TEMPLATES.joinpath("audit.txt").read_bytes()}
