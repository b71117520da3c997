"""`airgap build`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.place import cache_option, project_root
from custody.report import ConsoleReporter


@click.command()
@click.argument("lock", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@cache_option
def command(lock: Path, bundle: Path, cache: Path) -> None:
    """Fetch and build everything that LOCK names into the folder BUNDLE.

    Stopped or failed, the same command goes on where it was; there is no half bundle.

    \b
    Example: airgap build manifests/demo.lock.json /srv/bundles/demo-1
    """
    from bundler.collect.build import build
    from bundler.collect.cache import Cache
    from bundler.manifest.lock import load_lock

    digest = build(load_lock(lock), bundle.absolute(), Cache(cache), project_root(), ConsoleReporter())
    click.echo(f"bundle:    {bundle}")
    click.echo(f"statement: sha256 {digest}")
    click.echo("next:      two persons sign it: airgap sign BUNDLE --key KEY --trust FOLDER")
