"""Tokens per second of writing: ours, transformers and llama.cpp with the same weights.

    python benchmarks/generation.py [--sizes 6M 25M 110M] [--batches 1 8] [--prompt 512]

Random weights, greedy. In float32 every program must write the same text before it is timed; a row
counts as ours as `python main.py inference` computes it. llama.cpp and its GGUF files need the
packages llama-cpp-python and gguf; without them its rows are left out. With `--prompt N` what is
measured is the time from N prompt ids to the first new one.
"""

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import Step, compare, parser, serve, table

if TYPE_CHECKING:
    from model.gpt import GPT

SIZES = {
    "6M": {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "vocab_size": 4096},
    "25M": {"hidden_size": 384, "num_layers": 8, "num_heads": 6, "vocab_size": 32000},
    "110M": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "vocab_size": 32000},
}
NEW = 64  # tokens of one text
CONTEXT = 1024
CHECKED = 24  # tokens that every program must agree on in float32
OURS = ("ours fp32", "ours bf16", "ours int8", "ours int4")
THEIRS = ("transformers fp32", "transformers bf16", "transformers fp32 static")
LLAMA = ("llama.cpp f32", "llama.cpp f16", "llama.cpp bf16", "llama.cpp q8_0")

Write = Callable[[Sequence[Sequence[int]], int], list[list[int]]]
"""Continues prompts by so many ids each; returns the new ones."""


def build(size: str) -> "GPT":
    """The model of that size; the same in every process."""
    import torch

    from model.config import ModelConfig
    from model.gpt import GPT

    torch.manual_seed(0)
    shape: dict[str, Any] = SIZES[size] | {"num_kv_heads": SIZES[size]["num_heads"]}
    config = ModelConfig(**shape, max_position_embeddings=CONTEXT, initializer_range=0.1)
    return GPT(config).eval()


