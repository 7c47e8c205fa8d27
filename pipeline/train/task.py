"""What a session of training learns from and is measured by, whatever it trains."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from model.generation.sampling import SamplingSettings
from model.gpt import GPT
from model.language_model import generate
from pipeline.events import Sample
from pipeline.tokenizer.tokenizer import StreamDecoder, Tokenizer
from pipeline.train.benchmarks import StepBenchmark
from pipeline.train.objective import Batch, Objective
from pipeline.train.trainer import Batches

_SAMPLE_TOKENS = 60


@dataclass(frozen=True)
class Task:
    """`batches` are micro-batches by number, `objective` what is minimised over them;
    `held_out(n)` gives at most n batches to be measured by, and `bytes_per_target` says how much
    text a target of theirs stands for, where that is known.

    `samples` lets the model write at a step, `texts` says what a micro-batch reads, for a person.
    `benchmark` are items of tasks, asked every `benchmark_every` steps. `measures_first` says
    whether the held-out batches are measured before the first step too. `keeps_epochs` says
    whether the checkpoint at the end of each epoch is kept.
    """

    batches: Batches
    objective: Objective
    held_out: Callable[[int], Iterable[Batch]]
    samples: Callable[[GPT, int], Iterator[Sample]]
    texts: Callable[[int], Sequence[dict[str, Any]]]
    bytes_per_target: float | None = None
    benchmark: StepBenchmark | None = None
    benchmark_every: int | None = None
    measures_first: bool = False
    keeps_epochs: bool = False


def write_sample(
    model: GPT,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    step: int,
    *,
    prompt: str,
    ends: frozenset[int],
    length: int = _SAMPLE_TOKENS,
) -> Sample:
    """Let `model` go on after `ids`, which stand for `prompt`, until one of `ends`.

    The step is the seed, and the training's random numbers are not touched: a resumed run writes
    the same samples as an undisturbed one.
    """
    begun = list(ids)
    settings = SamplingSettings(
        max_new_tokens=length, seed=step, stop_ids=ends, vocabulary=tokenizer.vocab_size
    )
    model.eval()
    new = generate(model, [begun], settings)[0][len(begun) :]
    model.train()
    decoder = StreamDecoder(tokenizer, after=begun)
    text = "".join(map(decoder.push, new)) + decoder.flush()
    return Sample(text, prompt=prompt, step=step, token_ids=new)


def document_start(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], frozenset[int]]:
    """The ids of a document that begins with `prompt`, and what ends it."""
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    ids = [] if start is None else [start]
    ids += tokenizer.encode(prompt) if prompt or not ids else []
    return ids, frozenset(() if tokenizer.eos_id in (None, start) else (tokenizer.eos_id,))
