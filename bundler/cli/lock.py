"""`airgap lock`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.place import cache_option, project_root
from custody.errors import InputInvalid
from custody.report import ConsoleReporter

if TYPE_CHECKING:
    from custody.trust.description import HostDescription


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: MANIFEST's .lock.json")
@click.option(
    "--dpkg-status", type=click.Path(path_type=Path, dir_okay=False), help="A host's own, in place of the manifest's."
)
@click.option(
    "--inventory", type=click.Path(path_type=Path, dir_okay=False), help="A host's description: lock for this host."
)
@click.option("--inventory-key", metavar="KEYID", help="Id of that host's key, as its `airgap status` shows it.")
@click.option("--dry-run", is_flag=True, help="Resolve, show what the lock would hold, write only to the cache.")
@cache_option
def command(
    manifest: Path,
    output: Path | None,
    dpkg_status: Path | None,
    inventory: Path | None,
    inventory_key: str | None,
    dry_run: bool,
    cache: Path,
) -> None:
    """Resolve MANIFEST to exact versions, sizes, digests and origins.

    \b
    Example: airgap lock manifests/demo.yml
    Example: airgap lock manifests/demo.yml \\
                 --inventory host.json --inventory-key 3f9a...
    """
    from bundler.collect.cache import Cache
    from bundler.collect.resolve import resolve
    from bundler.manifest.lock import save_lock
    from bundler.manifest.models import load_manifest
    from custody.ledger.event import Event
    from custody.ledger.record import ready, record

    if bool(inventory) != bool(inventory_key) or (inventory and dpkg_status):
        raise click.UsageError("--inventory goes with --inventory-key, and not with --dpkg-status")
    host = _read_host(inventory, inventory_key) if inventory and inventory_key else None
    load_manifest(manifest)  # a bad one is refused before anything is written
    if not dry_run:
        ready()
    target = output or manifest.with_suffix(".lock.json")
    lock = resolve(manifest, Cache(cache), project_root(), ConsoleReporter(), dpkg_status, host)
    if not dry_run:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_lock(lock, target)
        record(Event("locked", target.name, f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"))
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
    click.echo(f"would write {target}" if dry_run else f"lock: {target}")


def _read_host(file: Path, keyid: str) -> HostDescription:
    from custody.trust.description import open_signed

    digits = re.sub(r"[\s:]", "", keyid).lower()  # `airgap status` shows them in groups
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise InputInvalid(
            f"--inventory-key {keyid!r}: expected 64 digits", "airgap status on that host, line host key"
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "make it on the host: airgap inventory -o FILE") from error
    return open_signed(data, digits, str(file))
