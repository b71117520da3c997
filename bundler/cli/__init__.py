"""The command `airgap`: one module a command, loaded when it is called.

Results go to standard output, progress and errors to standard error. This is the only place that turns an
`AirgapError` into an exit code.
"""

from __future__ import annotations

import errno
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

import custody
from custody.errors import AirgapError, EnvironmentProblem, SpaceShort, printable

#: Where → command → module that holds a click command called `command`, and what the list of commands says of it.
#: The appliance's commands are known by name alone.
_COMMANDS = {
    "On a connected machine": {
        "lock": ("bundler.cli.lock", "resolve a manifest to exact versions and digests"),
        "build": ("bundler.cli.build", "fetch and compile what a lock names, seal a bundle"),
        "sign": ("bundler.cli.sign", "sign a bundle as one person"),
        "sign-models": ("bundler.cli.sign_models", "sign each model, for model-signing"),
        "burn": ("bundler.cli.burn", "write a bundle to an encrypted medium, read it back"),
    },
    "On the appliance": {
        "install": ("bundler.cli.install", "turn this host, or many, into an appliance"),
        "status": ("appliance.cli.status", "show the appliance on one screen"),
        "unlock": ("appliance.cli.unlock", "open the data volume, wait for the engine"),
        "user": ("appliance.cli.user", "say who may use the service, with which key"),
        "policy": ("appliance.cli.policy", "check, try out and change what users may ask"),
        "audit": ("appliance.cli.audit", "search, verify and prove what the service was asked"),
        "drive": ("appliance.cli.drive", "show drives, lock, rotate, revert, decommission"),
        "gpu": ("appliance.cli.gpu", "check the GPUs, bring them to the site's layout"),
        "inventory": ("appliance.cli.inventory", "write this host's signed description, for a lock"),
        "support": ("appliance.cli.support", "write what a helper needs, redacted and encrypted"),
    },
    "Anywhere": {
        "verify": ("bundler.cli.verify", "check a bundle's root, signatures, list and leaves"),
        "audit-kit": ("bundler.cli.audit_kit", "write a script that checks a bundle without airgap"),
        "ledger": ("bundler.cli.ledger", "show, verify and prove what happened"),
        "diode": ("appliance.cli.diode", "receive an audit log out of a data diode"),
        "timestamp": ("bundler.cli.timestamp", "carry RFC 3161 timestamps"),
        "diff": ("bundler.cli.diff", "show what differs between two bundles or locks"),
        "keys": ("bundler.cli.keys", "make signing keys"),
        "trust": ("bundler.cli.trust", "make, sign and show the root of trust"),
        "completion": ("bundler.cli.completion", "print the script that completes commands"),
    },
}
_MODULES = {name: module for commands in _COMMANDS.values() for name, (module, _) in commands.items()}


class _Lazy(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command: click.Command = importlib.import_module(_MODULES[cmd_name]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _MODULES))
        for where, commands in _COMMANDS.items():
            with formatter.section(where):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(custody.VERSION, prog_name="airgap")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Carry AI across an air gap.

    \b
    Example: airgap verify --help
    """
    ctx.obj = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see docs/reference/exit-codes.md."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        cli.main(arguments, prog_name="airgap", standalone_mode=False)
    except (AirgapError, OSError) as problem:
        if debug:
            traceback.print_exc()
        error = problem if isinstance(problem, AirgapError) else _of_the_machine(problem)
        show_error(error)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        click.echo("airgap: stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as defect:
        if debug:
            raise
        # Its text is not shown: nobody looked whether it may hold a secret.
        click.secho(f"airgap: a defect of this project: {type(defect).__name__}", fg="red", err=True)
        click.echo("  next: run the same command again with airgap --debug, and report what it says", err=True)
        sys.exit(1)


def _of_the_machine(error: OSError) -> AirgapError:
    """What the operating system refused, in our words."""
    what = f"{error.filename or 'this machine'}: {error.strerror or error}"
    again = "mend it, then run the same command again: it goes on where it stopped"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceShort(what, f"df -h; {again}")
    return EnvironmentProblem(what, again)


def show_error(error: AirgapError) -> None:
    """An error as people read it: what, then the next thing to do."""
    first, *rest = map(printable, error.message.split("\n") if error.message else [type(error).__name__])
    click.secho(f"airgap: {first}", fg="red", err=True)
    for line in rest:
        click.echo(f"  {line}", err=True)
    hint = error.hint or f"see docs/how-to/troubleshooting.md, section {error.exit_code}"
    manual = Path(sys.prefix) / "share/doc/airgap"  # comes with the release; hints call it docs/
    click.echo(f"  next: {printable(hint.replace('docs/', f'{manual}/') if manual.is_dir() else hint)}", err=True)
