"""`airgap lock-data`."""

from __future__ import annotations

import click


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def command(dry_run: bool) -> None:
    """Stop the engine, unmount the data volume and close it; its key leaves memory.

    \b
    Example: airgap lock-data
    Example: airgap lock-data --dry-run
    """
    from appliance.drive import config, volume

    settings = config.load()
    changed = volume.lock(settings.volume, dry_run=dry_run)
    if dry_run:
        click.echo("\n".join(f"would: {line}" for line in changed) or "would do nothing")
        return
    click.echo(f"locked: {settings.mount}" if changed else f"locked: {settings.mount} was closed already")
