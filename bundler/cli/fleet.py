"""`airgap install --inventory`: many hosts from a laptop."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.verify import parse_fingerprint
from custody.errors import OperatorMistake
from custody.lock import alone
from custody.report import ConsoleReporter, show_json
from custody.secret import ask_passphrase

if TYPE_CHECKING:
    import paramiko

    from bundler.install.remote.fleet import Ended
    from bundler.install.remote.inventory import Inventory, InventoryHost


def install_fleet(
    inventory_file: Path,
    folder: Path,
    fingerprint: str,
    start_digest: str,
    known_hosts: Path,
    passphrase_file: Path | None,
    minimum_version: int | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Carry the bundle in a folder to every host of an inventory and install it there; ends with a table.

    Exits with the lowest exit code among the hosts that failed.
    """
    from bundler.install.remote.carry import load_cargo
    from bundler.install.remote.fleet import Fleet, exit_code
    from bundler.install.remote.host import Order
    from bundler.install.remote.inventory import load_inventory
    from bundler.install.remote.pins import Pins

    if os.geteuid() != 0:
        raise OperatorMistake("install: expected root", "run it as root")
    reporter = ConsoleReporter()
    inventory = load_inventory(inventory_file)
    pinned = parse_fingerprint(fingerprint)
    known_hosts.parent.mkdir(parents=True, exist_ok=True)
    with alone(known_hosts.with_name(known_hosts.name + ".lock"), "another airgap install"):
        keys = _load_keys(inventory, passphrase_file)
        cargo = load_cargo(folder.resolve(), pinned, parse_fingerprint(start_digest), reporter)
        orders = {host.name: Order(host, cargo, pinned, minimum_version) for host in inventory.hosts}
        fleet = Fleet(inventory, Pins(known_hosts), keys, reporter)
        try:
            fleet.meet(_confirm, pin=not dry_run)
            fleet.ask(orders)
            if not dry_run:
                fleet.carry(orders)
                fleet.install(orders)
        except KeyboardInterrupt:
            # Threads that wait for a host cannot be woken; what lies at either end needs no tidying.
            click.echo(
                "\nairgap: stopped; what runs on a host goes on; run the same command again to join in", err=True
            )
            os._exit(130)
    if as_json:
        show_json(
            "airgap.fleet/1", {"bundle": cargo.release, "size_bytes": cargo.size_bytes, "hosts": _rows(fleet.ended)}
        )
    else:
        _show(fleet.ended)
    if code := exit_code(fleet.ended):
        sys.exit(code)


def _load_keys(inventory: Inventory, passphrase_file: Path | None) -> dict[str, paramiko.PKey]:
    """Read every ssh key once; a passphrase is asked for when a key has one."""
    from bundler.install.remote.link import KeyLocked, load_key

    passphrase: str | None = None
    read: dict[Path, paramiko.PKey] = {}
    for file in sorted({host.key for host in inventory.hosts}):
        try:
            read[file] = load_key(file, None)
        except KeyLocked:
            # One passphrase for all of them: standard input can be read once.
            passphrase = passphrase or ask_passphrase(passphrase_file, f"Passphrase of {file}")
            read[file] = load_key(file, passphrase)
    return {host.name: read[host.key] for host in inventory.hosts}


def _confirm(host: InventoryHost, fingerprint: str) -> bool:
    click.echo(f"{host.name} ({host.place}): first contact, ssh host key\n  {fingerprint}", err=True)
    if not sys.stdin.isatty():
        return False
    return click.confirm("Does the host's console show the same?", default=False, err=True)


def _rows(ended: list[Ended]) -> list[dict[str, object]]:
    return [
        {
            "name": one.host.name,
            "address": one.host.place,
            "host_key": one.key,
            "carried_bytes": one.sent_bytes,
            "stage": one.stage,
            "result": one.result,
            "exit_code": one.code,
            "message": one.message,
            "hint": one.hint,
            "seconds": round(one.seconds, 1),
        }
        for one in ended
    ]


def _show(ended: list[Ended]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    for name, side in (("host", "left"), ("address", "left"), ("ssh key", "left"), ("carried", "right"),
                       ("stage", "left"), ("result", "left"), ("seconds", "right")):  # fmt: skip
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for one in ended:
        short = one.key.removeprefix("SHA256:")[:10]
        carried = f"{one.sent_bytes / 1e6:.1f} MB"
        table.add_row(one.host.name, one.host.place, short, carried, one.stage, one.result, f"{one.seconds:.0f}")
    Console(width=80, highlight=False, markup=False).print(table)
    for one in ended:
        if one.code:
            click.echo(f"\n{one.host.name}: {one.message}\n  next: {one.hint}")
