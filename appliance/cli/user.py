"""`airgap user`."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from custody.errors import InputInvalid, LedgerUnwritable, OperatorMistake, TargetRefused
from custody.report import show_folded, show_json

if TYPE_CHECKING:
    from appliance.gateway.identity import Limits
    from appliance.gateway.people import User

_UNITS_S = {"m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhd])")
#: Longer than any key should live.
_MAX_S = 10 * 366 * 86400
_LIMITS = {
    "requests_per_minute": "Requests a minute.",
    "tokens_per_minute": "Tokens a minute, prompts and answers together.",
    "concurrent": "Requests at one time.",
    "prompt_max_tokens": "Tokens of one prompt.",
    "output_max_tokens": "Tokens of one answer.",
}


def _default() -> Path:
    from appliance.gateway.directory import FOLDER

    return FOLDER


_folder_option = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=_default,
    show_default="/var/lib/airgap/gateway", help="Where the people's database lies.",
)  # fmt: skip
_dry_run_option = click.option("--dry-run", is_flag=True, help="Check, say what would be done, and do nothing.")
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
_key_out_option = click.option(
    "--key-out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the key to this new file, mode 0600; without it, to standard output, which must not be a terminal.",
)  # fmt: skip
_certificate_option = click.option(
    "--certificate", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
    help="A client certificate (PEM) that this user shows.",
)  # fmt: skip


def _expiry_options(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option("--expires-in", metavar="8h", help=f"{what} ends after so many m, h or d.")(command)
        return click.option("--expires", metavar="2026-12-31", help=f"Last day (UTC) of {what.lower()}.")(command)

    return add


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in reversed(_LIMITS.items()):
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, type=click.IntRange(0, 10**9), help=f"{text} 0: no limit.")(command)
    return command


@click.group()
def command() -> None:
    """Say who may use the service: roles, groups, limits, keys, client certificates.

    \b
    Example: airgap user list
    """


@command.command()
@_dry_run_option
@_folder_option
def init(dry_run: bool, folder: Path) -> None:
    """Make the database of people, with nobody in it; one that is there stays.

    \b
    Example: airgap user init
    """
    from appliance.gateway.people import People

    People(folder, dry_run=dry_run).begin()
    _say(dry_run, f"people: {folder}")


@command.command()
@click.argument("name")
@click.option("--role", default="user", show_default=True, help="Policies speak of it.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Policies speak of it. Repeat it.")
@_certificate_option
@click.option("--no-key", is_flag=True, help="No key: the client shows its certificate alone.")
@_expiry_options("The user")
@_limit_options
@_key_out_option
@_dry_run_option
@_folder_option
def add(
    name: str, role: str, groups: tuple[str, ...], certificate: Path | None, no_key: bool, expires: str | None,
    expires_in: str | None, key_out: Path | None, dry_run: bool, folder: Path, **limits: int | None,
) -> None:  # fmt: skip
    """Add the user NAME and give out a key. It is shown this once; what is kept cannot be turned back into it.

    \b
    Example: airgap user add alice --group clinicians \\
                 --requests-per-minute 30 --key-out alice.key
    Example: airgap user add audit-2026 --role auditor \\
                 --expires-in 8h --key-out audit.key
    """
    from appliance.gateway.people import People

    if no_key and (certificate is None or key_out is not None):
        raise InputInvalid("--no-key: wants --certificate, and no --key-out", "airgap user add --help")
    until, shown = _until(expires, expires_in), _fingerprint(certificate) if certificate else None
    people = People(folder, dry_run=dry_run)
    with _key(key_out, dry_run, wanted=not no_key) as key:
        people.add(name, role, groups, _limits(limits), until, _now(), key=key, certificate=shown)
    _say(dry_run, f"{name}: role {role}, groups {', '.join(sorted(set(groups))) or 'none'}, {_ends(until)}")


@command.command("list")
@click.option("--all", "everybody", is_flag=True, help="Those who were revoked or have expired, too.")
@_json_option
@_folder_option
def list_users(everybody: bool, as_json: bool, folder: Path) -> None:
    """List who may use the service.

    \b
    Example: airgap user list --json
    """
    from appliance.gateway.people import People

    now = _now()
    users = [user for user in People(folder).users() if everybody or _state(user, now) == "active"]
    if as_json:
        show_json("airgap.users/1", {"users": [_told(user, now) for user in users]})
        return
    if not users:
        click.echo("nobody may use the service; next: airgap user add --help", err=True)
        return
    click.echo(f"{'user':20} {'role':10} {'state':7} {'expires':20} {'keys':>4}  groups")
    for user in users:
        keys = sum(each.revoked_at is None and not _is_past(each.expires_at, now) for each in user.keys)
        keys += sum(each.revoked_at is None for each in user.certificates)
        state = _state(user, now)
        row = f"{user.user_id:20} {user.role:10} {state:7} {_time(user.expires_at):20} {keys:4}"
        show_folded(f"{row}  {', '.join(user.groups)}", 21)


@command.command()
@click.argument("name")
@_json_option
@_folder_option
def show(name: str, as_json: bool, folder: Path) -> None:
    """Show one user: keys by id, certificates, limits. Keys themselves are not kept.

    \b
    Example: airgap user show alice
    """
    from appliance.gateway.people import People

    user, now = People(folder).user(name), _now()
    if as_json:
        show_json("airgap.user/1", _told(user, now))
        return
    click.echo(f"user:        {user.user_id}, {_state(user, now)}\nrole:        {user.role}")
    click.echo(f"groups:      {', '.join(user.groups) or 'none'}\nexpires:     {_time(user.expires_at)}")
    for each in user.keys:
        gone = f", revoked {_time(each.revoked_at)}" if each.revoked_at else ""
        click.echo(f"key:         {each.key_id}, made {_time(each.created_at)}, expires {_time(each.expires_at)}{gone}")
    for shown in user.certificates:
        gone = f", revoked {_time(shown.revoked_at)}" if shown.revoked_at else ""
        click.echo(f"certificate: {shown.sha256}{gone}")
    for limit, value in dataclasses.asdict(user.limits).items():
        click.echo(f"limit:       {limit.replace('_', ' ')}: {'none' if value is None else value}")


@command.command()
@click.argument("name")
@click.option("--role", help="Another role.")
@_certificate_option
@_expiry_options("The user")
@_limit_options
@_dry_run_option
@_folder_option
def change(
    name: str, role: str | None, certificate: Path | None, expires: str | None, expires_in: str | None, dry_run: bool,
    folder: Path, **limits: int | None,
) -> None:  # fmt: skip
    """Change role, end or limits of NAME, or add a client certificate; what is not named stays.

    \b
    Example: airgap user change alice --requests-per-minute 60
    """
    from appliance.gateway.people import People

    until, shown = _until(expires, expires_in), _fingerprint(certificate) if certificate else None
    new = {limit: value or None for limit, value in limits.items() if value is not None}
    People(folder, dry_run=dry_run).change(name, _now(), role=role, limits=new, expires_at=until, certificate=shown)
    _say(dry_run, f"{name}: changed")


@command.command()
@click.argument("name")
@click.option("--overlap", default="24h", show_default=True, help="How long old keys still work: m, h or d; 0: not.")
@_expiry_options("The new key")
@_key_out_option
@_dry_run_option
@_folder_option
def rotate(
    name: str, overlap: str, expires: str | None, expires_in: str | None, key_out: Path | None, dry_run: bool,
    folder: Path,
) -> None:  # fmt: skip
    """Give NAME a new key; the old ones work until the overlap is over.

    \b
    Example: airgap user rotate alice --overlap 2d --key-out alice-2.key
    """
    from appliance.gateway.people import People

    overlap_s = 0 if overlap == "0" else _seconds("--overlap", overlap)
    until, people = _until(expires, expires_in), People(folder, dry_run=dry_run)
    with _key(key_out, dry_run) as key:
        people.rotate(name, str(key), overlap_s, until, _now())
    _say(dry_run, f"{name}: a new key, {_ends(until)}; old ones end {_time(_now() + overlap_s)} at the latest")


@command.command()
@click.argument("name")
@click.option("--key-id", default="", help="This key alone; `user show` has the ids.")
@click.option("--certificate", default="", metavar="SHA256", help="This client certificate alone.")
@_dry_run_option
@_folder_option
def revoke(name: str, key_id: str, certificate: str, dry_run: bool, folder: Path) -> None:
    """Take NAME's access back, at once and for good: no new request, and answers that are under way end.

    \b
    Example: airgap user revoke alice
    Example: airgap user revoke alice --key-id abcdefghijkl
    """
    from appliance.gateway.people import People

    if key_id and certificate:
        raise InputInvalid("--key-id and --certificate: expected one of them", "run it twice")
    People(folder, dry_run=dry_run).revoke(name, _now(), key_id=key_id, certificate=certificate.lower())
    _say(dry_run, f"{name}: {key_id or certificate or 'the user and all keys'} revoked")


@command.command()
@click.argument("name")
@click.option("--add", "joined", multiple=True, metavar="GROUP", help="Join it. Repeat it.")
@click.option("--remove", "left", multiple=True, metavar="GROUP", help="Leave it. Repeat it.")
@_dry_run_option
@_folder_option
def group(name: str, joined: tuple[str, ...], left: tuple[str, ...], dry_run: bool, folder: Path) -> None:
    """Put NAME into groups, or take it out. A group is there as soon as somebody is in it.

    \b
    Example: airgap user group alice --add clinicians --remove trainees
    """
    from appliance.gateway.people import People

    People(folder, dry_run=dry_run).group(name, joined, left)
    _say(dry_run, f"{name}: joined {', '.join(joined) or 'none'}, left {', '.join(left) or 'none'}")


def _now() -> int:
    return int(time.time())


def _say(dry_run: bool, text: str) -> None:
    """A key may be on standard output; this is not the result."""
    click.echo(f"{'would be: ' if dry_run else ''}{text}", err=True)


@contextmanager
def _key(out: Path | None, dry_run: bool, *, wanted: bool = True) -> Iterator[str | None]:
    """A new key, handed over when the block has ended well, or what it did is not recorded.

    The file is written first: what cannot be handed over is not given out, and what is not given out leaves no file.
    """
    from appliance.gateway.people import new_key

    if not wanted:
        yield None
        return
    if out is None and sys.stdout.isatty() and not dry_run:
        raise OperatorMistake(
            "a key on a terminal stays in its history: expected a file",
            "--key-out FILE, or a pipe to what keeps secrets",
        )
    if out is not None and os.path.lexists(out):
        raise TargetRefused(f"{out}: exists already", "choose another name; nothing is overwritten")
    key = new_key()
    if dry_run:
        yield key
        return
    if out is not None:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:
            stream.write(f"{key}\n")
            stream.flush()
            os.fsync(stream.fileno())
    try:
        yield key
    except BaseException as error:
        if isinstance(error, LedgerUnwritable) and error.is_done:
            if out is None:
                click.echo(key)  # it is valid
        elif out is not None:
            out.unlink(missing_ok=True)
        raise
    if out is None:
        click.echo(key)


def _limits(given: dict[str, int | None]) -> Limits:
    from appliance.gateway.identity import Limits

    return Limits(**{name: value or None for name, value in given.items()})


def _fingerprint(file: Path) -> str:
    """SHA-256 of a certificate's DER."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        return x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(SHA256()).hex()
    except ValueError as error:
        raise InputInvalid(f"{file}: expected a certificate in PEM: {error}", f"openssl x509 -in {file}") from error


