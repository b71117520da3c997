"""Open a key that signs, wherever it lies: a file or a PKCS#11 token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.bundle.pkcs11uri import SCHEME, parse_uri
from custody.errors import InputInvalid, SecretRefused
from custody.trust.keys import DigestSigner, PrivateKey


@contextmanager
def open_signer(where: str, module: Path | None, ask: Callable[[str], str]) -> Iterator[DigestSigner]:
    """A key, for as long as the block runs.

    Args:
        where: a `.key` file, or a PKCS#11 URI (RFC 7512).
        module: the token's PKCS#11 library, when the URI does not name it.
        ask: called once with a prompt, for the passphrase or PIN.

    Raises:
        SecretRefused: wrong passphrase or PIN, or not a P-384 key.
        InputInvalid: not a URI, or a library for a file.
        EnvironmentProblem: no such token.
    """
    if where.startswith(SCHEME):
        from bundler.bundle.token import open_token_key

        with open_token_key(parse_uri(where, module), ask) as key:
            yield key
        return
    if module is not None:
        raise InputInvalid(f"--module {module}: is for a key on a token", "leave it out, or give --key a PKCS#11 URI")
    yield _load(Path(where), ask)


def _load(file: Path, ask: Callable[[str], str]) -> PrivateKey:
    """Open a key file; see `PrivateKey.load`."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise SecretRefused(f"{file}: {error.strerror}", "name the .key file that `airgap keys new` made") from error
    return PrivateKey.load(pem, ask(f"Passphrase for {file}").encode(), str(file))
