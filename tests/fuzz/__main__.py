"""`python -m tests.fuzz SECONDS [NAME...]`: libFuzzer, guided by coverage, so long for each target.

What it learns lies in `build/fuzz/NAME` and is where the next run begins; what broke a parser lies beside it as
`NAME-crash-...` and belongs into `tests/fuzz/corpus/NAME`, where every run and `test_corpus.py` try it again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

#: A parser that thinks longer than this about 64 KiB hangs. libFuzzer counts whole seconds.
_TIMEOUT_S = 10
_CORPUS = Path(__file__).with_name("corpus")


def fuzz(name: str, seconds: int, learned: Path) -> NoReturn:
    """Fuzz one target."""
    import atheris  # type: ignore[import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["custody"]):
        from tests.fuzz.targets import TARGETS, try_one

    folder = learned / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name][1]):
        (folder / f"seed-{number}").write_bytes(seed)
    kept = [str(_CORPUS / name)] if (_CORPUS / name).is_dir() else []
    options = [
        f"-max_total_time={seconds}", f"-timeout={_TIMEOUT_S}", "-max_len=65536", "-rss_limit_mb=2048",
        f"-artifact_prefix={learned}/{name}-", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([name, *options, str(folder), *kept], lambda data: try_one(name, data) and None)
    atheris.Fuzz()  # ends the process
    raise AssertionError("libFuzzer came back")


def main() -> int:
    """Fuzz one target here, or several, each in a process of its own."""
    seconds, names = int(sys.argv[1]), sys.argv[2:]
    learned = Path("build/fuzz").absolute()
    if len(names) == 1:
        fuzz(names[0], seconds, learned)
    from tests.fuzz.targets import TARGETS

    broken = []
    for name in names or TARGETS:
        sys.stderr.write(f"--- {name}, {seconds} s\n")
        if subprocess.run([sys.executable, "-m", "tests.fuzz", str(seconds), name], check=False).returncode:
            broken.append(name)
    if broken:
        sys.stderr.write(f"broken: {', '.join(broken)}; see {learned}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
