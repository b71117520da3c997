"""The build tree: a bare system of the target's release, made of the lock's packages alone, without a network.

What is compiled here links the target's libraries, not the builder's. The tree's packages were checked against the
lock's digests by the cache, so a flat archive of exactly those files may be trusted as it stands; what got
installed is compared with the lock once more. Programs run in it as nobody, without network or privileges, seeing
the processes of their own alone; that keeps a builder tidy and is no prison for hostile code.

Needs root and the programs mmdebstrap and unshare.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from bundler.collect.cache import Cache, sha256_file
from bundler.collect.deb import of_use
from bundler.manifest.lock import Lock, LockedDeb
from custody._run import Completed, run
from custody.errors import EnvironmentProblem, ProgramFailed
from custody.report import Reporter

#: nobody and nogroup, on every Debian (base-passwd).
_UID = _GID = 65534
#: Where a build lies inside the tree; part of what makes it reproducible.
WORK = Path("/build")
#: 1980-01-01, the oldest time that a zip file can hold. The lock's own epoch would make every lock a new compile.
SOURCE_DATE_EPOCH = 315532800
_ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LANG": "C",
    "LC_ALL": "C",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
    "TZ": "UTC",
}


def tree_sha256(debs: Sequence[LockedDeb]) -> str:
    """SHA-256 over the sorted lines `package version architecture sha256` of the build tree's packages."""
    lines = sorted(f"{d.package} {d.version} {d.architecture} {d.sha256}\n" for d in of_use(debs, "tree"))
    return sha256("".join(lines).encode()).hexdigest()


class Tree:
    """A tree that is ready; made by `open_tree`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def work(self, name: str, key: str) -> Iterator[tuple[Path, bool]]:
        """A folder for one build, seen inside as `WORK / name`.

        It is gone when the build has ended well. One that was cut off leaves it, and a later build with the same key
        goes on in it, if it was `settle`d.

        Args:
            name: a single path component, the same for the same build.
            key: all that decides what is built, as `compile.wheel_key` has it.

        Yields:
            The folder as the builder sees it, and whether an earlier build with this key settled it.
        """
        folder = self._root / WORK.relative_to("/") / name
        mark = _mark(folder)
        settled = folder.is_dir() and mark.is_file() and mark.read_text() == key
        if not settled:
            mark.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(exist_ok=True)
            folder.parent.chmod(0o755)  # whatever the builder's umask
            folder.mkdir()
            os.chown(folder, _UID, _GID)
        yield folder, settled
        mark.unlink(missing_ok=True)
        shutil.rmtree(folder)

    def settle(self, folder: Path, key: str) -> None:
        """Note that sources and tools lie whole in a folder that `work` gave."""
        part = _mark(folder).with_suffix(".part")
        part.write_text(key)
        part.replace(_mark(folder))

    def run(
        self, argv: Sequence[str], folder: Path, env: Mapping[str, str], timeout_s: float, log: Path | None = None
    ) -> Completed:
        """Run a program inside as nobody, in a folder that `work` gave.

        Args:
            env: added to a fixed environment.
            log: as in `custody._run.run`.

        Raises:
            ProgramFailed: it ended with an error or took too long.
        """
        inside = Path("/") / folder.relative_to(self._root)
        environment = {**_ENVIRONMENT, "TMPDIR": str(inside / "tmp"), **env}
        (folder / "tmp").mkdir(exist_ok=True)
        os.chown(folder / "tmp", _UID, _GID)
        command: list[str | Path] = [
            # A builder that is killed leaves nothing behind that would write into the folder of the next.
            "setpriv", "--pdeathsig=KILL",
            "unshare", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
            f"--mount-proc={self._root}/proc",
            "chroot", self._root,
            "setpriv", f"--reuid={_UID}", f"--regid={_GID}", "--clear-groups", "--no-new-privs",
            "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=keep",
            "env", "--ignore-environment", f"--chdir={inside}",
            *(f"{name}={value}" for name, value in sorted(environment.items())),
            "sh", "-c", 'umask 022; exec "$@"', "sh", *argv,
        ]  # fmt: skip
        return run(command, timeout_s=timeout_s, log=log)


def _mark(folder: Path) -> Path:
    """Beside the folder, where what is built cannot write."""
    return folder.with_name(f"{folder.name}.settled")


def tree_folder(lock: Lock, scratch: Path) -> Path:
    """Where the lock's build tree lies, or will lie."""
    return scratch / f"tree-{lock.tree_sha256[:16]}"


