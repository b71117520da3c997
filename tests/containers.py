"""System containers: the bare appliance with real systemd, started in seconds, for what needs no kernel of its own.

systemd-nspawn over an overlay: the tree below is shared and never written, what a container writes is thrown away, or
kept as a layer that others stand on. A container has no card but the loopback, unless it is given a link to the
builder; it never has a route. Its clock and its swap are the builder's: it is to set neither (`chronyd -x`, an empty
/proc/swaps). Needs root, systemd-nspawn and the kernel's overlay; no KVM and no module.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import testinfra.host  # type: ignore[import-untyped]

from tests.vm.images import CACHE, image, making
from tests.vm.ssh import CommandFailed, Result, put_command
from tests.vm.testinfra_backend import HarnessBackend
from tests.vm.trees import copy_in, run, unpack

#: Trees and layers by name and digest, and the running containers; on one file system.
LAYERS = CACHE.parent / "containers"
RUN = LAYERS / "run"

_BOOT_S = 120.0
_STOP_S = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CGROUPS = next(p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (p / "cgroup.procs").exists())
# In namespaces of its own the overlay goes when the last process does; the cgroup keeps containers apart.
_START = (
    'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" && '
    'mkdir -p "$3" && echo $$ >"$3/cgroup.procs" && shift 3 && exec "$@"'
)

#: Folders that lie one upon the other, uppermost first.
Tree = tuple[Path, ...]


def bare() -> Tree:
    """The tree of the bare appliance that the virtual machines boot, unpacked once."""
    source = image("appliance")
    folder = LAYERS / source.folder.name
    with making(LAYERS, folder.name):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            unpack(source.tree, partial)
            copy_in(partial, "/etc/fstab", b"")
            # The clock is the builder's: whatever keeps time here only looks at it.
            copy_in(partial, "/etc/default/chrony", b'DAEMON_OPTS="-x -F 1"\n')
            partial.rename(folder)
    return (folder,)


def layer(name: str, key: str, below: Tree, make: Callable[[Container], None], binds: Mapping[str, Path]) -> Tree:
    """A tree and what `make` did in a container on it; made once for a key; older ones of that name go, all but one."""
    digest = hashlib.sha256("\0".join([key, *map(str, below)]).encode()).hexdigest()[:16]
    folder = LAYERS / f"{name}-{digest}"
    with making(LAYERS, name):
        if not folder.exists():
            # The newest may be in use by a run beside this one.
            for old in sorted(LAYERS.glob(f"{name}-*"), key=lambda old: old.stat().st_ctime)[:-1]:
                shutil.rmtree(old)
            with Container(f"{name}-layer", below, binds) as container:
                make(container)
                container.halt()
                (container.folder / "upper").rename(folder)
    return (folder, *below)


class Container:
    """A container; as a context it starts, and is gone with all that it wrote at the end.

    Attributes:
        folder: what it consists of, below `RUN`.
        address: how the builder reaches it, if it has a link.
    """

    def __init__(
        self, name: str, tree: Tree, binds: Mapping[str, Path] | None = None, *, link: str | None = None
    ) -> None:
        """Describe a container; nothing is started.

        Args:
            name: at most 11 letters where there is a link.
            tree: what it stands on.
            binds: folders of the builder, by their path inside; read-only.
            link: network of at least two addresses, as `10.99.1.0/30`: the builder gets the first, the container the
                second, on `host0`; sshd answers there with the image's host key, to `tests.vm.images.client_key`.
        """
        self.name = name
        self.folder = RUN / name
        self._tree = tree
        self._binds = dict(binds or {})
        self._network = link
        self._link = ipaddress.ip_network(link) if link else None
        self.address = str(self._link[2]) if self._link else None

    @property
    def leader(self) -> int:
        """Process id of the container's systemd, as the builder sees it.

        Raises:
            LookupError: it does not run.
        """
        for file in self._cgroup.rglob("cgroup.procs"):
            for pid in file.read_text().split():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    if "\nNSpid:" in status and status.split("\nNSpid:")[1].splitlines()[0].split()[1:] == ["1"]:
                        return int(pid)
        raise LookupError(f"container {self.name} does not run; it said:\n{self._said()}")

    def start(self) -> None:
        """Start afresh and wait until systemd has settled; what is left of an earlier one of this name goes first."""
        self.stop()
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "described").write_text(
            json.dumps([list(map(str, self._tree)), {k: str(v) for k, v in self._binds.items()}, self._network])
        )
        self._boot()

    @classmethod
    def running(cls, name: str) -> Self:
        """The container of this name that another process has started."""
        tree, binds, link = json.loads((RUN / name / "described").read_text())
        return cls(name, tuple(map(Path, tree)), {k: Path(v) for k, v in binds.items()}, link=link)

    def reboot(self) -> None:
        """Restart as a host does: what was written stays, what lies in /run does not."""
        self.halt()
        self._boot()

    def halt(self) -> None:
        """Shut down in good order; what was written stays until `stop`."""
        os.kill(self.leader, signal.SIGRTMIN + 4)  # systemd(1): power off
        self._wait_until(self._has_ended, _STOP_S)

    def stop(self) -> None:
        """End every process at once and forget what was written."""
        if self._cgroup.exists():
            (self._cgroup / "cgroup.kill").write_text("1")
            self._wait_until(self._has_ended, _STOP_S)
            for folder in sorted(self._cgroup.rglob("*/"), reverse=True):
                folder.rmdir()
            self._cgroup.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, command: str, stdin: bytes | Path | None = None, timeout_s: float = 600.0, check: bool = True
    ) -> Result:
        """Run a shell command line inside as root; as `tests.vm.guest.Guest.run`.

        Raises:
            CommandFailed: With `check`, when it ends otherwise than with 0.
        """
        data = stdin.read_bytes() if isinstance(stdin, Path) else stdin or b""
        done = subprocess.run(self.enter("sh", "-c", command), input=data, capture_output=True, timeout=timeout_s)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and result.rc != 0:
            raise CommandFailed(command, result)
        return result

    def enter(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The arguments that run a command inside, as root, with this environment and a PATH."""
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")
        variables = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **(env or {})}
        assignments = [f"{name}={value}" for name, value in variables.items()]
        return ["nsenter", f"--target={self.leader}", *spaces, "--", "env", "-i", *assignments, *command]

    def put(self, source: bytes | Path, path: str, mode: int = 0o644) -> None:
        """Write bytes or a file of the builder to a file inside."""
        self.run(put_command(path, mode), stdin=source)

    def testinfra_host(self) -> testinfra.host.Host:
        """Return testinfra's view of the inside."""
        return testinfra.host.Host(HarnessBackend(self, self.name))

    def __enter__(self) -> Self:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def _cgroup(self) -> Path:
        return _CGROUPS / f"airgap-{self.name}"

    @property
    def _card(self) -> str:
        return f"air-{self.name}"

    def _boot(self) -> None:
        network = [f"--network-veth-extra={self._card}:host0"] if self._link else []
        command = [
            "systemd-nspawn", "--quiet", "--boot", f"--directory={self.folder}/root", f"--machine={self.name}",
            "--register=no", "--keep-unit", "--settings=no", "--link-journal=no", "--resolv-conf=off",
            "--timezone=off", "--console=read-only", "--private-network", "--capability=CAP_SYS_TIME", *network,
            *(f"--bind-ro={source}:{inside}" for inside, source in self._binds.items()),
        ]  # fmt: skip
        lower = ":".join(map(str, self._tree))
        inner = [_START, "sh", lower, str(self.folder), str(self._cgroup), *command]
        with (self.folder / "console").open("wb") as console:
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", *inner],
                env={"PATH": _PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._wait_until(self._has_settled, _BOOT_S)
        self.run("mount --bind /dev/null /proc/swaps")
        if self._link:
            self._connect(self._link)

    def _said(self) -> str:
        console = self.folder / "console"
        return console.read_text(errors="replace")[-3000:] if console.exists() else "nothing"

    def _has_settled(self) -> bool:
        with contextlib.suppress(LookupError):
            return self.run("systemctl is-system-running", check=False).text in {"running", "degraded"}
        return False

    def _has_ended(self) -> bool:
        return "populated 0" in (self._cgroup / "cgroup.events").read_text()

    def _wait_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"container {self.name}: {done.__name__} not after {timeout_s:.0f} s:\n{self._said()}"
                )
            time.sleep(0.1)

    def _connect(self, link: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        """Give both ends their addresses; no route leads anywhere else."""
        run("ip", "address", "add", f"{link[1]}/{link.prefixlen}", "dev", self._card)
        run("ip", "link", "set", self._card, "up")
        self.run(f"ip address add {link[2]}/{link.prefixlen} dev host0 && ip link set host0 up")
