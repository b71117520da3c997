"""`airgap keys`."""

from __future__ import annotations

import base64
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.key import key_options, module_option, opened
from custody.errors import InputInvalid, SignatureRejected, TargetRefused
from custody.secret import ask_passphrase, passphrase_option

if TYPE_CHECKING:
    from custody.trust.keys import PublicKey


@click.group()
def command() -> None:
    """Make signing keys, in files or on PKCS#11 tokens.

    \b
    Example: airgap keys new alice
    """


@command.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for the files.")
@click.option(
    "--token", metavar="URI", help="Make the key on the PKCS#11 token that this URI names; only NAME.pub is written."
)
@module_option
@click.option(
    "--scheme", type=click.Choice(("p384", "ml-dsa-87")), default="p384", show_default=True,
    help="Under a root of profile cnsa a person has a key of each.",
)  # fmt: skip
@passphrase_option("the key's passphrase or the token's PIN")
def new(
    name: str, out: Path, token: str | None, module: Path | None, scheme: str, passphrase_file: Path | None
) -> None:
    """Make a key for the person NAME: NAME.key (encrypted) and NAME.pub.

    With --token the key is made on the token and cannot be taken out of it: no copy, so have a second person.

    \b
    Example: airgap keys new alice --out /media/stick
    Example: airgap keys new alice-pq --scheme ml-dsa-87
    Example: airgap keys new alice --token pkcs11:token=alice \\
                 --module /usr/lib/softhsm/libsofthsm2.so
    """
    _require_name(name)
    private, public = out / f"{name}.key", out / f"{name}.pub"
    _refuse_overwriting(private, public)
    out.mkdir(parents=True, exist_ok=True)
    if token is not None:
        if scheme != "p384":
            raise InputInvalid(f"--scheme {scheme}: tokens make keys of P-384 here", "leave --token out")
        key, private_at = _on_token(token, module, name, passphrase_file)
    elif module is not None:
        raise InputInvalid(f"--module {module}: is for a key on a token", "give --token URI, or leave it out")
    else:
        key, private_at = _in_file(private, name, scheme, passphrase_file), str(private)
    click.echo(f"private: {private_at}")
    _write_public(key, public)


@command.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for the file.")
@key_options()
def public(name: str, out: Path, key: str, module: Path | None, passphrase_file: Path | None) -> None:
    """Write NAME.pub of a key that exists, on a token or in a file. The key signs once, to show that it can.

    \b
    Example: airgap keys public alice \\
                 --key 'pkcs11:serial=96ec522cdc7935fb;id=%02' \\
                 --module /usr/lib/opensc-pkcs11.so
    """
    _require_name(name)
    file = out / f"{name}.pub"
    _refuse_overwriting(file)
    with opened(key, module, passphrase_file) as signer:
        message = b"airgap keys public"
        if not signer.public.verifies(signer.sign(message), message):
            raise SignatureRejected(f"{key}: does not sign for its public key", "use another key")
        out.mkdir(parents=True, exist_ok=True)
        _write_public(signer.public, file)


def _require_name(name: str) -> None:
    from custody.trust.root import NAME

    if not NAME.fullmatch(name):
        raise InputInvalid(
            f"{name!r}: expected a person's name of lower-case letters, digits and hyphens", "airgap keys new alice"
        )


def _refuse_overwriting(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise TargetRefused(f"{file}: exists already", "a key is never overwritten; choose another name or folder")


def _write_public(key: PublicKey, file: Path) -> None:
    file.write_text(base64.b64encode(key.der).decode() + "\n")
    click.echo(f"public:  {file}\nkey id:  {key.keyid}")


def _in_file(file: Path, name: str, scheme: str, passphrase_file: Path | None) -> PublicKey:
    from custody.trust.keys import PrivateKey
    from custody.trust.profile import MLDSA_SCHEME, P384_SCHEME

    key = PrivateKey.generate(MLDSA_SCHEME if scheme == MLDSA_SCHEME else P384_SCHEME)
    passphrase = ask_passphrase(passphrase_file, f"Passphrase for {name}'s key", twice=True)
    pem = key.dump(passphrase.encode())
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
    return key.public


def _on_token(uri: str, module: Path | None, name: str, passphrase_file: Path | None) -> tuple[PublicKey, str]:
    """The key, and the URI with which to sign."""
    from bundler.bundle.pkcs11uri import parse_uri
    from bundler.bundle.token import make_token_key

    wanted = parse_uri(uri, module)
    if wanted.id is not None:
        raise InputInvalid(f"{uri}: expected no id: the token's key gets a new one", "leave id= out")
    key, own = make_token_key(wanted, name, partial(ask_passphrase, passphrase_file))
    return key, str(own)
