"""`airgap keys`."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import click

from custody.errors import InputInvalid, TargetRefused
from custody.secret import ask_passphrase, passphrase_option


@click.group()
def command() -> None:
    """Make signing keys.

    \b
    Example: airgap keys new alice
    """


@command.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for both files.")
@passphrase_option("the key's passphrase")
def new(name: str, out: Path, passphrase_file: Path | None) -> None:
    """Make a key for the person NAME: NAME.key (encrypted) and NAME.pub.

    \b
    Example: airgap keys new alice --out /media/token
    """
    from custody.trust.keys import PrivateKey
    from custody.trust.root import NAME

    if not NAME.fullmatch(name):
        raise InputInvalid(
            f"{name!r}: expected a person's name of lower-case letters, digits and hyphens", "airgap keys new alice"
        )
    private, public = out / f"{name}.key", out / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise TargetRefused(f"{path}: exists already", "a key is never overwritten; choose another name or folder")
    key = PrivateKey.generate()
    passphrase = ask_passphrase(passphrase_file, f"Passphrase for {name}'s key", twice=True)
    pem = key.dump(passphrase.encode())
    out.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
    public.write_text(base64.b64encode(key.public.der).decode() + "\n")
    click.echo(f"private: {private}\npublic:  {public}\nkey id:  {key.public.keyid}")
