"""A machine made of canned answers: what programs would print, without running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from custody._run import Completed
from custody.errors import ProgramFailed


@dataclass
class Programs:
    """Answers by the beginning of a command line; remembers every call, its standard input and files handed over."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    inputs: dict[str, bytes] = field(default_factory=dict)
    handed: dict[str, list[bytes]] = field(default_factory=dict)

    def run(
        self, argv: Sequence[str | Path], *, stdin: bytes = b"", ok: Any = (0,), pass_fds: Any = (), **_others: Any
    ) -> Completed:
        """Stand in for `custody._run.run`."""
        line = " ".join(str(word) for word in argv)
        self.calls.append(line)
        self.inputs[line] = stdin
        self.handed[line] = [Path(f"/dev/fd/{handle}").read_bytes() for handle in pass_fds]
        status, text = max(
            ((prefix, answer) for prefix, answer in self.answers.items() if line.startswith(prefix)),
            key=lambda found: len(found[0]),
            default=("", (0, "")),
        )[1]
        if status not in set(ok):
            raise ProgramFailed(f"{argv[0]}: ended with status {status}\n{text}")
        return Completed(tuple(str(word) for word in argv), status, text.encode(), b"")

    def called(self, beginning: str) -> bool:
        """Whether a program was called so."""
        return any(line.startswith(beginning) for line in self.calls)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Programs]:
    """Put canned programs in the place of the real ones in the named modules."""

    def install(*modules: str, answers: dict[str, tuple[int, str]]) -> Programs:
        canned = Programs(answers)
        for module in modules:
            monkeypatch.setattr(f"{module}.run", canned.run)
        # What a canned lsblk names is not there to be read.
        monkeypatch.setattr("appliance.drive.disks.require_readable", lambda _device: None)
        return canned

    return install
