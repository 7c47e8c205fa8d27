"""Training tokens per second against transformers' Llama: equal model, batch, precision, AdamW.

    python benchmarks/training.py [--rounds 5] [--preset small]

Both sides in every switch that could be their best one: attention by SDPA or by matmul, eager or
compiled, the heap given back or kept. The ratio that counts is the best of ours, as
`python main.py train` runs it, over the best of theirs, as its users run it; the row "kept heap"
of theirs shows how much of that is the allocator alone.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import Step, compare, parser, serve, table
from utils.hardware import has_compiler, keep_heap

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, BATCH, VOCABULARY = 256, 16, 8192
SHAPE = {
    "hidden_size": 384,
    "num_layers": 6,
    "num_heads": 6,
    "num_kv_heads": 6,
    "intermediate_size": 1024,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": WINDOW,
}


def make(variant: str) -> Step:
    """One training step of `variant`: words are the side and its switches."""
    words = variant.split()
    if "ours" in words or "kept" in words:
        keep_heap()
    import torch

    torch.manual_seed(0)
    data = torch.randint(0, VOCABULARY, (8, BATCH, WINDOW + 1))
    return _ours(words, data) if "ours" in words else _theirs(words, data)


def _ours(words: list[str], data: "Tensor") -> Step:
    import torch

    from model.config import ModelConfig
    from model.device import pick_dtype
    from model.gpt import GPT
    from model.optimizer import build_optimizer
    from pipeline.train.objective import NextToken
    from pipeline.train.trainer import Trainer

    class Batches:
        def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            rows = data[number % len(data)]
            return rows[:, :-1], rows[:, 1:]

    model = GPT(ModelConfig(**SHAPE, attention="math" if "matmul" in words else "sdpa"))
    trainer = Trainer(
        model,
        build_optimizer(model, kind="adamw", learning_rate=3e-4),
        Batches(),
        NextToken(model),
        lr_multiplier=lambda step: 1.0,
        dtype=pick_dtype("auto", model.device),
        compiled="compiled" in words,
    )
    steps = iter(range(1_000_000))
    return lambda: (trainer.train_step(next(steps)), None)[1]


def _theirs(words: list[str], data: "Tensor") -> Step:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from model.device import autocast, pick_dtype

    config = LlamaConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        intermediate_size=1024, vocab_size=VOCABULARY, max_position_embeddings=WINDOW,
        tie_word_embeddings=True, use_cache=False,
        attn_implementation="eager" if "matmul" in words else "sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    device = torch.device("cpu")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    call = torch.compile(model, dynamic=False) if "compiled" in words else model
    rows = iter(range(1_000_000))

    def step() -> None:
        ids = data[next(rows) % len(data), :, :-1]
        with autocast(device, pick_dtype("auto", device)):
            loss = call(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="*", help="variants to run")
    options = arguments.parse_args()
    if options.variant:
        serve(make(options.variant), warm_up=3, steps=2)
        return
    switches = ["sdpa", "matmul"]
    if has_compiler():
        switches += ["sdpa compiled", "matmul compiled"]
    variants = [f"{side} {switch}" for side in ("transformers", "ours") for switch in switches]
    variants = options.only or [*variants, "transformers kept heap"]
    times = compare(__file__, variants, rounds=options.rounds)
    table(times, 2 * BATCH * WINDOW, "tokens", variants[0])


if __name__ == "__main__":
    main()
