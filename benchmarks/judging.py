"""Items per second of judging: ours and lm-evaluation-harness with its hf backend.

    python benchmarks/judging.py --harness PYTHON [--tasks hellaswag arc_easy wikitext]
        [--threads 1]

PYTHON is the interpreter of an environment with lm-eval, torch and transformers. Both sides read
the same folder with random weights and get the same texts; a round is from those texts to their
likelihoods, encoding included, data and models being in memory before. What both find must agree
before anything is timed.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import RECORDS, Step, compare, parser, serve, table

SIZES: dict[str, dict[str, Any]] = {
    "6M": {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "vocab_size": 4096},
    "25M": {"hidden_size": 384, "num_layers": 8, "num_heads": 6, "vocab_size": 32000},
}
FILES = {
    "hellaswag": "hellaswag/hellaswag_val_derived_300.jsonl",
    "arc_easy": "evaluation/arc_easy.jsonl",
    "wikitext": "wikitext-2/wiki.test.raw.part1_crlf.txt",
}
OURS = "ours"
HARNESS = ("lm-eval, batch 1", "lm-eval, batch 8", "lm-eval, batch 32")
TOLERANCE = 2e-5  # of a likelihood, float32 sums in another order

Ask = Callable[[], list[float]]
"""Likelihoods in nats of all requests, or of all documents."""


def prepare(folder: Path, size: str, context: int, items: int) -> None:
    """Weights, tokenizer and texts in `folder`, as both sides read them."""
    import torch

    from model.config import ModelConfig
    from model.gpt import GPT
    from model.huggingface.config import config_to_hf
    from model.huggingface.weights import state_to_hf
    from model.tensors import write_tensors
    from pipeline.evaluation.data import read_local
    from pipeline.evaluation.tasks import TASKS

    torch.manual_seed(0)
    shape = SIZES[size] | {"num_kv_heads": SIZES[size]["num_heads"]}
    config = ModelConfig(**shape, max_position_embeddings=context, initializer_range=0.1)
    tokenizer = learned(config.vocab_size, folder)
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    described = config_to_hf(
        config, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id, pad_token_id=None
    )
    del described["hatchery"]  # weights of others: both sides put nothing before a context
    (folder / "config.json").write_text(json.dumps(described))
    write_tensors(folder / "model.safetensors", state_to_hf(GPT(config)))
    for name, file in FILES.items():
        task = TASKS[name]
        data = read_local(task, RECORDS / file).sample(items).items
        requests = [list(request) for item in data for request in item.requests]
        (folder / f"{name}.json").write_text(json.dumps({"items": len(data), "asked": requests}))


def learned(vocabulary: int, folder: Path) -> Any:
    """A tokenizer of `vocabulary` ids from the records' prose."""
    from threading import Event

    from pipeline.tokenizer.tokenizer import Tokenizer
    from pipeline.tokenizer.train import ROLES, TrainingTexts, learn

    texts = [(RECORDS / "wikitext-2" / "valid.txt").read_text("utf-8")]
    texts.append((RECORDS / "tinyshakespeare" / "input.txt").read_text("utf-8"))
    lines = (RECORDS / "web-text" / "c4_demo_300.jsonl").read_text("utf-8").splitlines()
    texts += [json.loads(line)["text"] for line in lines]
    rows = [{"id": str(n), "title": "", "text": text} for n, text in enumerate(texts)]
    file = folder / "cleaned_0.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stop = Event()
    steps = learn("bpe", vocabulary, TrainingTexts([file], 1 << 30, stop), stop)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            spec = end.value | {"post_processor": None}  # nobody puts BOS before a text: see NOTES
            return Tokenizer(spec, "learned", ROLES)


