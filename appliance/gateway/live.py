"""The policies that are in force: one folder a version, and the link `current` to one of them.

A change is one rename of the link, after the new version lies there whole. Earlier versions stay, so that going back is
the same step: `airgap policy apply /etc/airgap/policies/VERSION`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from appliance.gateway.approval import STATE, host_trust, read_demand, require_approval
from appliance.gateway.cases import require_own_cases
from appliance.gateway.folder import VERSION, Content, read_folder
from appliance.gateway.policy import Policies
from appliance.gateway.session import session
from custody.atomic import sync_folder
from custody.errors import EnvironmentProblem, PolicyRefused
from custody.ledger import record
from custody.ledger.event import Event
from custody.lock import alone

FOLDER = Path("/etc/airgap/policies")
CURRENT = "current"
_KIND = "policy changed"


@dataclass(frozen=True)
class Applied:
    """A step, done or to be done.

    Attributes:
        before: the version that was in force; empty: none.
        persons: who approved.
        cases: how many of its own cases the folder passed.
        is_mended: the version was in force, but somebody changed its files; they are written anew.
    """

    before: str
    after: str
    persons: tuple[str, ...]
    cases: int
    is_mended: bool


def current_version(live: Path) -> str:
    """The version in force, by the link's word; empty: none."""
    try:
        found = str((live / CURRENT).readlink())
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise EnvironmentProblem(f"{live / CURRENT}: expected a link: {error.strerror}", f"ls -l {live}") from error
    if not VERSION.fullmatch(found):
        raise EnvironmentProblem(f"{live / CURRENT}: expected a link to a version, found {found}", f"ls -l {live}")
    return found


def apply(
    folder: Path, live: Path = FOLDER, *, approval: Path | None = None, state: Path = STATE, dry_run: bool = False
) -> Applied:
    """Put a folder's policies in force.

    What is checked are the bytes that are then written; the folder is read once.

    Raises:
        PolicyRefused: the folder does not load, or fails its own cases; the old policies stay.
        SignatureRejected: the site wants persons to agree, and they did not.
        LedgerUnwritable: the ledger does not take it; nothing was changed, unless the message says so.
    """
    content = read_folder(folder)
    cases = require_own_cases(Policies(content), content)
    if not live.is_dir():
        raise EnvironmentProblem(f"{live}: expected a folder, found none", "airgap install makes it")
    if dry_run:
        return _judge(content, live, approval, state, cases)
    with alone(live / "lock", "another change of policies"):
        # A change that an earlier run made and could not record.
        record.settle(_KIND, f"sha256:{current_version(live)}")
        step = _judge(content, live, approval, state, cases)
        if step.before != step.after or step.is_mended:
            record.ready()
            details: dict[str, str | int] = {"before": step.before or "none", **session()}
            if step.persons:
                details["approved_by"] = ",".join(step.persons)
            event = Event(_KIND, str(live), f"sha256:{step.after}", details)
            record.promise(event)
            _write(content, live)
            _switch(content.version, live)
            record.record(event)
    return step


def _judge(content: Content, live: Path, approval: Path | None, state: Path, cases: int) -> Applied:
    before, demand = current_version(live), read_demand(live)
    persons: tuple[str, ...] = ()
    if demand is not None and before != content.version:
        persons = require_approval(demand, host_trust(state), approval, content.version, before)
    is_mended = before == content.version and not _is_whole(content, live)
    return Applied(before, content.version, persons, cases, is_mended)


def _is_whole(content: Content, live: Path) -> bool:
    """Whether a version lies there with the bytes that it stands for."""
    try:
        return read_folder(live / content.version).version == content.version
    except PolicyRefused:
        return False


def _write(content: Content, live: Path) -> None:
    """Bring a version's folder to the disk, whole."""
    if _is_whole(content, live):
        return
    target, part = live / content.version, live / ".part"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    part.chmod(0o755)
    for name, data in content.files.items():
        with (part / name).open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
    sync_folder(part)
    if target.exists():  # somebody changed it since
        shutil.rmtree(target)
    part.rename(target)
    sync_folder(live)


def _switch(version: str, live: Path) -> None:
    link = live / ".current.part"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(live / CURRENT)
    sync_folder(live)
