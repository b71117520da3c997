"""`airgap audit-kit`."""

from __future__ import annotations

from pathlib import Path

import click

from custody.errors import TargetRefused


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Write the auditor's kit to the new FOLDER: a script that judges a bundle with openssl alone, and its page.

    \b
    Example: airgap audit-kit /media/audit && \\
                 sh /media/audit/check /srv/demo-1 3f9a...
    """
    from bundler.media.kit import kit
    from custody.trust.profile import ALGORITHMS, hexdigest

    if folder.exists():
        raise TargetRefused(f"{folder}: exists already", "name a new folder")
    folder.mkdir(parents=True)
    files = kit()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    click.echo(f"kit:             {folder}, {', '.join(sorted(files))}")
    for algorithm in ALGORITHMS.values():
        click.echo(f"{algorithm} of check: {hexdigest(algorithm, files['check'])}")
