"""The options that name a key, for every command that signs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from custody.secret import ask_passphrase, passphrase_option

if TYPE_CHECKING:
    from custody.trust.keys import DigestSigner

module_option = click.option(
    "--module", type=click.Path(path_type=Path, dir_okay=False),
    help="The token's PKCS#11 library, when the URI names none as module-path.",
)  # fmt: skip


def key_options(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options `--key`, `--module` and `--passphrase-file`, for `opened`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = passphrase_option("the key's passphrase or the token's PIN")(command)
        command = module_option(command)
        return click.option(
            "--key", type=click.Path(dir_okay=False), required=required, metavar="FILE|URI",
            help="NAME.key of the person who signs, or a PKCS#11 URI of a key on a token.",
        )(command)  # fmt: skip

    return add


def opened(key: str, module: Path | None, passphrase_file: Path | None) -> AbstractContextManager[DigestSigner]:
    """The key; asks for its passphrase or PIN."""
    from bundler.bundle.signer import open_signer

    return open_signer(key, module, partial(ask_passphrase, passphrase_file))
