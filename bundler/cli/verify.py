"""`airgap verify`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from bundler.cli.upstream import as_content, check, require_none_refused, show, upstream_options
from custody.errors import InputInvalid
from custody.report import ConsoleReporter, show_json


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--fingerprint", help="SHA-256 of a root's payload, from the paper; --as-host needs none.")
@click.option(
    "--as-host", is_flag=True, help="Judge with the roots, revocations and versions that this host remembers."
)
@click.option(
    "--minimum-version", type=click.IntRange(min=1), metavar="N",
    help="With --as-host, where no release is remembered: from the paper.",
)  # fmt: skip
@click.option(
    "--downgrade-order", type=click.Path(path_type=Path, dir_okay=False), help="With --as-host: leave to go back."
)
@upstream_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    bundle: Path,
    fingerprint: str | None,
    as_host: bool,
    minimum_version: int | None,
    downgrade_order: Path | None,
    upstream: bool,
    keyring: Path | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE: roots, revocations, signatures of enough persons, the list of files, every byte.

    \b
    Example: airgap verify /srv/bundles/demo-1 --fingerprint 3f9a...
    Example: airgap verify /srv/bundles/demo-2 --as-host
    Example: airgap verify /srv/bundles/demo-1 --fingerprint 3f9a... --upstream
    """
    from bundler.bundle.read import FolderSource
    from custody.trust.verify import check_contents, read_trust, verify_statement

    source, reporter = FolderSource(bundle), ConsoleReporter()
    pinned = None if fingerprint is None else parse_fingerprint(fingerprint)
    if as_host:
        from bundler.install.admit import Terms, admit

        verified = admit(source, Terms(pinned, minimum_version, downgrade_order), remember=True).bundle
    elif pinned is None:
        raise click.UsageError("Missing option '--fingerprint', or '--as-host' on an appliance")
    else:
        verified = verify_statement(source, read_trust(source, pinned))
    check_contents(verified, verified.entries(), reporter)
    proofs = check(verified, keyring) if upstream else ()
    identity = verified.statement.predicate.bundle
    entries = verified.entries()
    if as_json:
        content = {
            "verdict": "accepted",
            "bundle": identity.model_dump(mode="json"),
            "builders": list(verified.builders),
            "approvers": list(verified.approvers),
            "files": len(entries),
            "size_bytes": sum(e.size_bytes for e in entries),
            **as_content(proofs),
        }
        show_json("airgap.verify/1", content)
        require_none_refused(proofs)
        return
    click.echo(f"bundle:    {identity.id} (channel {identity.channel}, security epoch {identity.security_epoch})")
    click.echo(f"builder:   {', '.join(verified.builders)}")
    click.echo(f"approver:  {', '.join(verified.approvers)}")
    click.echo(f"files:     {len(entries)}, {sum(e.size_bytes for e in entries) / 1e6:.1f} MB, every leaf as signed")
    show(proofs)
    require_none_refused(proofs)
    click.echo("verdict:   accepted")


def parse_fingerprint(text: str) -> str:
    """A fingerprint as typed, blanks and case forgiven.

    Raises:
        InputInvalid: not 64 hexadecimal digits.
    """
    found = re.sub(r"[\s:]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise InputInvalid(f"fingerprint {text!r}: expected 64 hexadecimal digits", "copy all of it from the paper")
    return found
