"""`airgap verify --upstream`: its options, and how its proofs are shown."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from custody.errors import IntegrityFailure

if TYPE_CHECKING:
    from bundler.bundle.upstream import Proof
    from custody.trust.verify import VerifiedBundle

_WIDTH, _TEXT_AT = 80, 11


def upstream_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--upstream` and `--keyring`."""
    command = click.option(
        "--keyring", type=click.Path(path_type=Path, dir_okay=False),
        help="With --upstream: the distribution's keys; default: of the package debian-archive-keyring.",
    )(command)  # fmt: skip
    return click.option(
        "--upstream", is_flag=True, help="Also re-check what the distribution signed, and the wheels' hashes."
    )(command)


def check(bundle: VerifiedBundle, keyring: Path | None) -> tuple[Proof, ...]:
    """See `check_upstream`."""
    from bundler.bundle.distribution import KEYRING
    from bundler.bundle.upstream import check_upstream

    return check_upstream(bundle, keyring or KEYRING)


def as_content(proofs: Sequence[Proof]) -> dict[str, Any]:
    """For the JSON of a verified bundle: nothing when nothing was re-checked."""
    if not proofs:
        return {}
    verdict = "refused" if _refused(proofs) else "accepted"
    return {"verdict": verdict, "upstream": [vars(proof) for proof in proofs]}


def show(proofs: Sequence[Proof]) -> None:
    """One proof a row of 80 columns: verdict, what, why."""
    for proof in proofs:
        paragraphs = f"{proof.what}: {proof.found}".splitlines()
        lines = [line for text in paragraphs for line in textwrap.wrap(text, _WIDTH - _TEXT_AT)]
        click.echo(f"{proof.verdict:{_TEXT_AT}}{lines[0]}")
        for line in lines[1:]:
            click.echo(" " * _TEXT_AT + line)


def require_none_refused(proofs: Sequence[Proof]) -> None:
    """Raise for what was shown already.

    Raises:
        IntegrityFailure: a proof was refused.
    """
    if refused := _refused(proofs):
        raise IntegrityFailure(
            f"upstream: {len(refused)} of {len(proofs)} proofs refused", "do not sign or install it; ask who built it"
        )


def _refused(proofs: Sequence[Proof]) -> list[Proof]:
    return [proof for proof in proofs if proof.verdict == "refused"]
