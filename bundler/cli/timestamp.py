"""`airgap timestamp`."""

from __future__ import annotations

from pathlib import Path

import click

from custody.errors import InputInvalid, TargetRefused
from custody.report import show_json

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("target", type=click.Path(path_type=Path, exists=True))
@click.option("--request", type=_FILE, metavar="OUT", help="Write the request for a token over TARGET there.")
@click.option("--attach", type=_FILE, metavar="RESPONSE", help="Verify the authority's answer, keep it as TARGET.tsr.")
@click.option("--verify", "judge", is_flag=True, help="Verify TARGET.tsr.")
@click.option(
    "--authority", type=_FILE, metavar="PEM", help="Root of the authority, and certificates between it and the signer."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    target: Path, request: Path | None, attach: Path | None, judge: bool, authority: Path | None, as_json: bool
) -> None:
    """Have an RFC 3161 authority say when TARGET was there: a file, as a checkpoint, or a bundle (its Statement).

    The request and the answer are carried by hand; `openssl ts` reads both.

    \b
    Example: airgap timestamp 2026-11.checkpoint --request 2026-11.tsq
    Example: airgap timestamp 2026-11.checkpoint \\
                 --attach 2026-11.tsr --authority tsa.pem
    Example: airgap timestamp /srv/bundles/demo-1 --verify --authority tsa.pem
    """
    from custody import timestamp

    if (request is not None) + (attach is not None) + judge != 1:
        raise click.UsageError("Give one of '--request', '--attach' and '--verify'")
    data = _subject(target).read_bytes()
    if request is not None:
        if request.exists():
            raise TargetRefused(f"{request}: exists already", "name a new file")
        request.write_bytes(timestamp.request(data))
        click.echo(f"request: {request}, for the authority; then --attach its answer")
        return
    if authority is None:
        raise click.UsageError("Missing option '--authority'")
    kept = target.with_name(f"{target.resolve().name}.tsr")
    answer = _read(attach or kept)
    token = timestamp.verify(answer, data, _read(authority), str(attach or kept))
    if attach is not None:
        _keep(kept, answer, target)
    if as_json:
        content = {"verdict": "holds", "time": token.time.isoformat(), "authority": token.authority}
        show_json("airgap.timestamp/1", {**content, "serial": str(token.serial)})
        return
    click.echo(
        f"token:     {kept}\nauthority: {token.authority}\ntime:      {token.time.isoformat()}\nverdict:   holds"
    )


def _subject(target: Path) -> Path:
    """The file whose bytes are stamped."""
    return target / "carrier/statement.json" if target.is_dir() else target


def _keep(kept: Path, answer: bytes, target: Path) -> None:
    import hashlib

    from custody.atomic import write_whole
    from custody.ledger.event import Event
    from custody.ledger.record import ready, record

    if kept.exists() and kept.read_bytes() != answer:
        raise TargetRefused(f"{kept}: exists already", "a token is never overwritten; move it away")
    ready()
    write_whole(kept, answer)
    record(Event("timestamped", target.name, f"sha256:{hashlib.sha256(answer).hexdigest()}"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "airgap timestamp --help") from error
