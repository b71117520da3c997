"""`airgap verify`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.key import key_options, opened
from bundler.cli.upstream import as_content, check, require_none_refused, show, upstream_options
from custody.atomic import write_whole
from custody.errors import InputInvalid, IntegrityFailure
from custody.report import ConsoleReporter, show_json

if TYPE_CHECKING:
    from bundler.bundle.read import FolderSource
    from bundler.bundle.receipt import Receipt
    from bundler.bundle.upstream import Proof
    from bundler.install.admit import Terms
    from custody.page import Page
    from custody.trust.verify import VerifiedBundle

#: A fingerprint as words; hexadecimal in groups of four has 16 or 24 groups, but of digits.
WORD_COUNTS = (24, 36)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--fingerprint", help="Of a root, from the paper; --as-host needs none.")
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
@click.option(
    "--models", type=click.Path(path_type=Path, file_okay=False),
    help="Where sealed/data/models lies instead; models are listed, not read: `install` checks them as it copies.",
)  # fmt: skip
@click.option(
    "--receipt", type=click.Path(path_type=Path, dir_okay=False),
    help="Write a receipt there, signed with --key, also of a refusal.",
)  # fmt: skip
@key_options(required=False)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html|FILE.pdf",
    help="Write a page there for people who do not read code.",
)  # fmt: skip
@upstream_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    bundle: Path,
    fingerprint: str | None,
    as_host: bool,
    minimum_version: int | None,
    downgrade_order: Path | None,
    models: Path | None,
    receipt: Path | None,
    key: str | None,
    module: Path | None,
    passphrase_file: Path | None,
    report: Path | None,
    upstream: bool,
    keyring: Path | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE: roots, revocations, signatures of enough persons, the list of files, every byte.

    \b
    Example: airgap verify /srv/bundles/demo-1 --fingerprint 3f9a...
    Example: airgap verify /srv/bundles/demo-2 --as-host
    Example: airgap verify /srv/bundles/demo-1 --fingerprint 3f9a... \\
                 --report demo-1.pdf
    Example: airgap verify /srv/bundles/demo-1 --fingerprint 3f9a... \\
                 --receipt demo-1.receipt --key carol.key
    Example: airgap verify /srv/bundles/demo-1 --fingerprint 3f9a... --upstream
    """
    from bundler.bundle.read import FolderSource, SplitSource
    from bundler.bundle.receipt import accepted, refused
    from bundler.bundle.report import make_report
    from bundler.install.admit import Terms

    if (receipt is None) != (key is None):
        raise click.UsageError("--receipt and --key go together")
    if not as_host and fingerprint is None:
        raise click.UsageError("Missing option '--fingerprint', or '--as-host' on an appliance")
    render = None if report is None else _renderer(report)
    pinned = None if fingerprint is None else parse_fingerprint(fingerprint)
    source = FolderSource(bundle) if models is None else SplitSource(bundle, models)
    with ExitStack() as stack:
        signer = None if key is None else stack.enter_context(opened(key, module, passphrase_file))
        try:
            terms = Terms(pinned, minimum_version, downgrade_order) if as_host else str(pinned)
            verified = _verify(source, terms, read_models=models is None)
        except IntegrityFailure as error:
            if receipt is not None and signer is not None:
                write_whole(receipt, refused(source, pinned, error).signed_by(signer))
            if as_json:
                content = {"verdict": "refused", "exit_code": error.exit_code, "reason": error.message}
                show_json("airgap.verify/1", content)
            raise
        found = accepted(verified, models_read=models is None)
        if receipt is not None and signer is not None:
            write_whole(receipt, found.signed_by(signer))
    if report is not None and render is not None:
        write_whole(report, render(make_report(verified, found, as_host=as_host)))
    _show(verified, found, check(verified, keyring) if upstream else (), as_json=as_json)


def _verify(source: FolderSource, terms: Terms | str, *, read_models: bool) -> VerifiedBundle:
    """Judge as a host that remembers (`Terms`), or as anybody with a root's fingerprint; then read the files."""
    from bundler.bundle.read import MODELS
    from custody.trust.verify import check_contents, read_trust, verify_statement

    if isinstance(terms, str):
        verified = verify_statement(source, read_trust(source, terms))
    else:
        from bundler.install.admit import admit

        verified = admit(source, terms, remember=True).bundle
    read = (e for e in verified.entries() if read_models or not e.path.startswith(MODELS))
    check_contents(verified, read, ConsoleReporter())
    return verified


def _show(verified: VerifiedBundle, found: Receipt, proofs: tuple[Proof, ...], *, as_json: bool) -> None:
    identity, entries = verified.statement.predicate.bundle, verified.entries()
    if as_json:
        content = {
            "verdict": "accepted",
            "bundle": identity.model_dump(mode="json"),
            "builders": list(verified.builders),
            "approvers": list(verified.approvers),
            "files": len(entries),
            "unread": found.unread,
            "size_bytes": sum(e.size_bytes for e in entries),
            **as_content(proofs),
        }
        show_json("airgap.verify/1", content)
        require_none_refused(proofs)
        return
    click.echo(f"bundle:    {identity.id} (channel {identity.channel}, security epoch {identity.security_epoch})")
    click.echo(f"builder:   {', '.join(verified.builders)}")
    click.echo(f"approver:  {', '.join(verified.approvers)}")
    said = "every leaf as signed" + (f" but those of {found.unread} models, not read" if found.unread else "")
    click.echo(f"files:     {len(entries)}, {sum(e.size_bytes for e in entries) / 1e6:.1f} MB, {said}")
    show(proofs)
    require_none_refused(proofs)
    click.echo("verdict:   accepted")


def _renderer(report: Path) -> Callable[[Page], bytes]:
    """What writes such a file; asked before the long part of the work.

    Raises:
        InputInvalid: another kind of file.
    """
    from custody.page import html, pdf

    if report.suffix == ".pdf":
        return pdf.render
    if report.suffix == ".html":
        return html.render
    raise InputInvalid(f"{report}: expected a name that ends in .html or .pdf", "name another file")


def parse_fingerprint(text: str) -> str:
    """A fingerprint as typed: hexadecimal, blanks and case forgiven, or the paper's words.

    Raises:
        InputInvalid: neither.
    """
    found = re.sub(r"[\s:]", "", text).lower()
    if re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{96}", found):
        return found
    if len(text.split()) in WORD_COUNTS:
        from custody.trust.words import from_words

        return from_words(text)
    raise InputInvalid(f"fingerprint {text!r}: expected 64 or 96 hexadecimal digits", "copy all of it from the paper")
