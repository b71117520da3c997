"""`airgap install`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import click

from bundler.cli.verify import parse_fingerprint
from custody.errors import OperatorMistake
from custody.lock import alone
from custody.report import ConsoleReporter, show_json
from custody.secret import passphrase_option


@click.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--site", "site_file", type=click.Path(path_type=Path), help="Site file of this host.")
@click.option("--fingerprint", required=True, help="Of the root; `start` passes what was typed.")
@click.option(
    "--inventory", "-i", type=click.Path(path_type=Path),
    help="Many hosts over ssh, instead of this one; RELEASE is the folder that `start --stage` made.",
)  # fmt: skip
@click.option("--start-digest", metavar="HEX", help="With --inventory: digest of `start`, from the paper.")
@click.option(
    "--known-hosts", type=click.Path(path_type=Path, dir_okay=False), default="/var/lib/airgap/known_hosts",
    show_default=True, help="With --inventory: pinned ssh host keys.",
)  # fmt: skip
@passphrase_option("the passphrase of the ssh key")
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="Where to read the models from.")
@click.option(
    "--minimum-version", type=click.IntRange(min=1), metavar="N",
    help="Lowest version that may be installed, from the paper; wanted on a host that remembers no release.",
)  # fmt: skip
@click.option(
    "--downgrade-order", type=click.Path(path_type=Path, dir_okay=False),
    help="Leave to go back, signed by the recovery role: see `airgap trust order`.",
)  # fmt: skip
@click.option(
    "--received-from", metavar="SERIAL",
    help="Of the medium that the release came on, or a folder; for the ledger. `start` passes it.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Verify, check the host, show the plan, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    release: Path,
    site_file: Path | None,
    fingerprint: str,
    inventory: Path | None,
    start_digest: str | None,
    known_hosts: Path,
    passphrase_file: Path | None,
    models: Path | None,
    minimum_version: int | None,
    downgrade_order: Path | None,
    received_from: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn this host into an appliance from the verified RELEASE. `start` calls it; run twice, it changes nothing.

    \b
    Example: airgap install /opt/airgap/releases/demo-1 \\
                 --site /root/site/site.yml --fingerprint 3f9a...
    Example: airgap install /srv/carry -i hosts.yml --fingerprint 3f9a... \\
                 --start-digest 77c1... --minimum-version 1
    """
    if inventory is not None:
        from bundler.cli.fleet import install_fleet

        if start_digest is None or site_file is not None:
            raise click.UsageError("--inventory wants --start-digest, and names the site files itself")
        if downgrade_order is not None:
            raise click.UsageError("--downgrade-order is for one host: give it to `start` at that host's console")
        if models is not None or received_from is not None:
            raise click.UsageError("--models and --received-from are for one host: `start` passes them there")
        install_fleet(
            inventory,
            release,
            fingerprint,
            start_digest,
            known_hosts,
            passphrase_file,
            minimum_version,
            dry_run=dry_run,
            as_json=as_json,
        )
        return
    if site_file is None:
        raise click.UsageError("Missing option '--site', or '--inventory' for many hosts")
    from bundler.cli.record import record_bundle
    from bundler.install import install as core
    from bundler.install import paths, plan
    from bundler.install.admit import Terms
    from bundler.install.preflight import render, require
    from bundler.install.site import load_site
    from custody.ledger.event import Event
    from custody.ledger.record import begin_here, record

    if os.geteuid() != 0:
        raise OperatorMistake("install: expected root", "run it as root")
    os.umask(0o022)  # services read what is installed; secrets are written with modes of their own
    reporter = ConsoleReporter()
    site = load_site(site_file)
    terms = Terms(parse_fingerprint(fingerprint), minimum_version, downgrade_order)
    release = release.resolve()
    paths.RUN.mkdir(mode=0o755, exist_ok=True)
    with alone(paths.RUN / "install.lock", "another airgap install"):
        place = models or paths.MODELS / release.name
        if not dry_run:
            begin_here()
        prepared = core.prepare(release, place, site, terms, reporter, dry_run=dry_run)
        if dry_run:
            steps = plan.describe(prepared.lock, site, release)
            findings = [dataclasses.asdict(finding) for finding in prepared.findings]
            if as_json:
                show_json("airgap.install-plan/1", {"plan": steps, "findings": findings})
            else:
                click.echo("\n".join(steps))
            require(prepared.findings)
            if findings and not as_json:
                click.echo("\n" + render(prepared.findings))
            return
        if received_from is not None:
            record_bundle("received", release, source=received_from)
        record_bundle("verified", release)
        done = core.install(prepared, reporter)
        record_bundle("installed", release, release=release.name)
        if core.keep_site_file(site_file):
            digest = hashlib.sha256(site_file.read_bytes()).hexdigest()
            record(Event("site changed", str(paths.SITE), f"sha256:{digest}"))
    if as_json:
        show_json("airgap.install/1", {"bundle": done.bundle, "seconds": done.seconds, "changed": done.changed})
        return
    for name, seconds in done.seconds.items():
        click.echo(f"{name:14} {seconds:7.1f} s")
    click.echo(f"{'roles':14} {done.executions} module executions, {done.changed} changed")
    click.echo(f"installed {done.bundle}: https://{site.tls.server_name}/v1 serves {', '.join(site.service.models)}")
