"""`airgap status`."""

from __future__ import annotations

import os
import textwrap

import click

from appliance.status.line import Line, Verdict
from custody.errors import NotWell, OperatorMistake
from custody.report import show_json

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.BAD: "red"}
_WIDTH, _TEXT_AT = 80, 19


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (airgap.status/1) on standard output.")
def command(as_json: bool) -> None:
    """Show the appliance on one screen; every line says ok, warning or bad. Exit 0: every line is ok.

    \b
    Example: airgap status
    Example: airgap status --json
    """
    from appliance import status

    if os.geteuid() != 0:
        raise OperatorMistake("status: expected root", "run it as root")
    lines = status.collect()
    if as_json:
        show_json("airgap.status/1", {"verdict": status.overall(lines), "lines": [vars(line) for line in lines]})
    else:
        for text in render(lines, colour=not os.environ.get("NO_COLOR")):
            click.echo(text)
    unwell = [line for line in lines if line.verdict is not Verdict.OK]
    if unwell:
        raise NotWell(f"status: {len(unwell)} of {len(lines)} lines are not ok")


def render(lines: list[Line], *, colour: bool) -> list[str]:
    """Rows of 80 columns: word, topic, what was found."""
    rows = []
    for line in lines:
        text = textwrap.wrap(f"{line.what}: {line.found}", _WIDTH - _TEXT_AT)
        word = click.style(f"{line.verdict:8}", fg=_COLOURS[line.verdict]) if colour else f"{line.verdict:8}"
        rows.append(f"{word} {line.topic:9} {text[0]}")
        rows += [" " * _TEXT_AT + more for more in text[1:]]
    return rows
