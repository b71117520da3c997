"""`airgap trust`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.key import key_options, opened
from custody.errors import AirgapError, InputInvalid, OperatorMistake, TrustRejected
from custody.lock import alone
from custody.report import show_json

if TYPE_CHECKING:
    from custody.trust.keys import PublicKey
    from custody.trust.root import Person, Root

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
_PERSON = "NAME:ROLE[,ROLE]:PUBLIC-KEY-FILE[,FILE]"
_PROFILES = click.Choice(("p384", "cnsa"))
_SCHEMES = {"ecdsa-p384-sha384": "P-384", "ml-dsa-87": "ML-DSA-87"}


@click.group()
def command() -> None:
    """The root of trust: persons, their keys, how many must agree, and what was revoked.

    \b
    Example: airgap trust show trust
    """


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--person",
    "persons",
    multiple=True,
    required=True,
    metavar=_PERSON,
    help="A person, roles out of root, builder, approver, recovery, and the file that `keys new` made. Repeat it.",
)
@click.option("--root-threshold", type=int, default=2, show_default=True, help="Persons who must sign a root.")
@click.option(
    "--profile", type=_PROFILES, default="p384", show_default=True,
    help="cnsa: everybody signs with P-384 and with ML-DSA-87, and every digest is SHA-384.",
)  # fmt: skip
@click.option("--threshold", "others", multiple=True, metavar="ROLE=N", help="Of another role; else 1. Repeat it.")
def init(folder: Path, persons: tuple[str, ...], root_threshold: int, profile: str, others: tuple[str, ...]) -> None:
    """Write root 1 to FOLDER, unsigned; its root persons sign it with `trust sign`.

    \b
    Example: airgap trust init trust --person alice:root,builder:alice.pub \\
                 --person bob:root,approver:bob.pub \\
                 --person carol:root,recovery:carol.pub
    """
    from bundler.bundle.trustfolder import TrustFolder
    from custody.trust.profile import PROFILES
    from custody.trust.root import Root

    people = tuple(_person(text) for text in persons)
    thresholds = {"root": root_threshold, "builder": 1, "approver": 1}
    if any("recovery" in person.roles for person in people):
        thresholds["recovery"] = 1
    with _as_input("airgap trust init --help"):
        root = Root(1, people, {**thresholds, **_thresholds(others)}, PROFILES[profile])
    _say_root(TrustFolder(folder).add_root(root), root)


@command.command()
@_FOLDER
@click.option("--person", "persons", multiple=True, metavar=_PERSON, help="A new person, or new roles and key of one.")
@click.option("--remove", multiple=True, metavar="NAME", help="A person who leaves. Repeat it.")
@click.option("--threshold", "thresholds", multiple=True, metavar="ROLE=N", help="A changed threshold. Repeat it.")
@click.option("--profile", type=_PROFILES, help="Another profile; cnsa wants a second key of everybody (--person).")
def rotate(
    folder: Path, persons: tuple[str, ...], remove: tuple[str, ...], thresholds: tuple[str, ...], profile: str | None
) -> None:
    """Write root N+1 to FOLDER, unsigned. Root persons of root N and of root N+1 sign it with `trust sign`.

    \b
    Example: airgap trust rotate trust --remove alice \\
                 --person dora:root,builder:dora.pub
    """
    from bundler.bundle.trustfolder import TrustFolder

    people = tuple(_person(text) for text in persons)
    here = TrustFolder(folder)
    with _as_input("airgap trust rotate --help"):
        path = here.rotate(people, remove, _thresholds(thresholds), profile)
    _say_root(path, here.newest_root()[0])


@command.command()
@_FOLDER
@click.option("--key", "keys", multiple=True, metavar="KEY-ID|FILE", help="A key's id, or its .pub file. Repeat it.")
@click.option(
    "--bundle", "bundles", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A bundle that no host may install any more. Repeat it.",
)  # fmt: skip
@click.option("--reason", required=True, help="Shown to whoever is refused; ASCII, one line.")
def revoke(folder: Path, keys: tuple[str, ...], bundles: tuple[Path, ...], reason: str) -> None:
    """Write a longer list of revocations to FOLDER, unsigned; root persons sign it with `trust sign`.

    \b
    Example: airgap trust revoke trust --key alice.pub \\
                 --reason "token lost on 2 May"
    """
    from bundler.bundle.trustfolder import TrustFolder, statement_digest

    here = TrustFolder(folder)
    with _as_input("airgap trust revoke --help"):
        path = here.revoke({_keyid(text): reason for text in keys}, {statement_digest(x): reason for x in bundles})
    listed, _ = here.revocations()
    click.echo(f"revocations: {path}\nnumber:      {listed.number}")
    click.echo(f"entries:     {len(listed.keys)} keys, {len(listed.statements)} bundles")
    click.echo(f"next:        root persons sign it: airgap trust sign {folder} --key KEY")


@command.command("sign")
@_FOLDER
@key_options()
def sign(folder: Path, key: str, module: Path | None, passphrase_file: Path | None) -> None:
    """Sign what is new in FOLDER, the newest root and the revocations, as one of the root persons.

    \b
    Example: airgap trust sign trust --key alice.key
    """
    from bundler.bundle.trustfolder import TrustFolder

    with opened(key, module, passphrase_file) as signer:
        person, signed = TrustFolder(folder).sign(signer)
    for name in signed:
        click.echo(f"{folder}/{name}: signed by {person}")
    if not signed:
        click.echo(f"{folder}: {person} has signed all of it before")


@command.command()
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(folder: Path, as_json: bool) -> None:
    """Show the newest root in FOLDER, who signed it, the fingerprint to pin, and what was revoked.

    \b
    Example: airgap trust show trust
    """
    from bundler.bundle.trustfolder import TrustFolder

    here = TrustFolder(folder)
    root, envelope = here.newest_root()
    signers = root.persons_with("root", envelope.signers(root.keys_by_id(), f"{root.version}.root.json"))
    try:
        here.trust()
        missing = ""
    except AirgapError as error:  # shown, not raised: a folder that is half signed is to be looked at
        missing = error.message
    listed, _ = here.revocations()
    if as_json:
        persons = [
            {"name": person.name, "roles": list(person.roles), "keys": [key.keyid for key in person.keys]}
            for person in root.persons
        ]
        content: dict[str, Any] = {"persons": persons, "thresholds": dict(root.thresholds), "signed_by": list(signers)}
        revoked = {"number": listed.number, "keys": listed.keys, "statements": listed.statements}
        content |= {
            "version": root.version,
            "profile": root.profile.name,
            "revocations": revoked,
            "complete": not missing,
        }
        show_json("airgap.root/1", {**content, "fingerprint": root.fingerprint})
        return
    click.echo(f"root {root.version}, profile {root.profile.name}")
    click.echo(f"{'person':16} {'roles':24} {'scheme':10} key id")
    for person in root.persons:
        for public in person.keys:
            gone = "  revoked" if public.keyid in listed.keys else ""
            scheme = _SCHEMES[public.scheme]
            click.echo(f"{person.name:16} {', '.join(person.roles):24} {scheme:10} {public.keyid[:24]}{gone}")
    for role, count in sorted(root.thresholds.items()):
        click.echo(f"threshold {role:9} {count}")
    click.echo(f"signed by   {', '.join(signers) or 'nobody'}")
    if missing:
        click.echo(f"missing     {missing}")
    for digest, reason in sorted({**listed.keys, **listed.statements}.items()):
        click.echo(f"revoked     {digest[:24]}  {reason}")
    click.echo(f"fingerprint {root.fingerprint}")


@command.command()
@_FOLDER
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--from-version", type=click.IntRange(min=1), required=True, help="Version that the host has accepted.")
@click.option("--from-epoch", type=click.IntRange(min=1), default=1, show_default=True, help="Its security epoch.")
@click.option("--reason", required=True, help="Kept with the order; ASCII, one line.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The order; signed again, it grows."
)
@key_options()
def order(
    folder: Path, bundle: Path, from_version: int, from_epoch: int, reason: str, out: Path, key: str,
    module: Path | None, passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Order a downgrade to BUNDLE, as one person of role recovery; the others repeat it with the same --out.

    \b
    Example: airgap trust order trust /srv/bundles/demo-3 --from-version 4 \\
                 --reason "4 answers nonsense" \\
                 --out back-to-3.order --key carol.key
    """
    from bundler.bundle.order import sign_order

    with opened(key, module, passphrase_file) as signer:
        person, digest = sign_order(folder, bundle, (from_version, from_epoch), reason, out, signer)
    click.echo(f"order:  {out}, signed by {person}\ndigest: {digest}")


