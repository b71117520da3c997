"""The batch example: continuous batching on the bindings alone, several sequences in one `llama_batch`.

    python batch.py MODEL CLIENTS SECONDS TOKENS THREADS <prompts, a JSON list

Run by the Python for which the bindings were made, with nothing of this project. A client has its next prompt as soon
as its answer is complete; after SECONDS none begins. Prints JSON: seconds to each answer's first token, of
all together, and of the processors.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass

import llama_cpp as llama

BATCH = 2048


@dataclass
class Sequence:
    """An answer in the making: what goes into the next batch, and how much is done."""

    begun_s: float
    next: list[int]
    position: int = 0
    made: int = 0
    #: Its last token's place in the batch.
    place: int = -1


def main(path: str, clients: int, span_s: float, tokens: int, threads: int, prompts: list[str]) -> None:
    """Answer, and print."""
    llama.llama_log_set(silent := llama.llama_log_callback(lambda *_: None), None)  # noqa: F841, llama.cpp keeps it
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_seq_max, settings.n_ctx, settings.n_batch = clients, 512 * clients, BATCH
    settings.n_threads = settings.n_threads_batch = threads
    context = llama.llama_init_from_model(model, settings)
    vocabulary, memory = llama.llama_model_get_vocab(model), llama.llama_get_memory(context)
    sampler, batch = llama.llama_sampler_init_greedy(), llama.llama_batch_init(BATCH, 0, 1)

    def tokenize(text: str) -> list[int]:
        raw, found = text.encode(), (llama.llama_token * 512)()
        return found[: llama.llama_tokenize(vocabulary, raw, len(raw), found, 512, True, True)]

    asked = map(tokenize, itertools.cycle(prompts))
    begun_s, begun_cpu_s, first_s = time.perf_counter(), time.process_time(), []
    running = {number: Sequence(begun_s, next(asked)) for number in range(clients)}
    while running:
        batch.n_tokens = 0
        for number, one in running.items():
            for token in one.next:
                at = batch.n_tokens
                batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0] = token, one.position, 1, number
                one.place, one.position, batch.n_tokens = at, one.position + 1, at + 1
                batch.logits[at] = 0
            batch.logits[one.place] = 1
        if llama.llama_decode(context, batch):
            raise RuntimeError(f"a batch of {batch.n_tokens} tokens was not computed")
        for number, one in list(running.items()):
            one.next = [llama.llama_sampler_sample(sampler, context, one.place)]
            now_s, one.made = time.perf_counter(), one.made + 1
            if one.made == 1:
                first_s.append(now_s - one.begun_s)
            if one.made == tokens:
                llama.llama_memory_seq_rm(memory, number, -1, -1)
                del running[number]
                if now_s - begun_s < span_s:
                    running[number] = Sequence(now_s, next(asked))
    spans = {"span_s": time.perf_counter() - begun_s, "cpu_s": time.process_time() - begun_cpu_s}
    print(json.dumps({"first_s": first_s, **spans}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), json.load(sys.stdin))
