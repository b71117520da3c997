"""A llama of random weights, about 220 MB in Q8_0, with the tokenizer of the project's own small model.

What it says means nothing; how long it takes does. In its head a control token's row is zero, and so is that of every
token that is no plain text: asked without chance it never ends by itself, and each token is a piece of text.
"""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np

WORDS = Path(__file__).resolve().parents[1] / "data/model/airgap-words.gguf"
SEED = 1
WIDTH, LAYERS, HEADS, INNER, CONTEXT = 1024, 16, 16, 2816, 4096
#: Of int8 values that are spread evenly: a weight's standard deviation is 0.02.
_SCALE = np.float16(0.02 / 73)
_BLOCK = 32


def random_model(folder: Path) -> Path:
    """The model's file, made where it is not there yet."""
    file = folder / f"random-llama-{SEED}.gguf"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    return file


def _write(file: Path) -> None:
    writer, chance = gguf.GGUFWriter(file, "llama"), np.random.default_rng(SEED)
    for name, field in gguf.GGUFReader(WORDS).fields.items():
        if name.startswith("tokenizer."):
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if field.types[1:] else None)
            if name == "tokenizer.ggml.tokens":
                plain = np.array([bool(re.fullmatch("[A-Za-z]+", token)) for token in field.contents()])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(plain))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)

    def add(name: str, rows: int, columns: int, kept: np.ndarray | None = None) -> None:
        blocks = np.empty((rows, columns // _BLOCK, 2 + _BLOCK), np.uint8)
        blocks[..., :2] = np.frombuffer(_SCALE.tobytes(), np.uint8)
        blocks[..., 2:] = chance.integers(-127, 128, (rows, columns // _BLOCK, _BLOCK), np.int8).view(np.uint8)
        if kept is not None:
            blocks[~kept] = 0
        writer.add_tensor(f"{name}.weight", blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    add("token_embd", len(plain), WIDTH)
    add("output", len(plain), WIDTH, plain)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}", WIDTH, WIDTH)
        for name, rows, columns in (("gate", INNER, WIDTH), ("up", INNER, WIDTH), ("down", WIDTH, INNER)):
            add(f"blk.{layer}.ffn_{name}", rows, columns)
    for name in ("output_norm", *(f"blk.{n}.{kind}_norm" for n in range(LAYERS) for kind in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
