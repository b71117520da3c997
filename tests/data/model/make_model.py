# /// script
# requires-python = ">=3.11"
# dependencies = ["gguf>=0.17", "numpy>=2", "tokenizers>=0.21", "torch==2.13.0"]
# ///
"""Make the demo's language model: train it on the text beside this file and write it as a GGUF file.

    python make_model.py --out airgap-words.gguf     train and write (a quarter of an hour on one CPU core)
    python make_model.py --check airgap-words.gguf   only load the file with llama-cpp-python and measure it

The text is facts.txt (questions and answers), prose.txt and sentences that this script puts together. The
model never sees heldout.txt, nor the questions that are held out of facts.txt; both measure what it learned.
The model is a llama: RMSNorm, rotary positions over neighbouring pairs (what llama.cpp computes for this
architecture, so queries and keys need no reordering), SwiGLU, and a head that shares the embedding's weights.
The tokenizer is a byte-level BPE with GPT-2's pre-tokenizer.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 20240229

PAD, BEGIN, END, SYSTEM, USER, ASSISTANT = SPECIAL = (
    "<|pad|>",
    "<|begin|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

VOCAB, CONTEXT, WIDTH, LAYERS, HEADS, INNER = 1024, 512, 256, 4, 4, 640
ROPE_BASE, NORM_EPS = 10000.0, 1e-5
STEPS, ROWS, PEAK_RATE, DROPOUT, WEIGHT_DECAY = 900, 4, 2e-3, 0.1, 0.1


# ---------------------------------------------------------------------------------------------- text

# {x} is the term as facts.txt has it, {bare} the term without its article. The first is always trained on;
# of the others some, drawn by chance, are held out for each term.
TERM_QUESTIONS = (
    "What is {x}?",
    "Tell me about {x}.",
    "Explain {x}.",
    "Can you explain {x}?",
    "Define {x}.",
    "What does {bare} mean?",
    "Describe {x}.",
    "Explain what {x} is.",
    "What do you know about {x}?",
    "Can you tell me what {x} is?",
    "What exactly is {x}?",
    "{bare}?",
    "I do not know what {x} is.",
    "What is meant by {x}?",
)
HELD_OUT_PER_TERM = 2

BEFORE = ("Please tell me: ", "Hello. ", "Hi! ", "I have a question. ", "Tell me, ", "One more question: ")
AFTER = (" Please.", " Thank you.", " Please answer briefly.")
SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are Airgap Words.",
    "Answer briefly.",
    "Answer in plain English.",
    "You are a small model behind an air gap. Answer in one or two sentences.",
)

WHO = ("the operator", "the auditor", "a builder", "the second operator", "the owner of the key", "a visitor")
WHEN = (
    "In the morning",
    "In the evening",
    "At noon",
    "On Monday",
    "On Tuesday",
    "On Wednesday",
    "On Thursday",
    "On Friday",
    "Once a week",
    "After the check",
    "Before the transfer",
    "During the night",
    "Last month",
    "Every day",
)
THINGS = (
    "the bundle",
    "the disk",
    "the manifest",
    "the log",
    "the signature",
    "the list of files",
    "the public key",
    "the new model",
    "the old version",
    "the sealed bag",
    "the package",
    "the report",
    "a copy of the log",
    "the second disk",
)
DEEDS = (
    ("carries", "carried", "carry"),
    ("checks", "checked", "check"),
    ("reads", "read", "read"),
    ("compares", "compared", "compare"),
    ("writes down", "wrote down", "write down"),
    ("looks at", "looked at", "look at"),
    ("brings", "brought", "bring"),
    ("asks for", "asked for", "ask for"),
    ("refuses", "refused", "refuse"),
    ("keeps", "kept", "keep"),
    ("copies", "copied", "copy"),
    ("waits for", "waited for", "wait for"),
)
WHERE = (
    "in the room",
    "at the door",
    "on the other side of the gap",
    "next to the machine",
    "in the safe",
    "on the appliance",
    "across the air gap",
    "outside",
)
WHY = (
    "because the signature must be good",
    "because one byte is wrong",
    "because nobody may change it",
    "so that the auditor can see it later",
    "so that nothing is lost",
    "so that the machine stays safe",
    "because there is no network",
    "because a person has to check it",
    "because the checksum does not match",
)


@dataclass
class Fact:
    """One answer with the questions that lead to it."""

    answer: str
    trained: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def read_facts(text: str, chance: random.Random) -> list[Fact]:
    """Parse facts.txt; its first lines say what the marks mean."""
    facts = []
    for block in text.split("\n\n"):
        fact = Fact(answer="")
        for line in block.strip().splitlines():
            mark, _, rest = line.partition(" ")
            rest = rest.strip()
            if mark == "?":
                fact.trained.append(rest)
            elif mark == "!":
                fact.held_out.append(rest)
            elif mark == "=":
                fact.answer = rest
            elif mark == "@":
                bare = rest.removeprefix("an ").removeprefix("a ").removeprefix("the ")
                asked = [form.format(x=rest, bare=bare) for form in TERM_QUESTIONS]
                asked = [question[0].upper() + question[1:] for question in asked]
                hidden = set(chance.sample(range(1, len(asked)), HELD_OUT_PER_TERM))
                fact.trained += [q for i, q in enumerate(asked) if i not in hidden]
                fact.held_out += [asked[i] for i in sorted(hidden)]
            elif mark != "#":
                raise ValueError(f"facts.txt: {line!r}")
        if fact.answer:
            facts.append(fact)
    return facts


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file."""
    return [part.strip() for part in path.read_text(encoding="utf-8").split("\n\n") if part.strip()]


