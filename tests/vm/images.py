"""Build the guests' disks: mmdebstrap for the tree, mke2fs for the disk, no loop device and no mount of either.

Everything lies in the cache, below vm/, one folder an image, named by the digest of its recipe. A tree is a tar file;
`derive` unpacks it, adds files and commands of a test, and makes another disk of it. The mirror is the builder's own
(`bundler.collect.mirror`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.collect.mirror import builder_mirrors
from custody.lock import alone

from .hosts import load_hosts
from .recipes import KEYRING, RELEASE, SUITES, Recipe, recipe
from .trees import chroot, copy_in, digest_source, make_disk, pack, run, unpacked

CACHE = Path(os.environ.get("AIRGAP_CACHE") or Path.home() / ".cache" / "airgap") / "vm"

_HOST_KEY = "etc/ssh/ssh_host_ed25519_key.pub"
_KEPT = 2  # derived images of one name that stay: a running guest may still lie on the one before


@dataclass(frozen=True)
class Image:
    """A bootable guest: a folder of the cache with one file for each property."""

    name: str
    folder: Path

    @property
    def tree(self) -> Path:
        """Tar file of the root file system."""
        return self.folder / "root.tar"

    @property
    def disk(self) -> Path:
        """Raw ext4 file system; machines write to an overlay of it."""
        return self.folder / "root.raw"

    @property
    def kernel(self) -> Path:
        """Kernel for a direct start."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Initial RAM disk that belongs to the kernel."""
        return self.folder / "initrd.img"

    @property
    def status(self) -> Path:
        """The image's own dpkg status file: what a fresh host has installed."""
        return self.folder / f"{self.name}.status"

    @property
    def host_key(self) -> str:
        """Public ssh host key, `ssh-ed25519 AAAA…`, to be pinned by the client."""
        return " ".join((self.folder / "ssh_host_key.pub").read_text().split()[:2])

    @property
    def root_uuid(self) -> str:
        """UUID of the root file system, from the folder's name."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.folder.name))


@contextlib.contextmanager
def making(cache: Path, name: str) -> Iterator[None]:
    """Make a thing of a cache alone: of two test runs, the second waits."""
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f".{name}.lock", "another test run", waiting=print):
        yield


def client_key() -> Path:
    """Return the harness's private ssh key (ed25519), made once for a cache folder."""
    key = CACHE / "ssh" / "id_ed25519"
    with making(CACHE, "ssh"):
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "airgap-vm", "-f", str(key))
    return key


def image(name: str) -> Image:
    """Return the image of a host of hosts.yml; build it, about a minute and a half, when the cache has none."""
    wanted = recipe(load_hosts()[name])
    result = Image(name, CACHE / f"{name}-{wanted.digest()}")
    with making(CACHE, name):
        if not result.disk.exists():
            _build(result, wanted)
    return result


def appliance_status() -> Path:
    """Return the dpkg status file of the fresh appliance, as `airgap lock` wants it."""
    return image("appliance").status


def derive(
    base: Image,
    name: str,
    *,
    files: Mapping[str, bytes | Path] | None = None,
    commands: Sequence[str] = (),
    prepare: Callable[[Path], None] | None = None,
    key: str = "",
) -> Image:
    """Return an image that is another one plus what a test needs in it; cached by digest.

    Args:
        base: What to start from.
        name: Of the new image; older ones of that name are dropped, the last two stay.
        files: By absolute path in the guest: bytes, a file, or a folder (copied whole; modes and links kept).
        commands: Shell command lines, run in order by `sh -e` inside the tree as root, without a network.
        prepare: Called with the unpacked tree, after files and commands, for what neither can say.
        key: Distinguishes what `prepare` does, as the cache cannot look into it.

    Returns:
        The derived image; it shares the base's ssh host key.
    """
    digest = hashlib.sha256(f"{base.folder.name}\0{name}\0{key}\0{list(commands)}".encode())
    for target, source in sorted((files or {}).items()):
        digest.update(f"\0{target}\0".encode())
        digest_source(digest.update, source)
    result = Image(name, CACHE / f"{name}-{digest.hexdigest()[:16]}")
    with making(CACHE, name):
        if result.disk.exists():
            return result
        root_gib = base.disk.stat().st_size >> 30
        with unpacked(base.tree) as tree:
            for target, source in (files or {}).items():
                copy_in(tree, target, source)
            for command in commands:
                chroot(tree, command)
            if prepare is not None:
                prepare(tree)
            _finish(result, tree, root_gib)
        _prune(name)
    return result


def _build(result: Image, wanted: Recipe) -> None:
    """Make a base image: the bare tree, then its settings, then tar file and disk."""
    result.folder.mkdir(parents=True, exist_ok=True)
    mirrors = builder_mirrors()
    sources = "".join(
        f"deb [signed-by={KEYRING}] {mirrors[name]} {suite} main\n"
        for name, suites in SUITES.items()
        for suite in suites
    )
    bare = result.folder / "bare.tar"
    include = f"--include={','.join(wanted.packages)}"
    options = ("--quiet", "--mode=root", "--variant=minbase", "--format=tar", include)
    run("mmdebstrap", *options, RELEASE, str(bare), "-", stdin=sources)
    with unpacked(bare) as tree:
        for path, text in wanted.files.items():
            copy_in(tree, path, text.encode())
        # Fixed, so that a start is never a "first boot" with its questions.
        machine_id = uuid.uuid5(uuid.NAMESPACE_DNS, result.folder.name).hex
        copy_in(tree, "/etc/machine-id", f"{machine_id}\n".encode())
        copy_in(tree, "/root/.ssh/authorized_keys", client_key().with_suffix(".pub").read_bytes())
        (tree / "root/.ssh").chmod(0o700)
        for command in wanted.commands:
            chroot(tree, command)
        pack(tree, result.tree)
        _finish(result, tree, wanted.root_gib)
    bare.unlink()


def _finish(result: Image, tree: Path, root_gib: int) -> None:
    """Take out of a tree what a start needs and make the disk of it; the disk comes last and marks completion."""
    result.folder.mkdir(parents=True, exist_ok=True)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(tree / "boot" / (tree / name).readlink().name, result.folder / name)
    shutil.copyfile(tree / _HOST_KEY, result.folder / "ssh_host_key.pub")
    shutil.copyfile(tree / "var/lib/dpkg/status", result.status)
    copy_in(tree, "/etc/fstab", f"UUID={result.root_uuid} / ext4 defaults 0 1\n".encode())
    make_disk(tree, result.disk, root_gib, result.root_uuid)


def _prune(name: str) -> None:
    """Drop all but the newest derived images of a name."""
    folders = sorted(CACHE.glob(f"{name}-{'[0-9a-f]' * 16}"), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-_KEPT]:
        shutil.rmtree(folder)
