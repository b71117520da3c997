"""`airgap inventory`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from custody.errors import OperatorMistake


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file; else standard output."
)
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="NAME.pub: encrypt it to this key.")
def command(output: Path | None, to: Path | None) -> None:
    """Write this host's signed description, for `airgap lock --inventory`: packages, kernel, drives, GPUs, releases.

    \b
    Example: airgap inventory -o host.json
    Example: airgap inventory -o host.cms --to builder.pub
    """
    from appliance import hostkey, inventory, outgoing
    from custody.trust import description

    if os.geteuid() != 0:
        raise OperatorMistake("inventory: expected root", "run it as root")
    recipient = outgoing.read_recipient(to) if to else None
    if output:
        outgoing.require_new(output)
    key = hostkey.load_or_make()
    data = description.sign(inventory.describe(key.public), key)
    if recipient:
        data = outgoing.encrypt(data, recipient)
    if output is None:
        sys.stdout.buffer.write(data)
        return
    outgoing.write_new(output, data)
    told = f"key {recipient.keyid}" if recipient else "nobody: not encrypted, it names every package and serial"
    click.echo(f"description:  {output}, {len(data)} bytes\nhost key:     {key.public.keyid}\nencrypted to: {told}")
