"""What a GGUF header says about memory: the figures that published models are known by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bundler.collect.cache import Cache
from bundler.collect.model import _kv_bytes, lock_models
from bundler.manifest.models import ModelItem, load_manifest

ROOT = Path(__file__).parents[3]
#: Llama 3 8B as its config.json has it: 128 KiB a token, 1 GiB for 8192.
LLAMA_3_8B: dict[str, object] = {
    "block_count": 32, "embedding_length": 4096, "attention.head_count": 32, "attention.head_count_kv": 8,
    "attention.key_length": None, "attention.value_length": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 128 << 10),
        ({"attention.head_count_kv": None}, 512 << 10),
        ({"attention.key_length": 192, "attention.value_length": 128}, (192 + 128) * 8 * 32 * 2),
        ({"attention.head_count_kv": [8] * 16 + [0] * 16}, 64 << 10),
        ({"attention.head_count": None, "attention.head_count_kv": None}, 0),
        ({"attention.head_count": 0, "attention.head_count_kv": 0}, 0),
    ],
)
def test_keys_and_values_a_token(changes: dict[str, object], expected: int) -> None:
    assert _kv_bytes(LLAMA_3_8B | changes) == expected


def test_a_real_header_is_read(tmp_path: Path) -> None:
    file = ROOT / "tests/data/model/airgap-words.gguf"
    item = ModelItem(name="words", source=str(file), sha256=hashlib.sha256(file.read_bytes()).hexdigest(), license="x")
    manifest = load_manifest(ROOT / "manifests/demo.yml").model_copy(update={"models": (item,)})
    (model,) = lock_models(manifest, tmp_path, Cache(tmp_path / "cache"))
    assert model.kv_bytes_per_token == 4 * 4 * (64 + 64) * 2  # blocks, heads, key and value, two bytes
    assert model.size_bytes == file.stat().st_size
