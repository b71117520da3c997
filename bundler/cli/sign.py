"""`airgap sign`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.key import key_options, opened
from custody.atomic import write_whole
from custody.errors import InputInvalid, TargetRefused
from custody.report import ConsoleReporter

if TYPE_CHECKING:
    from bundler.bundle.sign import Shown

_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class _Options:
    """As given; see `command`."""

    key: str | None
    module: Path | None
    passphrase_file: Path | None
    trust: Path | None
    base: Path | None
    whole: bool
    request_digest: str | None
    yes: bool
    dry_run: bool


@click.command()
@click.argument("bundle", metavar="BUNDLE|REQUEST", type=click.Path(path_type=Path, exists=True))
@key_options(required=False)
@click.option(
    "--trust", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The root's folder; for a REQUEST it may be left out.",
)  # fmt: skip
@click.option(
    "--base", type=click.Path(path_type=Path, exists=True),
    help="Show the difference to this older bundle, or to a copy of its carrier/statement.dsse.json.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask at a terminal before signing.")
@click.option("--dry-run", is_flag=True, help="Read and check everything, say as whom; sign nothing.")
@click.option("--export", type=_FILE, help="Sign nothing; write a request for a machine in another room.")
@click.option("--whole", is_flag=True, help="With --export: carry the Statement and lock, however large.")
@click.option("--out", "-o", type=_FILE, help="For a REQUEST: where its signature goes.")
@click.option("--request-digest", metavar="HEX", help="For a REQUEST: its digest, as a second machine printed it.")
@click.option("--attach", type=_FILE, help="Put this signature, made in another room, into BUNDLE.")
def command(
    bundle: Path, key: str | None, module: Path | None, passphrase_file: Path | None, trust: Path | None,
    base: Path | None, yes: bool, dry_run: bool, export: Path | None, whole: bool, out: Path | None,
    request_digest: str | None, attach: Path | None,
) -> None:  # fmt: skip
    """Sign BUNDLE as one person. What is signed is shown, and every byte of it read, first.

    The key is a file, or lies on a PKCS#11 token; the token's PIN is asked for, or read from --passphrase-file.

    \b
    Example: airgap sign /srv/bundles/demo-1 --key alice.key --trust trust \\
                 --base /srv/bundles/demo-0
    Example: airgap sign /srv/bundles/demo-1 --trust trust \\
                 --key 'pkcs11:token=alice;object=alice' \\
                 --module /usr/lib/softhsm/libsofthsm2.so

    Without a key on this machine: --export writes a request, a machine in another room signs it, --attach brings the
    signature back. A small bundle's request carries the Statement, which that machine counts and hashes for itself. A
    larger one's carries a digest and a summary, both on the word of the machine that wrote it. Such a request is signed
    only with its SHA-256 given: a second person exports the same bundle on a second machine and reads the number aloud.

    \b
    Example: airgap sign /srv/bundles/demo-1 --export demo-1.request --trust trust
    Example: airgap sign demo-1.request --key alice.key -o demo-1.signature
    Example: airgap sign /srv/bundles/demo-1 \\
                 --attach demo-1.signature --trust trust
    """
    options = _Options(key, module, passphrase_file, trust, base, whole, request_digest, yes, dry_run)
    request = bundle.is_file()
    if request + (export is not None) + (attach is not None) > 1:
        raise click.UsageError("Give a REQUEST, or '--export', or '--attach'")
    if (key is None) != (export is not None or attach is not None):
        raise click.UsageError("Missing option '--key'" if key is None else "'--export' and '--attach' take no '--key'")
    if request != (out is not None):
        raise click.UsageError("A REQUEST needs '--out', and nothing else does")
    if request and out is not None:
        _sign_request(bundle, out, options)
    elif trust is None:
        raise click.UsageError("Missing option '--trust'")
    elif export is not None:
        _export(bundle, trust, export, options)
    else:
        _sign_bundle(bundle, trust, attach, options)


def _sign_bundle(bundle: Path, trust: Path, attach: Path | None, options: _Options) -> None:
    from contextlib import nullcontext

    from bundler.bundle.request import SIGNATURE_LIMIT_BYTES, open_signature
    from bundler.bundle.sign import sign_bundle
    from bundler.cli.record import record_bundle
    from custody.ledger.record import ready

    if not options.dry_run:
        ready()

    def agree(shown: Shown) -> None:
        _ask(shown.lines(), "Sign this?" if attach is None else "Put the signature into this?", options)

    signer = (
        nullcontext(open_signature(_read(attach, SIGNATURE_LIMIT_BYTES), str(attach), trust))
        if attach is not None
        else opened(options.key or "", options.module, options.passphrase_file)
    )
    with signer as key:
        person = sign_bundle(
            bundle, key, trust, ConsoleReporter(), dry_run=options.dry_run, base=options.base, agree=agree
        )
    if not options.dry_run:
        record_bundle("signed", bundle, person=person)
    click.echo(f"{bundle}: {'would be ' if options.dry_run else ''}signed by {person}")


def _export(bundle: Path, trust: Path, export: Path, options: _Options) -> None:
    from bundler.bundle.request import export_request
    from custody.trust.profile import hexdigest

    _refuse_overwriting(export)
    request = export_request(bundle, trust, ConsoleReporter(), base=options.base, whole=options.whole)
    data = request.dump()
    if not options.dry_run:
        write_whole(export, data)
    form = "by digest" if request.statement is None else "whole"
    algorithm = request.summary.bundle.digest
    click.echo(f"request: {export}, {form}, {len(data)} bytes\n{algorithm}:  {hexdigest(algorithm, data)}")
    click.echo(f"to sign: sha384 {request.pae_sha384}")


def _sign_request(file: Path, out: Path, options: _Options) -> None:
    from bundler.bundle.request import LIMIT_BYTES, open_request, sign_request
    from bundler.bundle.sign import person_of, read_base
    from bundler.bundle.trustfolder import TrustFolder

    _refuse_overwriting(out)
    asked = open_request(_read(file, LIMIT_BYTES), str(file))
    believed = TrustFolder(options.trust).trust() if options.trust is not None else None
    base = read_base(options.base, believed.root if believed else None) if options.base is not None else None
    number = options.request_digest
    _ask(asked.lines(base), "Sign this?" if asked.statement is not None or number else "", options)
    if asked.statement is None and number is None and sys.stdin.isatty():
        number = click.prompt("Digest of the request, as a second machine printed it", err=True)
    number = None if number is None else re.sub(r"[\s:]", "", number).lower()
    asked.require(number)
    with opened(options.key or "", options.module, options.passphrase_file) as key:
        person = f"key {key.public.keyid[:16]}"
        if believed is not None and options.trust is not None:
            person = person_of(believed, key.public.keyid, options.trust).name
        if options.dry_run:
            click.echo(f"{file}: would be signed by {person}")
            return
        signature = sign_request(asked, key, number)
    write_whole(out, signature.dump())
    click.echo(f"{out}: signed by {person}")


def _ask(lines: list[str], question: str, options: _Options) -> None:
    """Show what is signed; at a terminal, a person says yes to it. No question: what comes next is one."""
    for line in lines:
        click.echo(line, err=True)
    if question and not options.yes and not options.dry_run and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def _read(file: Path, limit_bytes: int) -> bytes:
    """At most one byte more than what is allowed; the parser refuses that."""
    try:
        with file.open("rb") as stream:
            return stream.read(limit_bytes + 1)
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "airgap sign --help") from error


def _refuse_overwriting(file: Path) -> None:
    if file.exists():
        raise TargetRefused(f"{file}: exists already", "name a new file")
