"""Run the release's playbooks with the release's Ansible, and nothing of the host's.

The environment is written from nothing: `ANSIBLE_*` of the caller, `~/.ansible`, `/etc/ansible` and user
site-packages have no effect. The whole output goes to the log; the operator sees one line a task.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.install import paths
from custody import _run
from custody.errors import InstallFailed
from custody.report import Reporter

_TIMEOUT_S = 3600
_OTHER = {"stage_a": "stage_b", "stage_b": "stage_a"}
_TASK = re.compile(r"^TASK \[(.*)\] \**$")
_RECAP = re.compile(r"^localhost\s*:.*\bchanged=(\d+).*\bunreachable=(\d+)\s+failed=(\d+)")
_RESULT = re.compile(r"^(ok|changed|fatal|skipping|failed): \[localhost\]")


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        executions: module executions, loop items counted.
        changed: tasks that changed something.
    """

    executions: int = 0
    changed: int = 0
    last_task: str = ""
    tail: list[str] = field(default_factory=list)


def run_playbook(
    release: Path, name: str, tag: str, variables: dict[str, Any], reporter: Reporter, *, check: bool = False
) -> Outcome:
    """Run one stage of a playbook of the release on this host.

    Args:
        name: file below the release's `playbooks/`.
        tag: stage.
        check: Ansible's check mode: report, change nothing.

    Raises:
        InstallFailed: a task failed; names it, its last words and the log.
    """
    home = paths.STATE / "ansible"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.LOGS.mkdir(parents=True, exist_ok=True, mode=0o750)
    extra, log = home / "vars.json", paths.LOGS / "install.log"
    playbook = release / "sealed" / "data" / "ansible" / "playbooks" / name
    argv, environment = command_line(release, playbook, extra)
    told = {**variables, "ansible_python_interpreter": str(argv[0])}
    _write(extra, json.dumps(_never_templates(told), indent=1))
    outcome = Outcome()
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640), "a") as stream:

        def on_line(line: str) -> None:
            stream.write(line + "\n")
            stream.flush()
            _follow(line, outcome, reporter)

        # Arguments are checked with their roles: Ansible tags that check `always`, which a tag to skip outweighs.
        others = ["--skip-tags", _OTHER[tag]] if tag in _OTHER else []
        options = ["--tags", tag, *others, *(["--check"] if check else [])]
        status = _run.stream([*argv, *options], env=environment, on_line=on_line, timeout_s=_TIMEOUT_S)
    if status != 0:
        raise InstallFailed(
            f"{name} ({tag}): task '{outcome.last_task}' failed\n" + "\n".join(outcome.tail[-12:]),
            f"see {log}; mend the cause and run the same command again",
        )
    return outcome


def command_line(release: Path, playbook: Path, extra_vars: Path) -> tuple[list[str | Path], dict[str, str]]:
    """The release's Ansible, a playbook and this host: the arguments, and the whole environment."""
    home = paths.STATE / "ansible"
    environment = {
        "HOME": str(home),
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "ANSIBLE_CONFIG": str(release / "sealed" / "data" / "ansible" / "playbooks" / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(home / "tmp"),
    }
    programs = release / "venv" / "bin"
    argv: list[str | Path] = [programs / "python", "-I", programs / "ansible-playbook", "--inventory", "localhost,"]
    return [*argv, "--connection", "local", "--extra-vars", f"@{extra_vars}", playbook], environment


def _never_templates(value: Any) -> Any:
    """Text marked so that Ansible takes it as it stands: extra variables are templates otherwise."""
    if isinstance(value, dict):
        return {key: _never_templates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_never_templates(item) for item in value]
    return {"__ansible_unsafe": value} if isinstance(value, str) else value


def _follow(line: str, outcome: Outcome, reporter: Reporter) -> None:
    task = _TASK.match(line)
    if task:
        outcome.last_task = task.group(1)
        outcome.tail.clear()
        reporter.note(outcome.last_task)
        return
    outcome.tail.append(line)
    if _RESULT.match(line) and not line.startswith("skipping"):
        outcome.executions += 1
    recap = _RECAP.match(line)
    if recap:
        outcome.changed = int(recap.group(1))


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