@command.command()
@_FOLDER
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
    help="The signed bundle that goes onto the medium.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html|FILE.txt",
    help="Write it there, as a page or as text; else text on standard output.",
)  # fmt: skip
def paper(folder: Path, bundle: Path, out: Path | None) -> None:
    """Make the paper that travels apart from the medium: root's fingerprint, digest of `start`, version.

    \b
    Example: airgap trust paper trust --bundle /srv/demo-1 --out demo-1-paper.html
    """
    from bundler.bundle.read import FolderSource
    from bundler.bundle.trustfolder import TrustFolder
    from bundler.media.paper import html, make_paper, text
    from custody.trust.verify import read_trust, verify_statement

    kind = ".txt" if out is None else out.suffix
    if kind not in (".html", ".txt"):
        raise InputInvalid(f"{out}: expected a name that ends in .html or .txt", "name another file")
    pinned = TrustFolder(folder).trust().root.fingerprint
    source = FolderSource(bundle)
    made = make_paper(verify_statement(source, read_trust(source, pinned)))
    if out is None:
        click.echo(text(made), nl=False)
        return
    out.write_text(html(made) if kind == ".html" else text(made))
    click.echo(
        f"paper: {out}\nnext:  print it; compare the fingerprint with airgap trust show {folder}; send it another way"
    )


