"""`airgap sign`."""

from __future__ import annotations

from pathlib import Path

import click

from custody.report import ConsoleReporter
from custody.secret import ask_passphrase, passphrase_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="NAME.key of a person.")
@click.option(
    "--trust", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="The root's folder."
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, say as whom; sign nothing.")
@passphrase_option("the key's passphrase")
def command(bundle: Path, key: Path, trust: Path, dry_run: bool, passphrase_file: Path | None) -> None:
    """Sign BUNDLE as one person. Every byte is read first.

    \b
    Example: airgap sign /srv/bundles/demo-1 --key alice.key --trust trust
    """
    from bundler.bundle.sign import load_key, sign_bundle

    private = load_key(key, ask_passphrase(passphrase_file, f"Passphrase for {key}").encode())
    person = sign_bundle(bundle, private, trust, ConsoleReporter(), dry_run=dry_run)
    click.echo(f"{bundle}: {'would be ' if dry_run else ''}signed by {person}")
