"""The one place that starts programs.

Argument lists only, no shell, an explicit environment, a timeout, and an exit status that is always looked at.
Secrets go in through standard input or an inherited file descriptor, never through the arguments.
A program dies with the process that started it, so that nothing of a killed run is at work when it is run again.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custody.errors import ProgramFailed, ProgramMissing

#: The only places where programs are looked for; a caller's PATH has no effect.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
#: Lines of a failed program's output that go into the error.
_TAIL_LINES = 15


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode(errors="replace").rstrip("\n")


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 600,
    ok: Iterable[int] = (0,),
    pass_fds: Sequence[int] = (),
    log: Path | None = None,
    outlives: bool = False,
) -> Completed:
    """Run a program to its end.

    Args:
        argv: program and arguments; the program is found on `PATH` unless it is a path.
        stdin: bytes fed to standard input; the place for a secret.
        env: added to the otherwise empty environment (PATH, LC_ALL=C.UTF-8, HOME=/nonexistent).
        timeout_s: seconds until the program is killed.
        ok: exit statuses that are not an error.
        pass_fds: descriptors that the program inherits.
        log: file that receives both output streams instead of the returned object.
        outlives: the program goes on though this process is killed; for what must not be cut short, as dpkg.

    Raises:
        ProgramMissing: the program is not installed.
        ProgramFailed: it ended with another status, or took too long.
    """
    arguments = tuple(str(a) for a in argv)
    environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **(env or {})}
    command = _found(arguments) if outlives else (*_DIE_WITH_US, *_found(arguments))
    try:
        if log is None:
            done = subprocess.run(
                command, input=stdin, env=environment, cwd=cwd, timeout=timeout_s,
                capture_output=True, pass_fds=pass_fds, check=False,
            )  # fmt: skip
        else:
            with log.open("ab") as stream:
                done = subprocess.run(
                    command, input=stdin, env=environment, cwd=cwd, timeout=timeout_s,
                    stdout=stream, stderr=subprocess.STDOUT, pass_fds=pass_fds, check=False,
                )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(
            f"{arguments[0]}: still running after {timeout_s:.0f} s, stopped",
            f"command: {' '.join(arguments)}",
        ) from error
    completed = Completed(arguments, done.returncode, done.stdout or b"", done.stderr or b"")
    if done.returncode not in set(ok):
        output = (completed.stderr or completed.stdout).decode(errors="replace").strip().splitlines()
        tail = "\n".join(output[-_TAIL_LINES:])
        where = f"log: {log}" if log else f"command: {' '.join(arguments)}"
        raise ProgramFailed(f"{arguments[0]}: ended with status {done.returncode}\n{tail}".rstrip(), where)
    return completed


def stream(
    argv: Sequence[str | Path], *, env: Mapping[str, str], on_line: Callable[[str], None], timeout_s: float
) -> int:
    """Run a program and hand over its output (both streams) line by line.

    Args:
        on_line: called with each line, without its newline.

    Returns:
        The exit status, whatever it is.

    Raises:
        ProgramMissing: the program is not installed.
        ProgramFailed: it took too long.
    """
    arguments = _found([str(a) for a in argv])
    process = subprocess.Popen(
        [*_DIE_WITH_US, *arguments], env={"PATH": PATH, "LC_ALL": "C.UTF-8", **env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    try:
        with process:
            for line in process.stdout or ():
                on_line(line.rstrip("\n"))
    except BaseException:
        process.kill()
        raise
    finally:
        late = not timer.is_alive()
        timer.cancel()
    if late:
        raise ProgramFailed(f"{arguments[0]}: still running after {timeout_s:.0f} s, stopped")
    return process.returncode


def _found(arguments: Sequence[str]) -> tuple[str, ...]:
    program = shutil.which(arguments[0], path=PATH)
    if program is None:
        raise ProgramMissing(f"{arguments[0]}: not installed", f"install the package that brings {arguments[0]}")
    return (program, *arguments[1:])
