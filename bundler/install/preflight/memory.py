"""Memory for the models that are served: weights, keys and values of whole contexts, and what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator

from bundler.install.engines import cache_bytes, needed_bytes, served
from bundler.install.preflight.driver import gpus
from bundler.install.preflight.finding import Case, Finding, gigabytes, read


def check_memory(case: Case) -> Iterator[Finding]:
    """The models are in the bundle and fit together: into the GPUs with a driver, into the host's memory without."""
    wanted, parallel = case.site.service.models, case.site.service.parallel
    models = served(case.lock, case.site)
    if unknown := ", ".join(name for name in wanted if name not in [model.name for model in models]):
        names = ", ".join(m.name for m in case.lock.models) or "none"
        yield Finding(
            "service.models", f"of the bundle's models ({names})", unknown, "correct service.models in the site file"
        )
        return
    names, needed = ", ".join(wanted), sum(needed_bytes(model, parallel) for model in models)
    weights = gigabytes(sum(model.size_bytes for model in models))
    cache = gigabytes(sum(cache_bytes(model, parallel) for model in models))
    contexts = "context" if parallel == 1 else f"{parallel} contexts"
    each = " each" if models[1:] else ""
    parts = f"{gigabytes(needed)}: weights {weights}, {contexts}{each} {cache}, the rest"
    if case.lock.gpu is None:
        where, total = "memory", _host_bytes(case)
    else:
        where, total = "GPU memory", sum(gpu.memory_bytes for gpu in gpus(case))
        if not total:
            remedy = "compare with the card's data sheet; known once the driver runs"
            yield Finding(f"{where} for {names}", parts, "not to be known before its driver", remedy, False)
            return
    if total < needed:
        fewer = "serve fewer or smaller models" if models[1:] else "serve a smaller model"
        remedy = fewer if parallel == 1 else f"lower service.parallel, or {fewer}"
        yield Finding(f"{where} for {names}", parts, gigabytes(total), remedy)


def _host_bytes(case: Case) -> int:
    for line in read(case.at("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) << 10
    return 0