def vary(question: str, chance: random.Random) -> str:
    """A question as people type it: with a greeting, without a capital letter, without a question mark."""
    draw = chance.random()
    if draw < 0.10:
        question = chance.choice(BEFORE) + question
    elif draw < 0.15:
        question += chance.choice(AFTER)
    elif draw < 0.22:
        question = question.rstrip("?.!")
    elif draw < 0.29:
        question = question.rstrip("?.!").lower()
    elif draw < 0.33:
        question = question[0].lower() + question[1:]
    return question


def sentence(chance: random.Random) -> str:
    """A sentence put together by chance."""
    who, thing, (does, did, do) = chance.choice(WHO), chance.choice(THINGS), chance.choice(DEEDS)
    form = chance.randrange(7)
    if form == 0:
        made = f"{chance.choice(WHEN)} {who} {does} {thing}"
    elif form == 1:
        made = f"{who} {did} {thing} {chance.choice(WHERE)}"
    elif form == 2:
        made = f"{who} {does} {thing} {chance.choice(WHY)}"
    elif form == 3:
        made = f"{who} does not {do} {thing}"
    elif form == 4:
        made = f"{chance.choice(WHEN)} {who} {did} {thing}, and {chance.choice(WHO)} {did} it too"
    elif form == 5:
        made = f"then {who} must {do} {thing} {chance.choice(WHERE)}"
    else:
        made = f"{thing} is {chance.choice(WHERE)} {chance.choice(WHY)}"
    return made[0].upper() + made[1:] + "."


class Corpus:
    """The training text, as an endless row of documents that depends on the seed alone."""

    def __init__(self, folder: Path) -> None:
        self.facts = read_facts((folder / "facts.txt").read_text(encoding="utf-8"), random.Random(SEED))
        self.prose = paragraphs(folder / "prose.txt")
        self.pairs = [(question, fact.answer) for fact in self.facts for question in fact.trained]
        self.held_out_pairs = [(question, fact.answer) for fact in self.facts for question in fact.held_out]
        self.held_out_text = (folder / "heldout.txt").read_text(encoding="utf-8").strip()
        trained = {question for question, _ in self.pairs}
        both = [question for question, _ in self.held_out_pairs if question in trained]
        both += [p for p in self.prose for s in p.split(". ") if s.rstrip(".") + "." in self.held_out_text]
        if both:
            raise ValueError(f"held out, but trained on: {both}")

    def plain(self) -> str:
        """Every written line once, and some made ones: what the tokenizer learns from."""
        chance = random.Random(SEED)
        made = [sentence(chance) for _ in range(500)]
        lines = [text for pair in self.pairs for text in pair] + self.prose + made
        return "\n".join([*lines, *SYSTEM_MESSAGES])

    def conversation(self, chance: random.Random) -> str:
        """One to three questions with their answers."""
        text = BEGIN
        if chance.random() < 0.3:
            text += SYSTEM + chance.choice(SYSTEM_MESSAGES) + END
        for question, answer in chance.sample(self.pairs, chance.choice((1, 1, 2, 3))):
            text += USER + vary(question, chance) + END + ASSISTANT + answer + END
        return text

    def story(self, chance: random.Random) -> str:
        """Up to six paragraphs: written ones, answers in a row, and made sentences."""
        parts = []
        for _ in range(chance.randint(1, 6)):
            draw = chance.random()
            if draw < 0.4:
                parts.append(chance.choice(self.prose))
            elif draw < 0.7:
                parts.append(" ".join(fact.answer for fact in chance.sample(self.facts, 2)))
            else:
                parts.append(" ".join(sentence(chance) for _ in range(chance.randint(2, 4))))
        return BEGIN + "\n\n".join(parts) + END

    def documents(self, chance: random.Random) -> Iterator[str]:
        """Documents without end."""
        while True:
            yield self.conversation(chance) if chance.random() < 0.75 else self.story(chance)


