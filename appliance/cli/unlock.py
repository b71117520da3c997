"""`airgap unlock`."""

from __future__ import annotations

from pathlib import Path

import click

from custody.report import ConsoleReporter
from custody.secret import ask_passphrase, passphrase_option


@click.command()
@passphrase_option("the volume's passphrase")
@click.option("--wait", "wait_s", default=300, show_default=True, help="Seconds to wait for each of them; 0: do not.")
@click.option("--dry-run", is_flag=True, help="Find the disk, say what would be done, and do nothing.")
def command(passphrase_file: Path | None, wait_s: int, dry_run: bool) -> None:
    """Open the data volume and wait until engines and gateway answer.

    \b
    Example: airgap unlock
    Example: ssh root@appliance airgap unlock < passphrase
    """
    from appliance import engine
    from appliance.drive import config, volume
    from custody.ledger.event import Event
    from custody.ledger.record import ready, record

    settings = config.load()
    if not dry_run:
        ready()
    reporter = ConsoleReporter()
    if dry_run:
        lines = volume.unlock(settings.volume, "", dry_run=True)
        click.echo("\n".join(f"would: {line}" for line in lines) or "would do nothing")
        return
    if not volume.needs_unlocking(settings.volume):
        reporter.note(f"{settings.mount} was open already")
    else:
        passphrase = ask_passphrase(passphrase_file, "Passphrase")
        reporter.step(f"opening the disk with serial {settings.serial}")
        volume.unlock(settings.volume, passphrase)
        record(Event("unlocked", settings.serial))
    said = [f"unlocked: {settings.mount}"]
    for each in filter(engine.is_enabled, (*engine.load(), engine.GATEWAY) if wait_s else ()):
        reporter.step(f"waiting for {each.name}")
        said.append(f"{each.name} answers after {engine.wait(each, wait_s):.0f} s")
    click.echo(", ".join(said))
