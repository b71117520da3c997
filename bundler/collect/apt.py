"""An apt of our own: another release's packages, solved by apt itself and independent of the builder's state.

Everything lies below one folder: sources, lists, cache and the dpkg status to solve against. Nothing of the
builder's `/etc/apt` matters but its proxies and certificate authorities, which only say how to reach a mirror.
Signatures and dates are always checked, whatever the builder's apt is told (apt-secure(8), apt.conf(5)).

This module installs nothing and needs no privilege; where packages come from is its caller's business.
"""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from bundler.bundle.distribution import KEYRING, parse_release
from bundler.manifest.models import ArchiveName
from custody._run import run
from custody.errors import (
    AirgapError,
    DigestMismatch,
    FetchFailed,
    InputInvalid,
    IntegrityFailure,
    ProgramFailed,
    SignatureRejected,
)  # fmt: skip

#: What is taken over from the builder: how to reach a mirror, and nothing that is a matter of trust.
_TAKEN_OVER = re.compile(
    r'^(Acquire::(?:http|https)::(?:Proxy(?:::[\w.-]+)?|CAInfo(?:::[\w.-]+)?)) "([^"\n]*)";$', re.M
)
#: `'http://mirror/pool/x_1_amd64.deb' x_1_amd64.deb 4711 SHA256:...`
_URI_LINE = re.compile(
    r"^'(?P<uri>[^']+)' (?P<name>[a-z0-9.+-]+)_(?P<version>[^_ ]+)_(?P<arch>[a-z0-9-]+)\.deb (?P<size>\d+)"
)

#: What apt says (LC_ALL=C), and whose business it is.
_COMPLAINTS: tuple[tuple[str, type[AirgapError], str], ...] = (
    (
        r"GPG error|not signed|BADSIG|NO_PUBKEY|Clearsigned file|could ?n[o']t be verified|invalid signature"
        r"|Splitting up|does not have a Release",
        SignatureRejected,
        "the archive's signature does not stand: try another mirror, and keep what came for whoever asks",
    ),
    (
        r"expired|not valid yet|Valid-Until",
        IntegrityFailure,
        "check the builder's clock (timedatectl), then the age of its mirror",
    ),
    (
        r"Hash Sum mismatch|unexpected size",
        DigestMismatch,
        "a mirror in the middle of an update does this: wait, then run the same command again",
    ),
)