# ---------------------------------------------------------------------------------------- the model


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="where to write the GGUF file")
    parser.add_argument("--check", type=Path, help="a GGUF file to measure with llama-cpp-python")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default %(default)s)")
    args = parser.parse_args()
    if not args.out and not args.check:
        parser.error("say --out or --check")
    if args.out:
        make(Corpus(HERE), args.out, args.steps)
    if args.check:
        check(Corpus(HERE), args.check)


def make(corpus: Corpus, out: Path, steps: int) -> None:
    """Train the tokenizer and the model, measure them and write the file."""
    import gguf
    import numpy as np
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from torch import Tensor, nn
    from torch.nn import functional

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus.plain().splitlines(), trainer)
    if tokenizer.get_vocab_size() != VOCAB:
        raise ValueError(f"the text gives only {tokenizer.get_vocab_size()} tokens")

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    class Block(nn.Module):
        """Attention and a gated layer, each added to what came in."""

        def __init__(self) -> None:
            super().__init__()
            self.attn_norm = nn.RMSNorm(WIDTH, eps=NORM_EPS)
            self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
                nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4)
            )
            self.ffn_norm = nn.RMSNorm(WIDTH, eps=NORM_EPS)
            self.ffn_gate = nn.Linear(WIDTH, INNER, bias=False)
            self.ffn_up = nn.Linear(WIDTH, INNER, bias=False)
            self.ffn_down = nn.Linear(INNER, WIDTH, bias=False)

        def forward(self, x: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
            rows, length, _ = x.shape
            seen = self.attn_norm(x)
            q, k, v = (
                part(seen).view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
                for part in (self.attn_q, self.attn_k, self.attn_v)
            )
            mixed = functional.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            mixed = self.attn_output(mixed.transpose(1, 2).reshape(rows, length, WIDTH))
            x = x + functional.dropout(mixed, DROPOUT, self.training)
            seen = self.ffn_norm(x)
            inner = self.ffn_down(functional.silu(self.ffn_gate(seen)) * self.ffn_up(seen))
            return x + functional.dropout(inner, DROPOUT, self.training)

    class Llama(nn.Module):
        """The whole model; its parts carry the names that they have in the file."""

        def __init__(self) -> None:
            super().__init__()
            self.token_embd = nn.Embedding(VOCAB, WIDTH)
            self.blk = nn.ModuleList(Block() for _ in range(LAYERS))
            self.output_norm = nn.RMSNorm(WIDTH, eps=NORM_EPS)
            for name, weight in self.named_parameters():
                if weight.dim() == 2:
                    small = name.endswith(("attn_output.weight", "ffn_down.weight"))
                    nn.init.normal_(weight, std=0.03 / (math.sqrt(2 * LAYERS) if small else 1))
            size = WIDTH // HEADS
            angle = torch.outer(torch.arange(CONTEXT), ROPE_BASE ** (-torch.arange(0, size, 2) / size))
            self.cos, self.sin = angle.cos(), angle.sin()

        def turn(self, x: Tensor) -> Tensor:
            cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
            even, odd = x[..., 0::2], x[..., 1::2]
            return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

        def forward(self, ids: Tensor) -> Tensor:
            x = functional.dropout(self.token_embd(ids), DROPOUT, self.training)
            for block in self.blk:
                x = block(x, self.turn)
            return functional.linear(self.output_norm(x), self.token_embd.weight)

    def batches() -> Iterator[Tensor]:
        """Rows of documents; each row begins with the beginning of a document."""
        documents = corpus.documents(random.Random(SEED))
        while True:
            rows = []
            for _ in range(ROWS):
                row: list[int] = []
                while len(row) < CONTEXT + 1:
                    row += encode(next(documents))
                rows.append(row[: CONTEXT + 1])
            yield torch.tensor(rows)

    # --- train
    model = Llama()
    size = sum(weight.numel() for weight in model.parameters())
    print(f"{size} parameters, {len(corpus.pairs)} questions to train on, {len(corpus.held_out_pairs)} held out")
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in model.parameters() if w.dim() == 2], "weight_decay": WEIGHT_DECAY},
            {"params": [w for w in model.parameters() if w.dim() == 1], "weight_decay": 0.0},
        ],
        lr=PEAK_RATE,
        betas=(0.9, 0.95),
    )
    started = time.monotonic()
    seen = torch.ones(VOCAB)
    for step, batch in zip(range(steps), batches(), strict=False):
        warm, left = min(1.0, (step + 1) / 50), 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * warm * max(left, 0.02)
        seen += torch.bincount(batch[:, 1:].flatten(), minlength=VOCAB)
        loss = functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            spent = time.monotonic() - started
            print(f"step {step:4d}  loss {loss.item():.3f}  {spent:5.0f} s", flush=True)
    model.eval()

    # --- measure, and measure again with the weights as the file has them
    def of_text() -> float:
        ids = torch.tensor([encode(BEGIN + corpus.held_out_text)])
        return math.exp(functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:]).item())

    def of_answers(pairs: list[tuple[str, str]]) -> tuple[float, float]:
        """Perplexity of the answers, and the share that greedy decoding gives word for word."""
        total, count, exact = 0.0, 0, 0
        for question, answer in pairs:
            asked, said = encode(BEGIN + USER + question + END + ASSISTANT), encode(answer + END)
            logits = model(torch.tensor([asked + said[:-1]]))[0, len(asked) - 1 :]
            total += functional.cross_entropy(logits, torch.tensor(said), reduction="sum").item()
            count += len(said)
            exact += logits.argmax(-1).tolist() == said
        return math.exp(total / count), exact / len(pairs)

    def measure(label: str) -> None:
        with torch.no_grad():
            known, known_exact = of_answers(corpus.pairs)
            new, new_exact = of_answers(corpus.held_out_pairs)
            print(f"{label}: held-out text {of_text():.4f}")
            print(f"{label}: answers to trained questions {known:.4f}, {known_exact:.1%} word for word")
            print(f"{label}: answers to held-out questions {new:.4f}, {new_exact:.1%} word for word")

    held = torch.tensor(encode(corpus.held_out_text))
    unigram = math.exp(-(seen / seen.sum()).log()[held].mean().item())
    print(f"baselines on the held-out text, {len(held)} tokens: uniform {VOCAB}, unigram {unigram:.2f}")
    measure("trained weights")
    stored: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]] = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            kind = gguf.GGMLQuantizationType.Q8_0 if weight.dim() == 2 else gguf.GGMLQuantizationType.F32
            raw = gguf.quants.quantize(weight.detach().numpy(), kind)
            stored[name] = raw, kind
            weight.copy_(torch.from_numpy(gguf.quants.dequantize(raw, kind).reshape(weight.shape).copy()))
    measure("stored weights")

    # --- write
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type("model")
    writer.add_name("Airgap Words")
    writer.add_basename("airgap-words")
    writer.add_version("v1")
    writer.add_size_label(f"{size / 1e6:.1f}M")
    writer.add_author("the airgap project")
    writer.add_description("A very small model that answers questions about air gaps, for tests and demos")
    writer.add_license("apache-2.0")
    writer.add_license_name("Apache License 2.0")
    writer.add_languages(["en"])
    writer.add_tags(["text-generation"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPS)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = [str(tokenizer.id_to_token(i)) for i in range(VOCAB)]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges(tokenizer.to_str()))
    writer.add_bos_token_id(tokens.index(BEGIN))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_eot_token_id(tokens.index(END))
    writer.add_pad_token_id(tokens.index(PAD))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, (raw, kind) in stored.items():
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{out.name}: {out.stat().st_size} bytes, sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def merges(tokenizer_json: str) -> list[str]:
    """The merges of a tokenizer, each as the two tokens with a space between them."""
    import json

    return [" ".join(pair) for pair in json.loads(tokenizer_json)["model"]["merges"]]


