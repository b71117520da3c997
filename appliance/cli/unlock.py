"""`airgap unlock`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from custody.errors import SecretRefused
from custody.report import ConsoleReporter


@click.command()
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False), help="A file of mode 0600 that holds it."
)
@click.option("--wait", "wait_s", default=300, show_default=True, help="Seconds to wait for the engine; 0: do not.")
def command(passphrase_file: Path | None, wait_s: int) -> None:
    """Open the data volume and wait until the engine answers.

    Without --passphrase-file the passphrase is asked for on a terminal, and otherwise read from standard input.

    \b
    Example: airgap unlock
    Example: ssh root@appliance airgap unlock < passphrase
    """
    from appliance import engine
    from appliance.drive import config, volume

    settings = config.load()
    reporter = ConsoleReporter()
    if settings.volume.is_open and settings.volume.is_mounted:
        reporter.note(f"{settings.mount} was open already")
    else:
        passphrase = _passphrase(passphrase_file)
        reporter.step(f"opening the disk with serial {settings.serial}")
        volume.unlock(settings.volume, passphrase)
    if wait_s and engine.is_enabled(settings.engine_unit):
        reporter.step("waiting for the engine")
        waited_s = engine.wait(settings.engine_unit, settings.engine_url, wait_s)
        click.echo(f"unlocked: {settings.mount}, the engine answers after {waited_s:.0f} s")
        return
    click.echo(f"unlocked: {settings.mount}")


def _passphrase(file: Path | None) -> str:
    """The passphrase, from the file, the terminal or standard input."""
    from appliance.secret import read_secret

    if file is not None:
        return read_secret(file)
    if sys.stdin.isatty():
        return str(click.prompt("Passphrase", hide_input=True, err=True))
    text = sys.stdin.readline().removesuffix("\n")
    if not text:
        raise SecretRefused("standard input: expected the passphrase, found nothing", "airgap unlock --help")
    return text
