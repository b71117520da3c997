"""`airgap gpu`."""

from __future__ import annotations

import click


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def command(dry_run: bool) -> None:
    """Check the GPUs, and bring them to the layout of the site file; runs at every start.

    \b
    Example: airgap gpu --dry-run
    """
    from appliance import gpu

    for line in gpu.prepare(gpu.load(), dry_run=dry_run) or ["as they should be"]:
        click.echo(f"gpu: {line}")
