"""`python -m tests.bench.engines [SECONDS] [FOLDER]`: how much the engine says, beside others of the same llama.cpp.

Every engine is of the release that `python -m tests.roles prepare` installs, with the target's own Python and C
library, so that it runs on an older builder, too; FOLDER: where that keeps its trees. One model (`model.py`) and one
list of prompts for all; each is asked for SECONDS by 1, 4 and 8 clients at its Unix socket, and no two run at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.gateway import cpu_s
from tests.bench.model import WORDS, random_model
from tests.unit.roles.test_engine_unit import command

CLIENTS = (1, 4, 8)
#: Of an answer, and of a slot's context, which holds prompt and answer.
TOKENS, CONTEXT = 64, 512
PROMPT_CHARACTERS = 240
_PROSE = WORDS.with_name("prose.txt").read_text()
PROMPTS = [_PROSE[at : at + PROMPT_CHARACTERS] for at in range(0, len(_PROSE) - PROMPT_CHARACTERS, 41)]
CORES = len(os.sched_getaffinity(0))
CACHE = Path(os.environ.get("AIRGAP_CACHE") or Path.home() / ".cache" / "airgap")
#: What `llama_cpp.server` imports and the release does not have.
EXTRAS = ("fastapi", "pydantic-settings", "pyyaml", "sse-starlette", "starlette-context", "uvicorn")
#: Ends a program with the one that started it, however that ends.
ENDING = ("setpriv", "--pdeathsig", "KILL")
_START_S, _ANSWER_S = 600, 1800


class Target(NamedTuple):
    """Programs of a tree, run where they lie by the tree's own loader: no chroot, no container, nothing written."""

    loader: tuple[str, ...]
    python: str
    packages: Path

    @classmethod
    def of(cls, folder: Path) -> Target:
        """The newest trees.

        Raises:
            SystemExit: there are none; names the command that makes them.
        """
        layers = [max(folder.glob(f"{name}-*"), key=lambda path: path.stat().st_ctime, default=None)
                  for name in ("settled", "installed", "appliance")]  # fmt: skip
        found = [layer for layer in layers if layer is not None]
        if len(found) < len(layers):
            raise SystemExit(f"{folder}: no tree with a release in it; as root: python -m tests.roles prepare")
        libraries = ":".join(str(layer / "usr/lib/x86_64-linux-gnu") for layer in found)
        loader = (str(found[-1] / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", libraries)
        (packages,) = found[1].glob("opt/airgap/releases/*/engine/lib/python3*/site-packages")
        return cls(loader, str(found[1] / "usr/bin" / packages.parent.name), packages)

    @property
    def llama_server(self) -> str:
        """The engine that is installed."""
        return str(self.packages / "llama_cpp/lib/llama-server")

    def environment(self, *folders: Path) -> dict[str, str]:
        """For its Python, which is not to write beside what it reads."""
        path = ":".join(map(str, (*folders, self.packages)))
        home = str(Path(self.python).parents[1])
        return {"PYTHONHOME": home, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}


class Engine(NamedTuple):
    """How an engine is started; `{socket}` is filled in. A known prompt is one it has answered before."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    is_prompt_known: bool = False


class Figures(NamedTuple):
    """Seconds to the first token of each answer, of all of them together, and of the engine's processors."""

    first_s: list[float]
    span_s: float
    cpu_s: float

    @property
    def tokens_per_s(self) -> float:
        """Of all clients."""
        return len(self.first_s) * TOKENS / self.span_s


def by_the_role(program: str, model: Path) -> list[str]:
    """The command line of the role engine's unit, out of its template."""
    engine = {"name": "bench", "path": str(model), "slots": max(CLIENTS), "context_tokens": CONTEXT, "memory_mib": 0}
    return command(False, engine_program=program, engine_threads=CORES, _engine_model=engine, _engine_socket="{socket}")


def engines(target: Target, model: Path, extras: Path) -> list[Engine]:
    """All that answer at a socket."""
    plain = (*target.loader, target.llama_server, "--model", str(model), "--host", "{socket}", "--threads", str(CORES),
             "--parallel", str(max(CLIENTS)))  # fmt: skip
    bindings = {"MODEL": str(model), "N_CTX": str(CONTEXT), "N_THREADS": str(CORES), "N_THREADS_BATCH": str(CORES),
                "INTERRUPT_REQUESTS": "false", "VERBOSE": "false"}  # fmt: skip
    uvicorn = ("-m", "uvicorn", "--factory", "llama_cpp.server.app:create_app", "--uds", "{socket}")
    return [
        Engine("llama-server", (*target.loader, *by_the_role(target.llama_server, model)), {}),
        Engine("upstream's defaults", plain, {}),
        Engine("the same, prompt known", plain, {}, is_prompt_known=True),
        Engine(
            "llama_cpp.server",
            (*target.loader, target.python, *uvicorn),
            target.environment(extras) | bindings,
        ),
    ]


def extras(target: Target, folder: Path) -> Path:
    """What `llama_cpp.server` wants more, out of the package index; without, its row says what is missing."""
    made, version = folder / "extras", target.packages.parent.name.removeprefix("python")
    how = ("--quiet", "--target", made, "--python-version", version, "--only-binary", ":all:")
    done = subprocess.run([*map(str, (sys.executable, "-m", "pip", "install", *how, *EXTRAS))], capture_output=True)
    if done.returncode:
        print(done.stderr.decode(errors="replace").strip().rpartition("\n")[2], file=sys.stderr)
    return made


def served(engine: Engine, folder: Path, clients: int, span_s: float) -> Figures:
    """An engine that has been asked nothing before, under load."""
    with started(engine, folder) as (pid, socket):
        return asyncio.run(load(pid, socket, clients, span_s, engine.is_prompt_known))


@contextlib.contextmanager
def started(engine: Engine, folder: Path) -> Iterator[tuple[int, Path]]:
    """An engine that answers; yields its process id and its socket."""
    socket, log = folder / "engine.sock", folder / "engine.log"
    argv = (*ENDING, *(part.replace("{socket}", str(socket)) for part in engine.argv))
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=engine.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until_s = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError, EOFError):
                asyncio.run(ask(socket, "Is it there?"))
                break
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(log.read_text(errors="replace").strip().rpartition("\n")[2] or "it says nothing")
            time.sleep(0.5)
        yield process.pid, socket
    finally:
        process.kill()
        process.wait()
        socket.unlink(missing_ok=True)


async def ask(socket: Path, prompt: str) -> float:
    """Seconds to the first token of an answer, which is read to its end.

    Raises:
        EOFError: it is not of all its tokens, or there is none.
        OSError: nobody is there.
    """
    body = {"model": "bench", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Type: application/json\r\n\
Content-Length: {len(data)}\r\n\r\n"
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        begun_s = time.perf_counter()
        writer.write(head.encode() + data)
        came_s = []
        async with asyncio.timeout(_ANSWER_S):
            async for line in reader:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["text"]:
                    came_s.append(time.perf_counter() - begun_s)
    finally:
        writer.close()
    if len(came_s) != TOKENS:
        raise EOFError(f"expected {TOKENS} tokens, found {len(came_s)}")
    return came_s[0]


async def load(pid: int, socket: Path, clients: int, span_s: float, is_prompt_known: bool) -> Figures:
    """Clients that ask again as soon as they are answered; after the span none begins."""
    asked, first_s = itertools.cycle(PROMPTS), list[float]()
    known = [next(asked) for _ in range(clients)] if is_prompt_known else []
    await asyncio.gather(*(ask(socket, prompt) for prompt in known))
    begun_s, begun_cpu_s = time.perf_counter(), cpu_s(pid)

    async def client(number: int) -> None:
        while time.perf_counter() - begun_s < span_s:
            first_s.append(await ask(socket, known[number] if known else next(asked)))

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Figures(first_s, time.perf_counter() - begun_s, cpu_s(pid) - begun_cpu_s)


def batch(target: Target, model: Path, clients: int, span_s: float) -> Figures:
    """The same of `batch.py`, whose clients are in its own process."""
    script = Path(__file__).with_name("batch.py")
    argv = (*ENDING, *target.loader, target.python, script, model, clients, span_s, TOKENS, CORES)
    done = subprocess.run(
        [*map(str, argv)], input=json.dumps(PROMPTS).encode(), env=target.environment(), capture_output=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return Figures(**json.loads(done.stdout))


def main(span_s: float, trees: Path) -> None:
    """Measure and print."""
    target, model = Target.of(trees), random_model(CACHE / "bench")
    print(
        f"{CORES} cores, load {os.getloadavg()[0]:.1f}; {model.stat().st_size / 1e6:.0f} MB in Q8_0, on the processor"
    )
    print(f"prompts of {PROMPT_CHARACTERS} characters, answers of {TOKENS} tokens, {max(CLIENTS)} slots\n")
    print(f"{'engine':24}{'clients':>7}{'tokens/s':>10}{'a client':>10}{'first token':>13}{'a CPU s':>9}{'ratio':>7}")
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder, of_ours = Path(name), dict[int, float]()
        measures = {each.name: partial(served, each, folder) for each in engines(target, model, extras(target, folder))}
        measures["batch.py, no server"] = partial(batch, target, model)
        for (what, measure), clients in itertools.product(measures.items(), CLIENTS):
            try:
                found = measure(clients, span_s)
            except RuntimeError as error:
                if clients not in of_ours:
                    raise
                print(f"{what:24}{clients:7}  not run: {error}"[:80], flush=True)
                continue
            rate = found.tokens_per_s
            ratio = rate / of_ours.setdefault(clients, rate)
            first = f"{statistics.median(found.first_s):.2f} s"
            shown = f"{what:24}{clients:7}{rate:10.1f}{rate / clients:10.1f}{first:>13}"
            print(f"{shown}{rate * found.span_s / found.cpu_s:9.1f}{ratio:7.2f}", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main(
        float(sys.argv[1]) if len(sys.argv) > 1 else 20, Path(*sys.argv[2:3]) if sys.argv[2:] else CACHE / "containers"
    )