@command.command()
@click.argument("fingerprint", nargs=-1, required=True, metavar="FINGERPRINT|WORDS...")
def pin(fingerprint: tuple[str, ...]) -> None:
    """Remember a root on this host before the first medium arrives, from the paper: its digits or its words.

    \b
    Example: airgap trust pin 3f9a...
    """
    from bundler.cli.verify import parse_fingerprint
    from bundler.install import paths, state

    if os.geteuid() != 0:
        raise OperatorMistake("trust pin: expected root", "run it as root")
    wanted = parse_fingerprint(" ".join(fingerprint))
    paths.RUN.mkdir(mode=0o755, exist_ok=True)
    with alone(paths.RUN / "install.lock", "an airgap install"):
        fresh = state.pin(wanted)
    click.echo(f"{state.file()}: {'pinned' if fresh else 'believed already'}: {wanted}")


def _say_root(path: Path, root: Root) -> None:
    click.echo(f"root:        {path}\nfingerprint: {root.fingerprint}")
    holders = sum("root" in person.roles for person in root.persons)
    if holders <= root.thresholds["root"]:
        click.echo(
            f"warning:     {holders} persons may sign a root and {root.thresholds['root']} must: when one key is lost,"
            " nobody can rotate or revoke",
            err=True,
        )


class _as_input:
    """A root that makes no sense is the operator's mistake here, and nobody's attack."""

    def __init__(self, hint: str) -> None:
        self._hint = hint

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TrustRejected):
            raise InputInvalid(error.message, f"see {self._hint}") from error


def _thresholds(texts: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in texts:
        role, _, count = text.partition("=")
        if not count.isdecimal() or len(count) > 4:
            raise InputInvalid(f"--threshold {text}: expected ROLE=N", "like --threshold approver=2")
        found[role] = int(count)
    return found


def _keyid(text: str) -> str:
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text
    return _public(text, f"--key {text}").keyid


def _public(file: str, what: str) -> PublicKey:
    from custody.trust.keys import PublicKey

    try:
        return PublicKey.from_text(Path(file).read_text())
    except (OSError, UnicodeDecodeError, TrustRejected) as error:
        raise InputInvalid(f"{what}: {error}", "name the .pub file that `airgap keys new` made") from error


def _person(text: str) -> Person:
    from custody.trust.root import Person

    parts = text.split(":", 2)
    if len(parts) != 3:
        raise InputInvalid(f"--person {text}: expected NAME:ROLES:FILE", "see airgap trust init --help")
    name, roles, files = parts
    with _as_input("airgap trust init --help"):
        keys = tuple(_public(file, f"--person {text}") for file in files.split(","))
        return Person(name, tuple(roles.split(",")), keys)
