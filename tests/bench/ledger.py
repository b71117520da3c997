"""`python -m tests.bench.ledger [FOLDER]`: what a log costs on this machine, beside what the disk alone costs.

FOLDER: on the file system to be measured; a new folder is made in it and removed.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from custody.ledger import gone, origin, packed, segment
from custody.ledger.disk import RealDisk
from custody.ledger.log import open_log
from custody.ledger.verify import verify
from custody.ledger.view import View

#: About the size of an audit entry.
ENTRY = b'{"seq":%08d,"text":"' + b"x" * 450 + b'"}'
GROUP = 512
_SPAN_S = 3.0


def timed(work: Callable[[int], object], span_s: float = _SPAN_S) -> list[float]:
    """Milliseconds of each run, as many as the span holds."""
    found: list[float] = []
    until = time.perf_counter() + span_s
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work(len(found))
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def show(what: str, found: list[float]) -> None:
    """Median and 99th percentile."""
    ordered = sorted(found)
    print(f"{what:32} {statistics.median(ordered):8.3f} ms, p99 {ordered[int(len(ordered) * 0.99)]:8.3f} ms")


def main(base: Path) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        handle = os.open(folder / "alone", os.O_RDWR | os.O_CREAT)
        data = ENTRY % 0

        def alone(number: int) -> None:
            os.pwrite(handle, data, number * len(data))
            os.fdatasync(handle)

        show("write and fdatasync alone", timed(alone))
        os.close(handle)
        origin.make(folder / "log", "bench.example/log")
        with open_log(folder / "log") as log:
            show("one acknowledged append", timed(lambda _number: log.append([ENTRY % log.size])))
            first, begun = log.size, time.perf_counter()
            timed(lambda _number: log.append([ENTRY % (log.size + i) for i in range(GROUP)]))
            print(f"{f'in groups of {GROUP}':32} {(log.size - first) / (time.perf_counter() - begun):8.0f} entries/s")
            show("checkpoint", timed(lambda _number: log.checkpoint(), 1))
            head = log.checkpoint()
            path = log.view.prove(head.size // 3, head)[1]
            show(
                f"proof of {len(path)} hashes, entry sought",
                timed(lambda n: log.view.prove(n * 7919 % head.size, head), 2),
            )
        begun = time.perf_counter()
        size = verify(View(folder / "log")).size
        print(f"{'verify':32} {size / (time.perf_counter() - begun):8.0f} entries/s, {size} in all")
        for name in View(folder / "log").segments()[:1] if size > segment.SEGMENT_ENTRIES else ():
            begun = time.perf_counter()
            size_bytes = packed.pack(RealDisk(), folder / "log" / segment.FOLDER, name)
            print(
                f"{'compress a segment':32} {time.perf_counter() - begun:8.2f} s, to {size_bytes} bytes (of one letter)"
            )
            show("proof out of it", timed(lambda n: View(folder / "log").prove(n * 7919 % 65536, head), 2))
            begun = time.perf_counter()
            gone.prepare(View(folder / "log"), name, lambda entry: False)
            print(f"{'make what is left of it':32} {time.perf_counter() - begun:8.2f} s")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
