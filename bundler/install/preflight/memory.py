"""Memory for the model that is served: weights, keys and values of whole contexts, and what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator

from bundler.install.engines import cache_bytes, needed_bytes
from bundler.install.preflight.driver import gpus
from bundler.install.preflight.finding import Case, Finding, gigabytes, read


def check_memory(case: Case) -> Iterator[Finding]:
    """The model is in the bundle and fits: into the GPUs with a driver, into the host's memory without."""
    model = next((m for m in case.lock.models if m.name == case.site.service.model), None)
    if model is None:
        names = ", ".join(m.name for m in case.lock.models) or "none"
        expected = f"one of the bundle's models ({names})"
        yield Finding("service.model", expected, case.site.service.model, "correct service.model in the site file")
        return
    parallel = case.site.service.parallel
    needed, cache = needed_bytes(model, parallel), gigabytes(cache_bytes(model, parallel))
    contexts = "context" if parallel == 1 else f"{parallel} contexts"
    parts = f"{gigabytes(needed)}: weights {gigabytes(model.size_bytes)}, {contexts} {cache}, the rest"
    if case.lock.gpu is None:
        where, total = "memory", _host_bytes(case)
    else:
        where, total = "GPU memory", sum(gpu.memory_bytes for gpu in gpus(case))
        if not total:
            remedy = "compare with the card's data sheet; known once the driver runs"
            yield Finding(f"{where} for {model.name}", parts, "not to be known before its driver", remedy, False)
            return
    if total < needed:
        remedy = "serve a smaller model" if parallel == 1 else "lower service.parallel, or serve a smaller model"
        yield Finding(f"{where} for {model.name}", parts, gigabytes(total), remedy)


def _host_bytes(case: Case) -> int:
    for line in read(case.at("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) << 10
    return 0