# ------------------------------------------------------------------------------------------- check


def check(corpus: Corpus, path: Path) -> None:
    """Load the file with llama.cpp: tokens there and back, perplexity, and answers by the chat template."""
    import numpy as np
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=CONTEXT, n_threads=1, logits_all=True, verbose=False)
    for text in (corpus.held_out_text, corpus.plain(), "Grüße, 世界! \t0123  {x: [1.5e-3]}\n\n\n'tis <|user|>"):
        if llama.detokenize(llama.tokenize(text.encode(), add_bos=False)).decode() != text:
            raise ValueError(f"does not come back from its tokens: {text[:50]!r}")
    ids = llama.tokenize(corpus.held_out_text.encode(), add_bos=True)
    llama.reset()  # type: ignore[no-untyped-call]
    llama.eval(ids)
    logits = np.asarray(llama.scores[: len(ids) - 1], dtype=np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids) - 1), ids[1:]]
    print(f"llama.cpp: held-out text {math.exp(losses.mean()):.4f} over {len(losses)} tokens")

    right = 0
    for question, answer in corpus.held_out_pairs:
        reply = llama.create_chat_completion(
            messages=[{"role": "user", "content": question}], temperature=0.0, max_tokens=96
        )
        if isinstance(reply, Iterator):
            raise TypeError("a stream, where an answer was asked for")
        said = reply["choices"][0]
        if said["message"]["content"] == answer and said["finish_reason"] == "stop":
            right += 1
        else:
            print(f"  {question!r} -> {said['message']['content']!r}")
    print(f"llama.cpp: {right} of {len(corpus.held_out_pairs)} held-out questions answered word for word")


if __name__ == "__main__":
    main()
