"""`airgap sign-models`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.key import key_options, opened
from bundler.cli.verify import parse_fingerprint
from custody.report import ConsoleReporter


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--fingerprint", required=True, help="Of the root that the bundle must be signed under.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the files.")
@key_options()
def command(
    bundle: Path, fingerprint: str, out: Path, key: str, module: Path | None, passphrase_file: Path | None
) -> None:
    """Sign each model of BUNDLE for people who check with model-signing (OpenSSF Model Signing), not with airgap.

    BUNDLE is verified first. Writes MODEL.sig for each model, and the public key in PEM as KEYID.pem.

    \b
    Example: airgap sign-models /srv/bundles/demo-1 --fingerprint 3f9a... \\
                 --key alice.key --out signatures

    They check it with what they have, from their own copy of the key:

    \b
    model_signing verify key model.gguf --signature model.gguf.sig \\
        --public_key KEYID.pem
    """
    from bundler.bundle.oms import sign_models
    from bundler.bundle.read import FolderSource
    from custody.trust.verify import read_trust, verify_statement

    source = FolderSource(bundle)
    verified = verify_statement(source, read_trust(source, parse_fingerprint(fingerprint)))
    with opened(key, module, passphrase_file) as signer:
        *signatures, public = sign_models(verified, signer, out, ConsoleReporter())
    for file in signatures:
        click.echo(f"signature: {file}")
    click.echo(f"public:    {public}")