@dataclass(frozen=True)
class Source:
    """One suite of an archive.

    Attributes:
        archive: the name that a manifest gives it (`debian`).
        uri: address of the archive's root, without a slash at its end.
    """

    archive: ArchiveName
    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A package that apt would fetch; `path` is the end of its address, unquoted."""

    package: str
    version: str
    architecture: str
    path: str
    size_bytes: int


class Apt:
    """An isolated apt.

    Args:
        folder: its own, absolute and empty at first; may be thrown away afterwards.
        architecture: of the target (`amd64`).
        keyring: the keys that may sign the archives.
    """

    def __init__(self, folder: Path, architecture: str, sources: Sequence[Source], keyring: Path = KEYRING) -> None:
        self.folder, self.sources, self._architecture = folder, tuple(sources), architecture
        for name in ("etc", "none", "state/lists/partial", "cache/archives/partial", "log", "indexes"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        lines = [
            f"deb [arch={architecture} signed-by={keyring}] {s.uri} {s.suite} {' '.join(s.components)}\n"
            for s in sources
        ]
        (folder / "etc/sources.list").write_text("".join(lines))
        self._environment = {"APT_CONFIG": str(folder / "etc/apt.conf"), "LC_ALL": "C"}
        (folder / "etc/apt.conf").write_text(self._settings())

    def _settings(self) -> str:
        settings = {
            "Dir": f"{self.folder}/",
            "Dir::State": "state/",
            "Dir::State::Lists": "lists/",
            "Dir::State::status": f"{self.folder}/none/status",
            "Dir::Cache": "cache/",
            "Dir::Log": "log/",
            "Dir::Etc": "etc/",
            "Dir::Etc::SourceList": "sources.list",
            "APT::Architecture": self._architecture,
            "APT::Update::Error-Mode": "any",
            "Acquire::Check-Date": "true",
            "Acquire::Check-Valid-Until": "true",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::AllowWeakRepositories": "false",
            "Acquire::AllowDowngradeToInsecureRepositories": "false",
            "Acquire::PDiffs": "false",
            # The index stays as it came, so that its digest is the one that InRelease names.
            "Acquire::GzipIndexes": "true",
            "Acquire::IndexTargets::deb::Packages::KeepCompressedAs": "xz",
            "Acquire::Retries": "3",
        }
        # Read before all others (apt.conf(5)), so it decides that there are no others.
        for name in ("Main", "Parts", "SourceParts", "Trusted", "TrustedParts", "Preferences", "PreferencesParts"):
            settings[f"Dir::Etc::{name}"] = f"{self.folder}/none/{name}"
            if name.endswith("Parts"):
                (self.folder / "none" / name).mkdir(exist_ok=True)
        (self.folder / "none/status").touch()
        lines = [f'{key} "{value}";' for key, value in (settings | builder_proxies()).items()]
        lines += [
            f'#clear APT::Architectures;\nAPT::Architectures {{ "{self._architecture}"; }};',
            '#clear Acquire::Languages;\nAcquire::Languages { "none"; };',
            '#clear Acquire::CompressionTypes::Order;\nAcquire::CompressionTypes::Order { "xz"; };',
        ]
        return "\n".join(lines) + "\n"

    def update(self) -> None:
        """Fetch and verify every suite's `InRelease` and the indexes that it covers.

        Raises:
            SignatureRejected: a signature is missing, false, or not from the keyring.
            DigestMismatch: an index is not the one that was signed.
            IntegrityFailure: what was signed is out of its dates.
            FetchFailed: a mirror is not reachable, or lacks the suite.
        """
        try:
            run(["apt-get", "update", "-q"], env=self._environment, timeout_s=1800)
        except ProgramFailed as error:
            complaints = [line for line in error.message.splitlines() if line[:2] in ("E:", "W:")]
            text = "\n".join(complaints) or error.message
            for pattern, kind, hint in _COMPLAINTS:
                if re.search(pattern, text):
                    raise kind(f"apt refuses an archive:\n{text}", hint) from error
            raise FetchFailed(
                f"apt cannot fetch an archive:\n{text}", "check the builder's mirror, then run it again"
            ) from error
        for packed in (self.folder / "state/lists").glob("*_Packages.xz"):
            kept = packed.rename(self.folder / "indexes" / packed.name)
            # Solving reads the index in leaps, which takes minutes through xz.
            with lzma.open(kept) as reader, packed.with_suffix("").open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)

    def lists(self) -> Iterable[tuple[Source, str, Path, Path]]:
        """After `update`: each source with a component, its `InRelease` and its `Packages.xz`, in order.

        A component that its `InRelease` calls empty is left out, as apt does.
        """
        form = "$(RELEASE)\t$(COMPONENT)\t$(REPO_URI)\t$(FILENAME)"
        command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
        rows = [row.split("\t") for row in run(command, env=self._environment).text.splitlines()]
        for source in self.sources:
            here = {
                component: Path(file)
                for suite, component, uri, file in rows
                if (suite, uri.rstrip("/")) == (source.suite, source.uri)
            }
            for component in source.components:
                packages = self.folder / "indexes" / (here.get(component, Path("none")).name + ".xz")
                releases = [self._release(listed, name) for name, listed in here.items()]
                if component not in here and releases and self._is_empty(releases[0], component):
                    continue
                if component not in here or not packages.is_file() or not releases[0].is_file():
                    raise FetchFailed(
                        f"{source.archive} {source.suite} {component}: expected InRelease and Packages.xz for "
                        f"{self._architecture}, found neither or one",
                        "check suites and components in the manifest, and that the mirror is a whole one",
                    )
                yield source, component, releases[0], packages

    def _release(self, listed: Path, component: str) -> Path:
        """The `InRelease` beside a suite's list."""
        tail = f"_{component.replace('/', '_')}_binary-{self._architecture}_Packages"
        return listed.with_name(listed.name.removesuffix(tail) + "_InRelease")

    def _is_empty(self, release: Path, component: str) -> bool:
        signed = parse_release(release.read_bytes(), release.name)
        return signed.digests.get(f"{component}/binary-{self._architecture}/Packages", ("", 1))[1] == 0

    def closure(self, packages: Sequence[str], status: bytes) -> list[Choice]:
        """What apt would fetch to install `packages` onto a host, by name; recommended packages are left out.

        Args:
            status: the host's dpkg status file; empty for a bare tree.

        Raises:
            InputInvalid: a package is unknown or cannot be installed there.
        """
        (self.folder / "none/status").write_bytes(status)
        command = ["apt-get", "install", "--yes", "--no-install-recommends"]
        done = run([*command, "--print-uris", "-qq", *packages], env=self._environment, ok=(0, 100))
        if done.returncode:
            # Only the plain form says which dependency is not met, and on standard output.
            told = run([*command, "--simulate", *packages], env=self._environment, ok=(0, 100))
            text = told.text.partition("unmet dependencies:\n")[2]
            raise InputInvalid(
                f"apt cannot solve {len(packages)} packages for the target:\n{text}\n"
                f"{done.stderr.decode(errors='replace').strip()}",
                "check apt.packages and target.dpkg_status in the manifest",
            )
        lines = done.text.splitlines()
        return sorted((_choice(line) for line in lines if line.strip()), key=lambda c: (c.package, c.architecture))


def builder_proxies() -> dict[str, str]:
    """The builder's own proxies and certificate authorities for reaching a mirror."""
    return dict(_TAKEN_OVER.findall(run(["apt-config", "dump"], env={"LC_ALL": "C"}).text))


def _choice(line: str) -> Choice:
    match = _URI_LINE.match(line)
    if match is None:
        raise FetchFailed(f"apt's answer: expected an address, name and size, found {line!r}", "report this")
    path = unquote(match["uri"])
    return Choice(match["name"], unquote(match["version"]), match["arch"], path, int(match["size"]))
