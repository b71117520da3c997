"""Model weights in GGUF, from a local path or over HTTPS, and what their header says.

The header is read with the `gguf` package, on the builder, from bytes whose digest the manifest pinned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bundler.collect.cache import Cache
from bundler.collect.file import locate
from bundler.collect.interface import Item, Workplace
from bundler.manifest.lock import Lock, LockedModel
from bundler.manifest.models import Manifest, ModelItem
from custody.errors import InputInvalid

#: What the size of keys and values follows from. Source: the GGUF specification, "LLM" keys.
_KV_KEYS = (
    "block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
    "attention.key_length", "attention.value_length",
)  # fmt: skip
#: llama.cpp's default type of its cache is f16.
_KV_ELEMENT_BYTES = 2


def lock_models(manifest: Manifest, folder: Path, cache: Cache) -> tuple[LockedModel, ...]:
    """Resolve the manifest's models: fetched into the cache, compared with the pinned digest, headers read.

    Raises:
        DigestMismatch, FetchFailed: as `Cache.obtain`.
        InputInvalid: not a GGUF file, or one without what an engine needs.
    """
    locked = []
    for item in manifest.models:
        origin = locate(item.source, folder, item.name)
        path = cache.obtain(origin, item.sha256, f"model {item.name}")
        locked.append(_describe(item, origin, path))
    return tuple(sorted(locked, key=lambda m: m.name))


class ModelCollector:
    """Weights below `data/models/`."""

    name = "model"

    def items(self, lock: Lock, workplace: Workplace) -> Iterable[Item]:
        """See `Collector.items`."""
        for model in lock.models:
            destination = f"data/models/{model.filename}"
            yield Item(f"model {model.name}", model.origin, destination, model.size_bytes, model.sha256)

    def assemble(self, lock: Lock, workplace: Workplace) -> None:
        """Nothing is made here."""


def _describe(item: ModelItem, origin: str, path: Path) -> LockedModel:
    from gguf import GGUFReader, LlamaFileType  # heavy: numpy; only builders have it

    try:
        reader = GGUFReader(path)
    except Exception as error:  # its parser raises whatever its numpy slices do
        raise InputInvalid(f"model {item.name}: {origin}: not a GGUF file: {error}", "convert it first") from error

    def field(key: str) -> object:
        found = reader.get_field(key)
        return None if found is None else found.contents()

    architecture = field("general.architecture")
    context = field(f"{architecture}.context_length")
    tokenizer = field("tokenizer.ggml.model")
    if not isinstance(architecture, str) or not isinstance(context, int) or not isinstance(tokenizer, str):
        raise InputInvalid(
            f"model {item.name}: the GGUF header lacks general.architecture, context_length or tokenizer.ggml.model",
            "convert the model with a current converter",
        )
    template = field("tokenizer.chat_template")
    file_type = field("general.file_type")
    quantization = "unknown"
    if isinstance(file_type, int) and file_type in list(LlamaFileType):
        quantization = LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return LockedModel(
        name=item.name,
        filename=f"{item.name}.gguf",
        origin=origin,
        size_bytes=path.stat().st_size,
        sha256=item.sha256,
        license=item.license,
        label=item.label,
        architecture=architecture,
        context_tokens=context,
        kv_bytes_per_token=_kv_bytes({key: field(f"{architecture}.{key}") for key in _KV_KEYS}),
        quantization=quantization,
        tokenizer=tokenizer,
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) else None,
    )


def _kv_bytes(header: dict[str, object]) -> int:
    """Bytes of keys and values a token of context; 0 for a model without attention. Window layers count in full."""

    def numbers(key: str) -> list[int]:  # most keys hold one number, some one a block
        found = header[key]
        return [n for n in (found if isinstance(found, list) else [found]) if isinstance(n, int)]

    blocks, heads = sum(numbers("block_count")), max(numbers("attention.head_count"), default=0)
    if not heads:
        return 0
    kv_heads = numbers("attention.head_count_kv") or [heads]
    length = sum(numbers("embedding_length")) // heads
    key, value = (sum(numbers(f"attention.{kind}_length")) or length for kind in ("key", "value"))
    return (sum(kv_heads) if len(kv_heads) > 1 else kv_heads[0] * blocks) * (key + value) * _KV_ELEMENT_BYTES