def ours(model: "GPT", form: str) -> Write:
    import torch

    from model.generation.batch import BatchScheduler
    from model.generation.runner import runner_for
    from model.generation.sampling import SamplingSettings
    from model.quantization.model import QuantizedGPT

    if form in ("int8", "int4"):
        device, state = torch.device("cpu"), dict(model.state_dict())
        model = QuantizedGPT(model.config, state, form, device, torch.float32)  # type: ignore[arg-type]
    elif form == "bf16":
        model = model.to(torch.bfloat16)
    runner = runner_for(model)

    def write(prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        batch = BatchScheduler(runner, len(prompts))
        settings = SamplingSettings(temperature=0, max_new_tokens=count)
        texts: dict[int | None, list[int]] = {batch.join(p, settings): [] for p in prompts}
        while batch:
            for token in batch.step():
                texts[token.row].append(token.id)
        return list(texts.values())

    return write


def transformers(model: "GPT", words: Sequence[str]) -> Write:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from model.huggingface.config import config_to_hf
    from model.huggingface.weights import state_to_hf

    theirs = LlamaForCausalLM(LlamaConfig(**config_to_hf(model.config))).eval()
    theirs.load_state_dict(state_to_hf(model), strict=False)
    if "bf16" in words:
        theirs = theirs.to(torch.bfloat16)
    kind = {"cache_implementation": "static"} if "static" in words else {}

    def write(prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            texts = theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count,
                min_new_tokens=count, do_sample=False, pad_token_id=0, **kind,
            )  # fmt: skip
        return [text[len(prompts[0]) :] for text in texts.tolist()]

    return write


def llama_cpp(model: "GPT", form: str) -> Write:
    """llama.cpp called with ids, the likeliest token taken here: nothing but its decoding."""
    import llama_cpp as library

    from model.generation.runner import Chunk
    from pipeline.export.gguf_model import GgufModel
    from pipeline.inference.llama_cpp import LlamaRunner, _listener

    library.llama_log_set(_listener(), None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.gguf")
        for _ in GgufModel(model, None, None, "model", form).write(file):
            pass
        runner = LlamaRunner(library, file, exact=form == "f32")

    def write(prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        texts: list[list[int]] = [[] for _ in prompts]
        chunks = [Chunk(slot, 0, prompt) for slot, prompt in enumerate(prompts)]
        for _ in range(count):
            chosen = runner.forward(chunks).argmax(dim=1).tolist()
            for text, token in zip(texts, chosen, strict=True):
                text.append(token)
            chunks = [
                Chunk(slot, len(prompts[slot]) + len(texts[slot]) - 1, [token])
                for slot, token in enumerate(chosen)
            ]
        return texts

    return write


def make(variant: str, size: str, batch: int, prompt: int) -> Step:
    """One step: `batch` texts of `NEW` ids, or one new id after a prompt of `prompt` ids."""
    import torch

    model = build(size)
    words = variant.split()
    reference = None
    if "fp32" in words or "f32" in words:
        reference = uncached(model)
    if "transformers" in words:
        write = transformers(model, words)
    else:
        write = (ours if "ours" in words else llama_cpp)(model, words[1])
    if reference is not None and write([[1, 2, 3]], CHECKED)[0] != reference:
        raise SystemExit(f"{variant} writes another text")
    length, count = (prompt, 1) if prompt else (8, NEW)
    rows = torch.randint(0, model.config.vocab_size, (batch, length)).tolist()
    turn = iter(range(1_000_000))

    def step() -> None:
        """A first id of its own each time: nobody may remember the prompt."""
        first = next(turn) % model.config.vocab_size
        write([[first, *row[1:]] for row in rows], count)

    return step


def uncached(model: "GPT") -> list[int]:
    """The likeliest continuation of [1, 2, 3], computed the slow way."""
    import torch

    ids = [1, 2, 3]
    with torch.inference_mode():
        while len(ids) < 3 + CHECKED:
            ids.append(int(model.logits(model.hidden(torch.tensor([ids]))[0, -1]).argmax()))
    return ids[3:]


def bandwidth() -> float:
    """Bytes per second that reading 512 MiB reaches here, with all threads; the best of ten."""
    import time

    import torch

    data = torch.ones(1 << 27)
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        data.sum()
        seconds.append(time.perf_counter() - begin)
    return data.nbytes / min(seconds)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    arguments.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    arguments.add_argument("--prompt", type=int, default=0, help="measure reading so many ids")
    arguments.add_argument("--only", nargs="*", help="variants to run")
    options = arguments.parse_args()
    if options.variant:
        step = make(options.variant, options.sizes[0], options.batches[0], options.prompt)
        serve(step, warm_up=2, steps=1)
        return
    theirs = LLAMA if importlib.util.find_spec("llama_cpp") else ()
    variants = options.only or [*THEIRS, *OURS, *theirs]
    for size in options.sizes:
        for batch in options.batches:
            extra = ["--sizes", size, "--batches", str(batch), "--prompt", str(options.prompt)]
            print(f"\n{size}, {batch} {'text' if batch == 1 else 'texts'} together")
            times = compare(__file__, variants, rounds=options.rounds, extra=extra)
            work = batch * (options.prompt or NEW)
            table(times, work, "tokens", variants[0])
            if options.prompt:
                for name, seconds in times.items():
                    print(f"{name:28}{1000 * statistics.median(seconds):10.1f} ms to the first")
    speed = bandwidth()
    from model.config import parameter_count

    print(f"\nMemory reads {speed / 1e9:.1f} GB/s: one text can be no faster than, in tokens/s,")
    for size in options.sizes:
        weights = parameter_count(build(size).config)
        limits = (f"{bits} bit {speed / (weights * bits / 8):,.0f}" for bits in (32, 16, 8))
        print(f"{size:8}{weights / 1e6:6.1f} M   {'   '.join(limits)}")


if __name__ == "__main__":
    main()
