"""`airgap lock`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.place import cache_option, project_root
from custody.report import ConsoleReporter


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: MANIFEST's .lock.json")
@click.option(
    "--dpkg-status", type=click.Path(path_type=Path, dir_okay=False), help="A host's own, in place of the manifest's."
)
@cache_option
def command(manifest: Path, output: Path | None, dpkg_status: Path | None, cache: Path) -> None:
    """Resolve MANIFEST to exact versions, sizes, digests and origins.

    \b
    Example: airgap lock manifests/demo.yml
    """
    from bundler.collect.cache import Cache
    from bundler.collect.resolve import resolve
    from bundler.manifest.lock import save_lock

    target = output or manifest.with_suffix(".lock.json")
    lock = resolve(manifest, Cache(cache), project_root(), ConsoleReporter(), dpkg_status)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_lock(lock, target)
    carried = [deb for deb in lock.debs if set(deb.uses) != {"tree"}]
    rows = (
        ("packages", carried),
        ("wheels", [w for w in lock.wheels if w.environments]),
        ("models", lock.models),
        ("files", lock.files),
    )
    for name, items in rows:
        click.echo(f"{name:10} {len(items):5} {sum(i.size_bytes for i in items) / 1e6:10.1f} MB")
    click.echo(f"{'built here':10} {len(lock.sources):5}")
    click.echo(f"lock: {target}")
