"""Install distribution packages, exact versions, from archives on the host's own disk and from nowhere else.

apt gets a configuration of its own: it reads none of the host's sources, preferences, hooks or proxies. The
distribution's signature over each archive is mandatory; its age is not asked, because a vault has no fresh one (apt's
Check-Valid-Until and Check-Date). A clock behind the signature stops it all the same: sqv has no option for that.
Nothing that is installed is started: a `policy-rc.d` says no for the duration. What the host boots from stays as it is,
unless a package (a driver) belongs into it. Refuses downgrades and the removal of anything that was not named.
See apt.conf(5), sources.list(5) and invoke-rc.d(8).
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.before import set_aside
from custody._run import run
from custody.atomic import write_whole
from custody.errors import EnvironmentProblem, IntegrityFailure, OperatorMistake, ProgramFailed

STATE = Path("/var/lib/airgap/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# airgap: nothing is started by being installed; gone when that has ended.\nexit 101\n"
_INITRAMFS = Path("/etc/initramfs-tools/update-initramfs.conf")
INITRAMFS_TEXT = "# airgap: the boot image stays as it is while packages are installed.\nupdate_initramfs=no\n"
#: What apt holds, and what dpkg does, which outlives an apt that is killed.
_LOCKS = (Path("/var/lib/dpkg/lock-frontend"), Path("/var/lib/dpkg/lock"))
_UNATTENDED = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "UCF_FORCE_CONFFOLD": "1",
    "NEEDRESTART_SUSPEND": "1",
    # systemctl in maintainer scripts enables and starts nothing live, and does not read all units anew each time.
    "SYSTEMD_OFFLINE": "1",
}
_HOST_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))

# Debian Policy 5.6.1 and 5.6.12, with an optional architecture.
_WANTED = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?)=(?P<version>[A-Za-z0-9.+:~-]+)")
_WORD = re.compile(r"[A-Za-z0-9._/+-]+")

# What apt says, in lower case, when its files are not what the distribution signed.
_NOT_AS_SIGNED = (
    "not signed", "no longer signed", "clearsigned", "signature", "hash sum mismatch", "openpgp", "no_pubkey",
)  # fmt: skip
# What sqv says of a signature from the future; no option of apt's makes it look away.
_TOO_EARLY = "not live until"


@dataclass(frozen=True)
class Archive:
    """A tree with `dists/` and `pool/` on this host, as upstream signed it."""

    name: str
    path: Path
    suites: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What was, or would be, done."""

    installed: tuple[str, ...]
    removed: tuple[str, ...]
    sources_set_aside: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything differs from before."""
        return bool(self.installed or self.removed or self.sources_set_aside)


def install(
    wanted: Sequence[str],
    archives: Sequence[Archive],
    *,
    removable: Collection[str] = (),
    keep_boot_image: bool = True,
    keyring: Path = KEYRING,
    dry_run: bool = False,
) -> Outcome:
    """Bring packages to exact versions and take the host's own sources out of use.

    Args:
        wanted: `name=version` or `name:architecture=version`, the whole closure.
        archives: where they come from; only these.
        removable: packages that may go when a wanted one conflicts with them.
        keep_boot_image: leave the initial RAM disk alone, though a package would have it made anew.
        keyring: the distribution's keys, from the host.
        dry_run: only say what would change.

    Raises:
        OperatorMistake: a malformed entry, a newer version is there, or something else would be removed.
        IntegrityFailure: an archive's signature or a digest is not right.
        ProgramFailed: apt or dpkg failed otherwise.
    """
    if not dry_run:
        _finish_interrupted(keep_boot_image)
    missing = _missing(wanted)
    removed: tuple[str, ...] = ()
    if missing and not dry_run:
        environment = _prepare(archives, keyring)
        _apt(["update", "--error-on=any"], environment)
        removed = _plan(missing, removable, environment)
        with _held(keep_boot_image):
            _apt(["install", *missing], environment, timeout_s=3600)
        run(["systemctl", "daemon-reload"], timeout_s=120)
    return Outcome(missing, removed, _disable_sources(dry_run))


def _finish_interrupted(keep_boot_image: bool) -> None:
    """Wait for a package manager that outlived its installer, and configure what a cut-off one left unpacked."""
    with _held(keep_boot_image):  # whose end removes stand-ins that were left, too
        for lock in _LOCKS:
            with lock.open("ab") as stream:
                fcntl.lockf(stream, fcntl.LOCK_EX)
        command = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"]
        run(command, env=_UNATTENDED, timeout_s=3600, outlives=True)


def _missing(wanted: Sequence[str]) -> tuple[str, ...]:
    """Entries of `wanted` that are not installed in that version."""
    listing = run(
        ["dpkg-query", "--show", "--showformat=${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Status}\\n"]
    ).text
    present: dict[str, str] = {}
    for line in listing.splitlines():
        name, architecture, version, status = line.split("\t")
        if status == "installed":
            present[name] = present[f"{name}:{architecture}"] = version
    missing, complaints = [], []
    for entry in wanted:
        match = _WANTED.fullmatch(entry)
        if match is None:
            raise OperatorMistake(f"package {entry!r}: expected name=version", "correct base_packages")
        name, version = match["name"], match["version"]
        found = present.get(name)
        if found == version:
            continue
        missing.append(entry)
        if found and run(["dpkg", "--compare-versions", found, "gt", version], ok=(0, 1)).returncode == 0:
            complaints.append(f"package {name}: expected {version}, found the newer {found}")
    if complaints:
        raise OperatorMistake("\n".join(complaints), "lock and build again with this host's dpkg status")
    return tuple(missing)


def _prepare(archives: Sequence[Archive], keyring: Path) -> dict[str, str]:
    """Write apt's private configuration; return the environment that selects it."""
    for folder in ("etc/parts", "lists/partial", "cache/archives/partial"):
        (STATE / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for archive in archives:
        words = (str(archive.path), *archive.suites, *archive.components)
        if not all(_WORD.fullmatch(word) for word in words):
            raise OperatorMistake(f"archive {archive.name}: unusual characters in {words}", "correct base_apt_archives")
        lines += [
            "Types: deb",
            f"URIs: file:{archive.path}",
            f"Suites: {' '.join(archive.suites)}",
            f"Components: {' '.join(archive.components)}",
            f"Signed-By: {keyring}",
            "",
        ]
    (STATE / "etc/parts/airgap.sources").write_text("\n".join(lines))
    (STATE / "etc/apt.conf").write_text(_configuration())
    return {"APT_CONFIG": str(STATE / "etc/apt.conf"), **_UNATTENDED}


def _configuration() -> str:
    # APT_CONFIG is read before the host's parts and main file, and what it says about Dir decides where those are.
    settings = {
        "Dir::Etc": f"{STATE}/etc",
        "Dir::Etc::main": "none",
        "Dir::Etc::parts": "none.d",
        "Dir::Etc::sourcelist": "none",
        "Dir::Etc::sourceparts": "parts",
        "Dir::Etc::preferences": "none",
        "Dir::Etc::preferencesparts": "none.d",
        "Dir::Etc::trusted": "none",
        "Dir::Etc::trustedparts": "none.d",
        "Dir::State::lists": f"{STATE}/lists",
        "Dir::Cache": f"{STATE}/cache",
        "Acquire::Languages": "none",
        "Acquire::Check-Date": "false",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::http::Proxy": "DIRECT",
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Get::Assume-Yes": "true",
        "APT::Get::Show-Versions": "true",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "APT::AutoRemove::RecommendsImportant": "true",
        "Dpkg::Use-Pty": "false",
        "DPkg::Lock::Timeout": "300",
    }
    text = "".join(f'{key} "{value}";\n' for key, value in settings.items())
    return text + 'DPkg::Options { "--force-confdef"; "--force-confold"; };\n'


def _apt(arguments: Sequence[str], environment: dict[str, str], timeout_s: float = 600) -> str:
    (STATE / "etc/none.d").mkdir(parents=True, exist_ok=True)
    try:
        return run(["apt-get", *arguments], env=environment, timeout_s=timeout_s, outlives=True).text
    except ProgramFailed as error:
        told = error.message.lower()
        if _TOO_EARLY in told:
            raise EnvironmentProblem(
                f"{error.message}\nthe host's clock is behind the day on which the distribution signed",
                "date --set='YYYY-MM-DD HH:MM', then run the same command again",
            ) from error
        if any(word in told for word in _NOT_AS_SIGNED):
            raise IntegrityFailure(error.message, "verify the bundle again: airgap verify") from error
        raise


def _plan(missing: Sequence[str], removable: Collection[str], environment: dict[str, str]) -> tuple[str, ...]:
    """What apt would remove; refuses what nobody allowed."""
    simulation = _apt(["install", "--simulate", *missing], environment)
    removed = tuple(line.split()[1] for line in simulation.splitlines() if line.startswith("Remv "))
    refused = [name for name in removed if name.split(":")[0] not in removable]
    if refused:
        raise OperatorMistake(
            f"packages: the install would remove {', '.join(refused)}; expected none but "
            f"{', '.join(sorted(removable)) or 'none'}",
            "remove them by hand if they are not needed, then run the install again",
        )
    return removed


@contextlib.contextmanager
def standing_in(path: Path, text: str, mode: int) -> Iterator[None]:
    """Another file stands in for a host's own while this lasts; what was there, or nothing, comes back."""
    aside = path.with_name(f"{path.name}.airgap-before")
    if not aside.exists() and path.exists() and path.read_text() != text:
        path.rename(aside)  # a stand-in of ours, left by a run that was cut off, is not worth keeping
    write_whole(path, text.encode(), mode=mode)  # half of one would be taken for the host's own by the next run
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if aside.exists():
            aside.rename(path)


@contextlib.contextmanager
def _held(keep_boot_image: bool) -> Iterator[None]:
    """Nothing is started by being installed and, if wanted, the host's boot image is not made anew."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(standing_in(POLICY, _POLICY_TEXT, 0o755))
        if keep_boot_image and _INITRAMFS.parent.is_dir():
            stack.enter_context(standing_in(_INITRAMFS, INITRAMFS_TEXT, 0o644))
        yield


def _disable_sources(dry_run: bool) -> tuple[str, ...]:
    """Move the host's own sources away: nothing that they name is reachable."""
    main, parts = _HOST_SOURCES
    found = [main] if main.exists() and _names_a_source(main) else []
    if parts.is_dir():
        found += [path for path in sorted(parts.iterdir()) if path.suffix in {".list", ".sources"}]
    if not dry_run:
        for path in found:
            set_aside(path)
    return tuple(str(path) for path in found)


def _names_a_source(path: Path) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in path.read_text().splitlines())
