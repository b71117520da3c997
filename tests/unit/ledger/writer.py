"""A writer to be killed: appends to the log in argv[1] and says each number that was acknowledged, with its entry."""

from __future__ import annotations

import sys
from pathlib import Path

from custody.ledger.log import open_log

with open_log(Path(sys.argv[1])) as log:
    if log.torn is not None:
        print(f"torn {log.torn.size}", flush=True)
    while True:
        batch = [b'{"n":%d,"text":"%s"}' % (log.size + i, b"x" * (log.size % 900)) for i in range(1 + log.size % 7)]
        first = log.append(batch)[0]
        sys.stdout.write("".join(f"{first + i} {entry.decode()}\n" for i, entry in enumerate(batch)))
        sys.stdout.flush()
        if log.size % 5 == 0:
            log.checkpoint()
