"""`airgap completion`."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that makes SHELL complete airgap's commands and options.

    \b
    Example: airgap completion bash > /etc/bash_completion.d/airgap
    """
    from bundler.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    # Not the class's own `source`: bash's starts bash to see its version.
    click.echo(ShellComplete.source(kind(cli, {}, "airgap", "_AIRGAP_COMPLETE")))
