"""The system: the right distribution and kernel, systemd, packages that are not too new, a clock that can be right."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bundler.install.preflight.finding import Case, Finding, day, read
from custody._run import run

#: A bundle may be older than this and good; a clock that is far ahead looks the same, so it is only said.
_OLD_S = 366 * 86400


def check_target(case: Case) -> Iterator[Finding]:
    """Distribution, release, architecture and kernel series are the bundle's."""
    target = case.statement.predicate.target
    release = dict(line.split("=", 1) for line in read(case.at("/etc/os-release")).splitlines() if "=" in line)
    pairs = (
        ("distribution", target.distribution, release.get("ID", "").strip('"')),
        ("release", target.release, release.get("VERSION_CODENAME", "").strip('"')),
        ("architecture", target.architecture, run(["dpkg", "--print-architecture"]).text),
        ("kernel", target.kernel, ".".join(running_kernel(case).split(".")[:2])),
    )
    for what, expected, found in pairs:
        if expected != found:
            yield Finding(
                what, expected, found or "nothing", "build a bundle for this host, or install the right system"
            )


def check_init(case: Case) -> Iterator[Finding]:
    """systemd is process 1."""
    init = read(case.at("/proc/1/comm"))
    if init != "systemd":
        yield Finding("process 1", "systemd", init or "nothing", "boot the host with systemd-sysv installed")


def check_packages(case: Case) -> Iterator[Finding]:
    """No package of the host is newer than the bundle's."""
    there = host_packages(case)
    for deb in case.lock.debs:
        found = there.get(deb.package)
        if not {"appliance", "bootstrap"} & set(deb.uses) or found in (None, deb.version):
            continue
        if run(["dpkg", "--compare-versions", str(found), "gt", deb.version], ok=(0, 1)).returncode == 0:
            yield Finding(
                f"package {deb.package}",
                f"{deb.version} or older",
                str(found),
                "lock again with this host's dpkg status",
            )


def check_clock(case: Case) -> Iterator[Finding]:
    """The clock is not before what was signed; far behind the bundle is a warning, for an old bundle is no error."""
    own, now = case.statement.predicate.bundle.source_date_epoch, time.time()
    floor = max(own, case.floor_s)
    # It refuses while a time service runs; on an appliance the role base switches that on again.
    remedy = "set the clock: timedatectl set-ntp false; timedatectl set-time 'YYYY-MM-DD hh:mm:ss'"
    if now < floor:
        whose = "the bundle's own time" if floor == own else "the time of a release that ran here"
        yield Finding("clock", f"later than {day(floor)}, {whose}", day(now), remedy)
    elif now > own + _OLD_S:
        expected = f"within a year of the bundle's own time, {day(own)}"
        yield Finding("clock", expected, day(now), f"an old bundle, or a clock ahead; if the latter, {remedy}", False)


def running_kernel(case: Case) -> str:
    """What `uname -r` prints."""
    return read(case.at("/proc/sys/kernel/osrelease"))


def host_packages(case: Case) -> dict[str, str]:
    """Versions of the packages that are installed on the host, by name."""
    listing = run(
        ["dpkg-query", "--admindir", case.at("/var/lib/dpkg"), "-W", "-f",
         "${Package} ${Version} ${db:Status-Status}\n"], ok=(0, 1),
    ).text  # fmt: skip
    rows = (line.split(" ") for line in listing.splitlines())
    return {name: version for name, version, state in rows if state == "installed"}