def open_tree(lock: Lock, cache: Cache, scratch: Path, reporter: Reporter) -> Tree:
    """The lock's build tree: the one that lies in `scratch`, or a new one.

    Every package lies in the cache by now.

    Raises:
        EnvironmentProblem: not root, or what was installed is not what was locked.
        ProgramMissing: mmdebstrap is not installed.
    """
    if os.geteuid() != 0:
        raise EnvironmentProblem("the build tree needs root (chroot, unshare)", "run it again with sudo")
    root = tree_folder(lock, scratch)
    ready = root.with_name(root.name + ".ready")
    if ready.exists() and root.is_dir():
        return Tree(root)
    debs = of_use(lock.debs, "tree")
    reporter.step(f"build tree: {lock.target.distribution} {lock.target.release}, {len(debs)} packages")
    for old in (root, repository := root.with_name(root.name + ".repository")):
        shutil.rmtree(old, ignore_errors=True)
    try:
        _write_repository(debs, cache, repository, lock.target.release)
        _install(lock, debs, repository, root)
    finally:
        shutil.rmtree(repository, ignore_errors=True)
    _check(debs, root)
    os.sync()  # or a builder that loses its power has the mark, and empty files in the tree
    ready.touch()
    return Tree(root)


def _write_repository(debs: Sequence[LockedDeb], cache: Cache, folder: Path, release: str) -> None:
    """A flat archive: the packages, their `Packages` and a `Release` (Debian's repository format)."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    stanzas = []
    for number, deb in enumerate(debs):
        source, name = cache.path(deb.sha256), f"{number}.deb"
        try:
            os.link(source, folder / name)
        except OSError:
            shutil.copyfile(source, folder / name)
        control = run(["dpkg-deb", "--field", folder / name]).text
        stanzas.append(f"{control}\nFilename: ./{name}\nSize: {deb.size_bytes}\nSHA256: {deb.sha256}\n")
    packages = folder / "Packages"
    packages.write_text("\n".join(stanzas))
    (folder / "Release").write_text(
        f"Codename: {release}\nSuite: {release}\nArchitectures: {debs[0].architecture}\n"
        f"SHA256:\n {sha256_file(packages)} {packages.stat().st_size} Packages\n"
    )


def _install(lock: Lock, debs: Sequence[LockedDeb], repository: Path, root: Path) -> None:
    include = ",".join(f"{deb.package}={deb.version}" for deb in debs)
    log = root.with_name(root.name + ".log")
    log.unlink(missing_ok=True)
    command: list[str | Path] = [
        "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory", "--skip=check/empty",
        f"--architectures={lock.target.architecture}", f"--include={include}",
        # Every byte is one that the lock names, so there is nothing left to sign.
        '--aptopt=APT::Install-Recommends "false"', '--aptopt=APT::Sandbox::User "root"',
        "--dpkgopt=force-unsafe-io",
        lock.target.release, root, f"deb [trusted=yes] copy:{repository} ./",
    ]  # fmt: skip
    try:
        run(command, env={"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}, timeout_s=1800, log=log)
    except ProgramFailed as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ProgramFailed(f"{error.message}\n{tail}", error.hint) from error


def _check(debs: Sequence[LockedDeb], root: Path) -> None:
    form = "${db:Status-Abbrev}${Package} ${Version} ${Architecture}\\n"
    listing = run(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", f"--showformat={form}"]).text
    found = set(listing.splitlines())
    expected = {f"ii {deb.package} {deb.version} {deb.architecture}" for deb in debs}
    if found != expected:
        differing = ", ".join(sorted(found ^ expected)[:5])
        raise EnvironmentProblem(
            f"{root}: expected the lock's {len(expected)} packages, found {len(found)}; differing: {differing}",
            "lock again; if it stays, report it",
        )
