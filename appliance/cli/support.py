"""`airgap support`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from custody.errors import OperatorMistake


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file.")
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="NAME.pub of who shall read it.")
@click.option("--dry-run", is_flag=True, help="Show the whole text on standard output; write nothing.")
def command(output: Path | None, to: Path | None, dry_run: bool) -> None:
    """Write what a helper outside needs, redacted, signed by this host and encrypted to one key.

    \b
    Example: airgap support --dry-run | less
    Example: airgap support -o support.cms --to helper.pub
    """
    from appliance import hostkey, outgoing, support
    from custody.trust.envelope import Envelope

    if os.geteuid() != 0:
        raise OperatorMistake("support: expected root", "run it as root")
    if dry_run:
        click.echo(support.collect())
        return
    if output is None or to is None:
        raise click.UsageError("give --output and --to, or --dry-run")
    recipient = outgoing.read_recipient(to)
    outgoing.require_new(output)
    key = hostkey.load_or_make()
    text = support.collect().encode()
    data = outgoing.encrypt(Envelope(support.PAYLOAD_TYPE, text, {}).signed_by(key).dump(), recipient)
    outgoing.write_new(output, data)
    click.echo(f"support:      {output}, {len(data)} bytes, {text.count(b'====') // 2} sources")
    click.echo(f"host key:     {key.public.keyid}\nencrypted to: key {recipient.keyid}")
