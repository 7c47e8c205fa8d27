"""Tokens per second of supervised tuning: ours and trl's SFTTrainer, on real conversations.

    python benchmarks/tuning.py --trl PYTHON [--steps 8] [--rounds 5] [--threads 1]

PYTHON is the interpreter of an environment with trl, datasets and torch. Both sides begin with the
same random weights and are given the same encoded conversations, each cut to the window, with the
same mask of what is learned; a step of each is eight rows of the window, forward, backward, clipped
and applied by AdamW in bfloat16. The loss that both find on the same rows in float32 must agree
before anything is timed. A token counts whether it is learned or read as context; filling does not.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.judging import SIZES, learned
from benchmarks.peers import RECORDS, Step, compare, parser, serve, table

CONVERSATIONS = RECORDS / "lima" / "lima_train_gair_shape_400.jsonl"
WINDOW, BATCH, CHECKED = 512, 8, 16
OURS = ("ours padded", "ours packed")
THEIRS = ("trl padded", "trl packed", "trl packed 1x8", "trl packed 1x8 eager")
TOLERANCE = 2e-5  # of a loss in nats, float32 sums in another order


class Side(NamedTuple):
    """One program, ready: `check` is its loss on the first rows, `per_epoch` its optimizer steps in
    an epoch, `step` takes one."""

    check: float
    per_epoch: int
    step: Callable[[], None]


def prepare(folder: Path, size: str, rows: int) -> None:
    """Weights, tokenizer and encoded conversations in `folder`, as both sides read them."""
    import torch

    from model.config import ModelConfig
    from model.gpt import GPT
    from model.huggingface.config import config_to_hf
    from model.huggingface.weights import state_to_hf
    from model.tensors import write_tensors

    torch.manual_seed(0)
    shape = SIZES[size] | {"num_kv_heads": SIZES[size]["num_heads"]}
    config = ModelConfig(**shape, max_position_embeddings=WINDOW, initializer_range=0.05)
    tokenizer = learned(config.vocab_size, folder)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    ends = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    (folder / "config.json").write_text(json.dumps(config_to_hf(config, **ends, pad_token_id=0)))
    write_tensors(folder / "model.safetensors", state_to_hf(GPT(config)))
    lines = CONVERSATIONS.read_text("utf-8").splitlines()[:rows]
    encoded = [_encode(tokenizer, *json.loads(line)["conversations"][:2]) for line in lines]
    (folder / "rows.json").write_text(json.dumps(encoded))
    _write_set(folder / "set", encoded, tokenizer)


def _write_set(folder: Path, rows: list[dict[str, list[int]]], tokenizer: Any) -> None:
    """The same rows as a set that `sft` learns from."""
    import numpy as np

    from pipeline.conversations.conversation import Conversation
    from pipeline.conversations.example_set import KIND, Example, ExampleMetadata, write_examples
    from pipeline.tokens.metadata import TokenizerRecord
    from utils.artefacts import build_folder

    examples = [
        Example(np.asarray(row["input_ids"]), np.asarray(row["completion_mask"], np.uint8))
        for row in rows
    ]
    record = TokenizerRecord(
        tokenizer.name, "", tokenizer.fingerprint, tokenizer.vocab_size, tokenizer.bos_id,
        tokenizer.eos_id,
    )  # fmt: skip
    metadata = ExampleMetadata(
        name="lima", kind="conversations", sources=[], tokenizer=record, template_sha256="",
        max_length=WINDOW, read=len(rows), kept=len(rows), rejected={}, shapes={}, rules={},
        turns=2 * len(rows), tokens=sum(len(example.ids) for example in examples),
        learned_tokens=sum(int(example.learned.sum()) for example in examples), lengths={},
        longer={}, held_out=[],
    )  # fmt: skip
    texts = [Conversation((), str(number)) for number in range(len(rows))]
    with build_folder(folder, kind=KIND, command="lima", options={}) as builder:
        write_examples(builder, metadata, texts, examples)


def _encode(tokenizer: Any, question: str, answer: str) -> dict[str, list[int]]:
    """Ids of the default template, and which of them are learned: the answer and its end."""
    before = [tokenizer.bos_id, *tokenizer.encode(f"User: {question}\nAssistant:")]
    after = [*tokenizer.encode(f" {answer}"), tokenizer.eos_id]
    mask = [0] * len(before) + [1] * len(after)
    return {"input_ids": (before + after)[:WINDOW], "completion_mask": mask[:WINDOW]}


def theirs(folder: Path, rows: list[dict[str, list[int]]], words: list[str]) -> Side:
    """Runs in an environment that need not hold what we depend on."""
    import threading

    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    kernel = "eager" if "eager" in words else "sdpa"
    alone = "1x8" in words
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def trainer(some: list[dict[str, list[int]]], **switches: Any) -> Any:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=kernel
        )
        settings = SFTConfig(
            output_dir=str(folder / "out"), use_cpu=True, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, num_train_epochs=1000, learning_rate=1e-5,
            max_length=WINDOW, completion_only_loss=True, packing="packed" in words,
            gradient_checkpointing=False, per_device_train_batch_size=1 if alone else BATCH,
            gradient_accumulation_steps=BATCH if alone else 1,
            train_sampling_strategy="group_by_length" if "padded" in words else "random",
            **switches,
        )  # fmt: skip
        return SFTTrainer(
            model, settings, train_dataset=Dataset.from_list(some), processing_class=tokenizer
        )

    nats = count = 0.0
    checked = trainer(rows[:CHECKED], bf16=False)
    for batch in checked.get_train_dataloader():
        scored = int((batch["labels"] >= 0).sum())
        with torch.no_grad():
            nats += scored * float(checked.compute_loss(checked.model, dict(batch)))
        count += scored

    class Gate(TrainerCallback):
        """Lets the trainer's own loop take one step at a time."""

        go, done = threading.Semaphore(0), threading.Semaphore(0)

        def on_step_begin(self, *unused: Any, **more: Any) -> None:
            self.go.acquire()

        def on_step_end(self, *unused: Any, **more: Any) -> None:
            self.done.release()

    subject, gate = trainer(rows, bf16=True), Gate()
    subject.add_callback(gate)
    threading.Thread(target=subject.train, daemon=True).start()

    def step() -> None:
        gate.go.release()
        gate.done.acquire()

    per_epoch = -(-len(subject.train_dataset) // BATCH)
    return Side(nats / count, per_epoch, step)


def ours(folder: Path, rows: list[dict[str, list[int]]], words: list[str]) -> Side:
    from utils.hardware import keep_heap

    keep_heap()
    import numpy as np
    import torch

    from model.checkpoint import load_weights
    from model.device import pick_dtype
    from model.optimizer import build_optimizer
    from pipeline.conversations.example_set import open_examples
    from pipeline.sft.batches import ConversationBatches
    from pipeline.train.objective import NextToken
    from pipeline.train.trainer import Trainer

    data, model = open_examples(folder / "set"), load_weights(folder).train()

    def batches(examples: int) -> ConversationBatches:
        return ConversationBatches(
            data, np.arange(examples), window=WINDOW, batch_size=BATCH, accumulation=1,
            packed="padded" not in words, seed=0, device=model.device,
        )  # fmt: skip

    objective = NextToken(model)
    with torch.no_grad():
        scores = [objective.score(batch) for batch in batches(CHECKED).in_order(CHECKED)]
    trainer = Trainer(
        model,
        build_optimizer(model, kind="adamw", learning_rate=1e-5, weight_decay=0.0),
        learned_from := batches(len(rows)),
        objective,
        lr_multiplier=lambda step: 1.0,
        dtype=pick_dtype("auto", model.device),
        compiled="compiled" in words,
    )
    steps = iter(range(1_000_000))
    found = sum(nats for [nats], _ in scores) / sum(count for _, count in scores)
    return Side(
        found, learned_from.steps_per_epoch, lambda: (trainer.train_step(next(steps)), None)[1]
    )


def make(variant: str, folder: Path, steps: int) -> Step:
    """A round of so many optimizer steps; what was found is written into the folder."""
    rows = json.loads((folder / "rows.json").read_text())
    side, *words = variant.split()
    made = (ours if side == "ours" else theirs)(folder, rows, words)
    (folder / f"{variant}.found").write_text(json.dumps([made.check, made.per_epoch]))
    made.step()  # warm

    def step() -> None:
        for _ in range(steps):
            made.step()

    return step


def environment(python: str | None) -> str | None:
    """The interpreter that has trl; None where there is none."""
    if python is None:
        return sys.executable if importlib.util.find_spec("trl") else None
    done = subprocess.run([python, "-c", "import trl"], capture_output=True, text=True)
    return None if done.returncode else python


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--trl",
        default=os.environ.get("TRL_PYTHON"),
        help="interpreter of an environment with trl; default: TRL_PYTHON, else this one",
    )
    arguments.add_argument("--size", choices=SIZES, default="25M")
    arguments.add_argument("--rows", type=int, default=400, help="conversations")
    arguments.add_argument("--steps", type=int, default=8, help="optimizer steps of a round")
    arguments.add_argument("--threads", type=int, help="of each program; default: what it takes")
    arguments.add_argument("--only", nargs="*", help="variants to run")
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.variant:
        serve(make(options.variant, options.folder, options.steps), warm_up=0, steps=1)
        return
    python = environment(options.trl)
    if python is None:
        print("trl is not here: its rows are left out; give --trl PYTHON")
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    variants = options.only or [*(THEIRS if python else ()), *OURS]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, options.size, options.rows)
        times = compare(
            __file__, variants, rounds=options.rounds,
            extra=["--folder", place, "--steps", str(options.steps)],
            interpreters={name: python for name in THEIRS if python},
        )  # fmt: skip
        epochs = {
            name: [seconds * per_epoch / options.steps for seconds in times[name]]
            for name, per_epoch in check(folder, variants)
        }
        rows = json.loads((folder / "rows.json").read_text())
    tokens = sum(len(row["input_ids"]) for row in rows)
    scored = sum(sum(row["completion_mask"]) for row in rows)
    print(f"\n{options.size}, {len(rows)} conversations: {tokens:,} tokens, {scored:,} learned")
    table(epochs, tokens, "tokens", variants[0])


def check(folder: Path, variants: list[str]) -> Iterator[tuple[str, int]]:
    """Each variant with its optimizer steps in an epoch.

    Raises:
        SystemExit: programs find different losses, which are not to be compared.
    """
    found = {name: json.loads((folder / f"{name}.found").read_text()) for name in variants}
    first = found[variants[0]][0]
    for name, (loss, per_epoch) in found.items():
        if abs(loss - first) > TOLERANCE * first:
            raise SystemExit(f"{name} finds a loss of {loss}, {variants[0]} of {first}")
        yield name, per_epoch


if __name__ == "__main__":
    main()
