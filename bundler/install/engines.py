"""What the engine of a model takes on a host: its memory, and its part of the roles' variables.

One whole context for each request that is answered at the same time; nothing is shared between requests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bundler.install import paths
from bundler.install.site import Site
from bundler.manifest.lock import Lock, LockedModel

#: The engine's compute buffers and, in the host's memory, the system beside it.
BESIDE_BYTES = 1 << 30
#: An engine's limit over what it is known to take: the margin is the allocator's.
_LIMIT_PERCENT = 125


def cache_bytes(model: LockedModel, parallel: int) -> int:
    """Keys and values of so many contexts."""
    return parallel * model.context_tokens * model.kv_bytes_per_token


def needed_bytes(model: LockedModel, parallel: int) -> int:
    """Memory for the weights, so many contexts, and the rest."""
    return model.size_bytes + cache_bytes(model, parallel) + BESIDE_BYTES


def quantization_bits(quantization: str) -> int:
    """Bits of a weight by the name that llama.cpp has for it, as Q8_0, IQ2_XS or BF16; of a mix, the least."""
    found = re.search(r"\d+", quantization)
    return int(found[0]) if found else 1


def packages(lock: Lock, environment: str) -> str:
    """Where Python's packages lie in a release."""
    return f"{environment}/lib/python{lock.target.python}/site-packages"


def served(lock: Lock, site: Site) -> list[LockedModel]:
    """Models of the lock that the site serves, in the lock's order; one that the lock has not is missing."""
    return [model for model in lock.models if model.name in site.service.models]


def engine_variables(lock: Lock, site: Site, release: Path) -> dict[str, Any]:
    """The variables of the role engine, and what the role gateway is told of its models.

    Args:
        release: the folder of the release.
    """
    models, parallel = served(lock, site), site.service.parallel
    return {
        "engine_program": str(paths.CURRENT / packages(lock, "engine") / "llama_cpp/lib/llama-server"),
        "engine_gpu": lock.gpu is not None,
        "engine_models": [
            {
                "name": model.name,
                "path": str(paths.MODELS / release.name / model.filename),
                "context_tokens": model.context_tokens,
                "slots": parallel,
                "memory_mib": needed_bytes(model, parallel) * _LIMIT_PERCENT // 100 >> 20,
            }
            for model in models
        ],
        "gateway_models": [
            {
                "name": model.name,
                "digest": f"sha256:{model.sha256}",
                "label": model.label,
                "quantization_bits": quantization_bits(model.quantization),
                "context_tokens": model.context_tokens,
                "parallel": parallel,
            }
            for model in models
        ],
    }
