"""`airgap build`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.place import cache_option, project_root
from custody.report import ConsoleReporter


@click.command()
@click.argument("lock", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would be fetched and compiled; change nothing.")
@click.option(
    "--check", "again", is_flag=True, help="Build LOCK a second time and compare it with BUNDLE, byte for byte."
)
@cache_option
def command(lock: Path, bundle: Path, dry_run: bool, again: bool, cache: Path) -> None:
    """Fetch and build everything that LOCK names into the folder BUNDLE.

    Stopped or failed, the same command goes on where it was; there is no half bundle. With --check, on an approver's
    own machine, nobody's word is taken for what BUNDLE was made from.

    \b
    Example: airgap build manifests/demo.lock.json /srv/bundles/demo-1
    Example: airgap build demo.lock.json /media/demo-1 --check
    """
    from bundler.cli.record import record_bundle
    from bundler.collect.build import build, check, plan
    from bundler.collect.cache import Cache
    from bundler.manifest.lock import load_lock
    from custody.ledger.record import ready

    wanted, reporter = load_lock(lock), ConsoleReporter()
    if dry_run:
        would = plan(wanted, bundle.absolute(), Cache(cache, make=False), project_root(), reporter)
        if would.is_built:
            click.echo(f"would do nothing: {bundle} is there, whole, and of this lock")
            return
        click.echo(f"would fetch   {would.missing_bytes / 1e6:.1f} MB, the rest lies in {cache}")
        click.echo(f"would compile {', '.join(would.to_compile) or 'nothing'}")
        click.echo(f"would make    {bundle}, {would.items} items, {would.carried_bytes / 1e6:.1f} MB")
        return
    if again:
        digest = check(wanted, bundle.absolute(), Cache(cache), project_root(), reporter)
        click.echo(f"statement: {wanted.bundle.digest} {digest}\nverdict:   built again, the same bytes")
        return
    ready()
    digest = build(wanted, bundle.absolute(), Cache(cache), project_root(), reporter)
    record_bundle("built", bundle)
    click.echo(f"bundle:    {bundle}")
    click.echo(f"statement: {wanted.bundle.digest} {digest}")
    click.echo("next:      two persons sign it: airgap sign BUNDLE --key KEY --trust FOLDER")
