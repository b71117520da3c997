"""The order of an installation: verify, check, stage A, models, cut over, stage B, health, remember."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bundler.bundle.read import MODELS, SplitSource, read_lock
from bundler.install import paths, stage, state
from bundler.install.admit import Terms, admit
from bundler.install.ansible import Outcome, run_playbook
from bundler.install.health import require_healthy
from bundler.install.plan import role_variables
from bundler.install.preflight import Case, Finding, preflight, require
from bundler.install.site import Site
from bundler.manifest.lock import Lock
from custody.atomic import write_whole
from custody.errors import AirgapError, InstallFailed
from custody.ledger.event import Event
from custody.ledger.record import record
from custody.report import Reporter
from custody.trust.verify import VerifiedBundle, check_contents


@dataclass(frozen=True)
class Prepared:
    """A release that was verified, and what preflight found on this host.

    Attributes:
        used_order: digest of the order that let the host go back.
    """

    bundle: VerifiedBundle
    lock: Lock
    site: Site
    release: Path
    findings: tuple[Finding, ...]
    used_order: str | None


@dataclass(frozen=True)
class Installed:
    """What an installation took and did."""

    bundle: str
    seconds: dict[str, float]
    executions: int
    changed: int


def prepare(release: Path, models: Path, site: Site, terms: Terms, reporter: Reporter, *, dry_run: bool) -> Prepared:
    """Verify the release and check the host; remembers roots and revocations that verified, and changes nothing else.

    Args:
        release: root-owned folder with `sealed/` (without models) and `carrier/`.
        models: where the models are to be read: on the medium, or where they were installed.
        dry_run: remember nothing.

    Raises:
        IntegrityFailure: something is not as signed, or older than what was accepted.
    """
    reporter.step("verify")
    admitted = admit(SplitSource(release, models), terms, remember=not dry_run)
    bundle = admitted.bundle
    check_contents(bundle, (e for e in bundle.entries() if not e.path.startswith(MODELS)), reporter)
    lock = read_lock(bundle)
    reporter.step("preflight")
    findings = preflight(Case(bundle.statement, lock, site, release, floor_s=state.load_state().time_floor_s))
    return Prepared(bundle, lock, site, release, tuple(findings), admitted.used_order)


def install(prepared: Prepared, reporter: Reporter) -> Installed:
    """Turn this host into an appliance; the same again changes nothing.

    Raises:
        PreflightFailed: all findings in one list.
        InstallFailed: a role failed, or the service does not answer; an earlier release is switched back to.
    """
    release, site = prepared.release, prepared.site
    require(prepared.findings)
    for warning in prepared.findings:
        reporter.note(f"warning: {warning.what}: expected {warning.expected}, found {warning.found}; {warning.remedy}")
    watch = _Watch()
    variables = role_variables(prepared.lock, site, release)
    reporter.step("engine's Python")
    stage.make_environment(release, "engine")
    watch.lap("engine venv")
    reporter.step("stage A: packages, storage")
    first = run_playbook(release, "install.yml", "stage_a", variables, reporter)
    watch.lap("stage A")
    reporter.step("models")
    if not os.path.ismount(paths.DATA):
        raise InstallFailed(f"{paths.DATA}: expected the mounted data volume, found a plain folder", "airgap unlock")
    stage.copy_models(prepared.bundle, paths.MODELS / release.name, reporter)
    watch.lap("models")
    healthy = state.load_state().release
    previous = _way_back(release, healthy, state.switch_release(release))
    try:
        reporter.step("stage B: firewall, network, service")
        second = run_playbook(release, "install.yml", "stage_b", variables, reporter)
        watch.lap("stage B")
        reporter.step("health")
        require_healthy(site)
        watch.lap("health")
    except BaseException:
        if previous is not None:
            state.switch_release(previous)
            _tell_rolled_back(release, previous, reporter)
        raise
    offer = prepared.bundle.offer
    state.change(lambda known: known.with_release(offer, release.name, prepared.used_order))
    total = Outcome(first.executions + second.executions, first.changed + second.changed)
    return Installed(offer.identity.id, watch.seconds, total.executions, total.changed)


def keep_site_file(file: Path) -> bool:
    """Keep the site file that was installed, for the next run and for auditors; says whether another one was there."""
    data, target = file.read_bytes(), paths.SITE
    is_new = not target.exists() or target.read_bytes() != data
    target.parent.mkdir(exist_ok=True, mode=0o755)
    write_whole(target, data, mode=0o600)
    return is_new


def _way_back(release: Path, healthy: str | None, before: Path | None) -> Path | None:
    """The release that was healthy last, unless it is this one: a run that was killed may have switched to it already.

    Args:
        healthy: its name, by what the host remembers.
        before: what was current; counts on a host that remembers none.
    """
    folder = before if healthy is None else paths.RELEASES / healthy
    if folder is None or folder == release or not (folder / "venv/complete").exists():
        return None
    return folder


def _tell_rolled_back(release: Path, previous: Path, reporter: Reporter) -> None:
    """Into the ledger; what went wrong before stays the error that is told."""
    try:
        record(Event("rolled back", previous.name, details={"from": release.name}))
    except AirgapError as error:
        reporter.note(f"the ledger does not know: {error.message}")


class _Watch:
    """Seconds a stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last_s = time.monotonic()

    def lap(self, name: str) -> None:
        now_s = time.monotonic()
        self.seconds[name] = now_s - self._last_s
        self._last_s = now_s
