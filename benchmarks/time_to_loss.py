"""Time to nanoGPT's validation loss on tinyshakespeare characters, on a CPU.

    python benchmarks/time_to_loss.py [path/to/input.txt] [--rounds 3]

The peer is nanoGPT's CPU recipe written anew in plain PyTorch: 4 layers, 128 wide, 4 heads,
context 64, batch 12, 2000 steps of AdamW at 1e-3 with cosine decay, fp32, eager (its README,
"I only have a macbook"). Ours is this project's model and trainer with the sprint recipe. Both
learn the first 90 % of the text and are scored on all of the last 10 %; the clock runs while
training only, and beside it stands the time of the whole process.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import RECORDS, parser
from utils.hardware import keep_heap

if TYPE_CHECKING:
    from torch import Tensor

WINDOW, BATCH = 64, 12
SPRINT = {
    "hidden_size": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 4,
    "max_position_embeddings": WINDOW, "rope_theta": 1000.0, "mlp": "relu2",
    "norm_gain": False, "qk_norm": True, "embedding_norm": True, "zero_init": True,
    "embedding_range": 1.0, "initializer_range": 0.05, "tie_word_embeddings": False,
    "attention": "math",
}  # fmt: skip
SPRINT_STEPS = 330


def ours(text: str, compiled: bool) -> Callable[[], tuple[float, float]]:
    """Training with the project's own parts; returns seconds and validation loss."""
    keep_heap()
    import torch

    from model.config import ModelConfig
    from model.device import pick_dtype
    from model.gpt import GPT
    from model.optimizer import build_optimizer
    from pipeline.train.objective import NextToken
    from pipeline.train.trainer import Trainer
    from utils.scheduler import lr_multiplier

    train, held_out, vocabulary = _tokens(text)
    windows = train.unfold(0, WINDOW + 1, 1)
    starts = torch.randint(
        len(windows), (SPRINT_STEPS, BATCH), generator=torch.Generator().manual_seed(1)
    )

    class Batches:
        def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            rows = windows[starts[number]]
            return rows[:, :-1], rows[:, 1:]

    def trainer() -> Trainer:
        torch.manual_seed(0)
        model = GPT(ModelConfig(vocab_size=vocabulary, **SPRINT))
        return Trainer(
            model,
            build_optimizer(
                model, kind="muon", learning_rate=5e-3, matrix_learning_rate=2e-2,
                weight_decay=0.0, betas=(0.8, 0.95),
            ),
            Batches(),
            NextToken(model),
            lr_multiplier=lambda step: lr_multiplier(
                step, SPRINT_STEPS, schedule="wsd", warmup_steps=20, cooldown=0.5, min_ratio=0.0
            ),
            gradient_clip=None,
            dtype=pick_dtype("auto", model.device),
            compiled=compiled,
        )  # fmt: skip

    def run() -> tuple[float, float]:
        if compiled:
            trainer().train_step(0)
        subject = trainer()
        begin = time.perf_counter()
        for step in range(SPRINT_STEPS):
            subject.train_step(step)
        seconds = time.perf_counter() - begin
        inputs, targets = held_out
        batches = zip(inputs.split(256), targets.split(256), strict=True)
        return seconds, subject.evaluate(batches).loss

    return run


def peer(text: str, _compiled: bool) -> Callable[[], tuple[float, float]]:
    """nanoGPT's CPU recipe in plain PyTorch."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    width, heads, layers, steps = 128, 4, 4, 2000
    train, held_out, vocabulary = _tokens(text)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.up = nn.Linear(width, 4 * width, bias=False)
            self.down = nn.Linear(4 * width, width, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            size = x.shape
            parts = self.qkv(self.norm1(x)).view(*size[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(size))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(WINDOW, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width, bias=False)
            for name, parameter in self.named_parameters():
                if parameter.ndim > 1:
                    narrow = name.endswith(("out.weight", "down.weight"))
                    std = 0.02 / math.sqrt(2 * layers) if narrow else 0.02
                    nn.init.normal_(parameter, std=std)

        def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
            x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = F.linear(self.norm(x), self.tokens.weight)
            return F.cross_entropy(logits.view(-1, vocabulary), targets.reshape(-1))

    def rate(step: int) -> float:
        if step < 100:
            return 1e-3 * (step + 1) / 101
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / (steps - 100))) * 9e-4

    def run() -> tuple[float, float]:
        torch.manual_seed(1337)
        model = Model()
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        begin = time.perf_counter()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            picks = torch.randint(len(train) - WINDOW, (BATCH,)).tolist()
            inputs = torch.stack([train[i : i + WINDOW] for i in picks])
            targets = torch.stack([train[i + 1 : i + 1 + WINDOW] for i in picks])
            loss = model(inputs, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - begin
        with torch.no_grad():
            pairs = zip(*(part.split(256) for part in held_out), strict=True)
            total = sum(float(model(x, y)) * len(x) for x, y in pairs)
        return seconds, total / len(held_out[0])

    return run


def _tokens(text: str) -> tuple["Tensor", tuple["Tensor", "Tensor"], int]:
    """Training ids, the validation set as windows and their targets, and the vocabulary size."""
    import torch

    characters = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([characters[c] for c in text])
    border = int(0.9 * len(ids))
    rest = ids[border:]
    count = (len(rest) - 1) // WINDOW
    inputs = rest[: count * WINDOW].view(count, WINDOW)
    targets = rest[1 : count * WINDOW + 1].view(count, WINDOW)
    return ids[:border], (inputs, targets), len(characters)


VARIANTS = {"nanoGPT recipe": (peer, False), "ours": (ours, False), "ours compiled": (ours, True)}


def main() -> None:
    arguments = parser(__doc__)
    text = RECORDS / "tinyshakespeare" / "input.txt"
    arguments.add_argument("input", type=Path, nargs="?", default=text, help="its input.txt")
    arguments.add_argument("--only", nargs="*", default=list(VARIANTS))
    options = arguments.parse_args()
    if options.variant:
        make, compiled = VARIANTS[options.variant]
        print(json.dumps(make(options.input.read_text("utf-8"), compiled)()))
        return
    if not options.input.is_file():
        sys.exit(f"There is no {options.input}: give tinyshakespeare's input.txt")
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.only}
    for _ in range(options.rounds):
        for name in options.only:
            begin = time.perf_counter()
            command = [sys.executable, __file__, str(options.input), "--variant", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, loss = json.loads(done.stdout.splitlines()[-1])
            results[name].append((seconds, time.perf_counter() - begin, loss))
            print(f"  {name}: {seconds:.1f} s, loss {loss:.4f}", file=sys.stderr)
    print(f"{'':18}{'loss':>8}{'training s':>12}{'ratio':>8}{'process s':>12}{'ratio':>8}")
    medians = {n: [statistics.median(c) for c in zip(*r, strict=True)] for n, r in results.items()}
    base = medians[options.only[0]]
    for name, (seconds, process, loss) in medians.items():
        print(
            f"{name:18}{loss:8.4f}{seconds:12.1f}{base[0] / seconds:8.1f}"
            f"{process:12.1f}{base[1] / process:8.1f}"
        )


if __name__ == "__main__":
    main()