def ours(folder: Path, task: str, batch_tokens: int | None) -> Ask:
    from threading import Event

    import torch

    from model.checkpoint import load_weights
    from pipeline.evaluation.scoring import Judge
    from pipeline.evaluation.tasks.task import DocumentTask, Item, Task
    from pipeline.runs.text_bounds import text_bounds
    from pipeline.tokenizer.load import tokenizer_of

    class Likelihoods(Task):
        """Keeps what is found, in place of a score."""

        def item(self, row: Any) -> Item:
            raise NotImplementedError

        def ratios(self, item: Item, found: Sequence[Any]) -> Any:
            return [one.logprob for one in found]

    class Documents(Likelihoods):
        texts = DocumentTask.texts

        def ratios(self, item: Item, found: Sequence[Any]) -> Any:
            return [sum(one.logprob for one in found)]

    device = torch.device("cpu")
    model = load_weights(folder, device, torch.float32).eval()
    tokenizer = tokenizer_of(folder, None, folder)
    more = {} if batch_tokens is None else {"batch_tokens": batch_tokens}
    judge = Judge("ours", model, tokenizer, text_bounds(folder, tokenizer).before, **more)
    stored = json.loads((folder / f"{task}.json").read_text())
    each = len(stored["asked"]) // stored["items"]
    pairs = [tuple(request) for request in stored["asked"]]
    asked = Documents() if task == "wikitext" else Likelihoods()
    asked.name = asked.title = task
    items = [Item(tuple(pairs[at : at + each])) for at in range(0, len(pairs), each)]

    def ask() -> list[float]:
        found = sorted(judge.scores(asked, items, Event()), key=lambda pair: pair[0])
        return [value for _, score in found for value in score.ratios]  # type: ignore[misc]

    return ask


def harness(folder: Path, task: str, batch: int) -> Ask:
    """Runs in the harness's environment, which need not hold what we depend on."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch)
    asked = json.loads((folder / f"{task}.json").read_text())["asked"]
    rolling = task == "wikitext"
    kind = "loglikelihood_rolling" if rolling else "loglikelihood"
    requests = [
        Instance(kind, {}, (request[1],) if rolling else tuple(request), number)
        for number, request in enumerate(asked)
    ]

    def ask() -> list[float]:
        if rolling:
            return list(model.loglikelihood_rolling(requests, disable_tqdm=True))
        return [sum_ for sum_, _ in model.loglikelihood(requests, disable_tqdm=True)]

    return ask


def make(variant: str, folder: Path, task: str, batch_tokens: int | None) -> Step:
    """One step: all requests; what it finds is written into the folder, to be compared."""
    if variant == OURS:
        ask = ours(folder, task, batch_tokens)
    else:
        ask = harness(folder, task, int(variant.split()[-1]))
    (folder / f"{variant} {task}.found").write_text(json.dumps(ask()))
    return lambda: ask() and None


def check(folder: Path, task: str, variants: Sequence[str]) -> None:
    """Refuse to compare programs that find different likelihoods."""
    found = [json.loads((folder / f"{name} {task}.found").read_text()) for name in variants]
    for name, values in zip(variants, found, strict=True):
        pairs = zip(found[0], values, strict=True)
        worst = max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)
        if worst > TOLERANCE:
            raise SystemExit(f"{name} and {variants[0]} differ by {worst:.2g} in {task}")


def environment(python: str | None) -> str | None:
    """The interpreter that has lm-eval; None where there is none."""
    if python is None:
        return sys.executable if importlib.util.find_spec("lm_eval") else None
    done = subprocess.run([python, "-c", "import lm_eval"], capture_output=True, text=True)
    return None if done.returncode else python


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--harness",
        default=os.environ.get("LM_EVAL_PYTHON"),
        help="interpreter of an environment with lm-eval; default: LM_EVAL_PYTHON, else this one",
    )
    arguments.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    arguments.add_argument("--tasks", nargs="*", choices=FILES, default=list(FILES))
    arguments.add_argument("--context", type=int, default=1024)
    arguments.add_argument("--items", type=int, default=100, help="items per task")
    arguments.add_argument("--batch-tokens", type=int, help="of ours, in place of its default")
    arguments.add_argument("--threads", type=int, help="of each program; default: what it takes")
    arguments.add_argument("--only", nargs="*", help="variants to run")
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.variant:
        step = make(options.variant, options.folder, options.tasks[0], options.batch_tokens)
        serve(step, warm_up=1, steps=1)
        return
    python = environment(options.harness)
    if python is None:
        print("lm-eval is not here: its rows are left out; give --harness PYTHON")
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    variants = options.only or [*(HARNESS if python else ()), OURS]
    interpreters = {name: python for name in HARNESS if python}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            prepare(folder, size, options.context, options.items)
            for task in options.tasks:
                extra = ["--folder", place, "--tasks", task]
                if options.batch_tokens:
                    extra += ["--batch-tokens", str(options.batch_tokens)]
                times = compare(
                    __file__, variants, rounds=options.rounds, extra=extra,
                    interpreters=interpreters,
                )  # fmt: skip
                check(folder, task, variants)
                items = json.loads((folder / f"{task}.json").read_text())["items"]
                print(f"\n{size}, {task}, {items} items")
                table(times, items, "items", variants[0])


if __name__ == "__main__":
    main()
