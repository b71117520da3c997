"""`airgap lock-data`."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Stop the engine, unmount the data volume and close it; its key leaves memory.

    \b
    Example: airgap lock-data
    """
    from appliance.drive import config, volume

    settings = config.load()
    changed = volume.lock(settings.volume)
    click.echo(f"locked: {settings.mount}" if changed else f"locked: {settings.mount} was closed already")