def _until(day: str | None, duration: str | None) -> int | None:
    """The end that was asked for, Unix seconds; of a day, its end."""
    if day is None:
        return None if duration is None else _now() + _seconds("--expires-in", duration)
    if duration is not None:
        raise InputInvalid("--expires and --expires-in: expected one of them", "name the day or the time")
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
            raise ValueError(day)
        end = int((datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)).timestamp())
    except (ValueError, OverflowError) as error:
        raise InputInvalid(f"--expires {day!r:.40}: expected a day like 2026-12-31", "UTC") from error
    if not _now() < end <= _now() + _MAX_S:
        raise InputInvalid(f"--expires {day}: expected a day to come, ten years ahead at most", "date -u")
    return end


def _seconds(option: str, text: str) -> int:
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _MAX_S:
        raise InputInvalid(f"{option} {text!r:.40}: expected a time like 30m, 8h or 90d", "ten years at most")
    return seconds


def _is_past(at: int | None, now: int) -> bool:
    return at is not None and at <= now


def _state(user: User, now: int) -> str:
    return "revoked" if user.revoked_at is not None else "expired" if _is_past(user.expires_at, now) else "active"


def _time(at: int | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ends(at: int | None) -> str:
    return "never expires" if at is None else f"expires {_time(at)}"


def _told(user: User, now: int) -> dict[str, Any]:
    """For machines; times in Unix seconds."""
    return {**dataclasses.asdict(user), "state": _state(user, now)}
