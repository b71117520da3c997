"""`airgap trust`."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import click

from custody.errors import InputInvalid, TargetRefused, TrustRejected
from custody.report import show_json
from custody.secret import ask_passphrase, passphrase_option
from custody.trust.root import Person


@click.group()
def command() -> None:
    """The root of trust: persons, their keys, and how many must agree.

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
    metavar="NAME:ROLE[,ROLE]:PUBLIC-KEY-FILE",
    help="A person, roles out of root, builder, approver, recovery, and the file that `keys new` made. Repeat it.",
)
@click.option("--root-threshold", type=int, default=2, show_default=True, help="Persons who must sign a root.")
def init(folder: Path, persons: tuple[str, ...], root_threshold: int) -> None:
    """Write root 1 to FOLDER, unsigned; its root persons sign it with `trust sign`.

    \b
    Example: airgap trust init trust --person alice:root,builder:alice.pub \\
                 --person bob:root,approver:bob.pub
    """
    from custody.trust.envelope import Envelope
    from custody.trust.root import PAYLOAD_TYPE, Root, fingerprint

    path = folder / "1.root.json"
    if path.exists():
        raise TargetRefused(f"{path}: exists already", "a root is rotated, never overwritten")
    thresholds = {"root": root_threshold, "builder": 1, "approver": 1}
    try:
        root = Root(1, tuple(_person(text) for text in persons), thresholds)
    except TrustRejected as error:
        raise InputInvalid(error.message, "see airgap trust init --help") from error
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.root.flat").write_bytes(root.flat())
    path.write_bytes(Envelope(PAYLOAD_TYPE, root.payload(), {}).dump())
    click.echo(f"root:        {path}\nfingerprint: {fingerprint(root.payload())}")


@command.command("sign")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="NAME.key of a root person."
)
@passphrase_option("the key's passphrase")
def sign(folder: Path, key: Path, passphrase_file: Path | None) -> None:
    """Sign the root in FOLDER as one of its root persons.

    \b
    Example: airgap trust sign trust --key alice.key
    """
    from bundler.bundle.sign import add_root_signature, load_key

    passphrase = ask_passphrase(passphrase_file, f"Passphrase for {key}")
    person = add_root_signature(folder, load_key(key, passphrase.encode()))
    click.echo(f"{folder}/1.root.json: signed by {person}")


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(folder: Path, as_json: bool) -> None:
    """Show the root in FOLDER: persons, roles, thresholds, and the fingerprint to pin.

    \b
    Example: airgap trust show trust
    """
    from custody.trust.envelope import Envelope
    from custody.trust.root import Root, fingerprint

    path = folder / "1.root.json"
    name = str(path)
    try:
        envelope = Envelope.parse(path.read_bytes(), name)
    except OSError as error:
        raise InputInvalid(f"{name}: {error.strerror}", "make a root with: airgap trust init FOLDER") from error
    root = Root.parse(envelope.payload, name)
    signers = root.persons_with("root", envelope.signers(root.keys_by_id(), name))
    if as_json:
        persons = [
            {"name": person.name, "roles": list(person.roles), "keys": [key.keyid for key in person.keys]}
            for person in root.persons
        ]
        content = {"persons": persons, "thresholds": dict(root.thresholds), "signed_by": list(signers)}
        show_json("airgap.root/1", {**content, "fingerprint": fingerprint(envelope.payload)})
        return
    click.echo(f"{'person':16} {'roles':28} key id")
    for person in root.persons:
        for public in person.keys:
            click.echo(f"{person.name:16} {', '.join(person.roles):28} {public.keyid[:32]}")
    for role, count in sorted(root.thresholds.items()):
        click.echo(f"threshold {role:9} {count}")
    click.echo(f"signed by   {', '.join(signers) or 'nobody'}")
    click.echo(f"fingerprint {fingerprint(envelope.payload)}")


def _person(text: str) -> Person:
    from custody.trust.keys import PublicKey

    parts = text.split(":", 2)
    if len(parts) != 3:
        raise InputInvalid(f"--person {text}: expected NAME:ROLES:FILE", "see airgap trust init --help")
    name, roles, file = parts
    try:
        der = base64.b64decode(Path(file).read_text().strip(), validate=True)
    except (OSError, binascii.Error, UnicodeDecodeError) as error:
        raise InputInvalid(f"--person {text}: {error}", "name the .pub file that `airgap keys new` made") from error
    return Person(name, tuple(roles.split(",")), (PublicKey(der),))
