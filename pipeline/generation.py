"""One checkpoint in memory and the texts it writes; knows nothing of runs, faces or files of
prompts."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopSignal

import torch

from model.checkpoint import CONFIG, load_weights
from model.config import parameter_count
from model.describe import read_json_object
from model.gpt import GPT
from model.sampler import NewToken, SamplingSettings, fit_prompt, stream
from pipeline.events import Delta, Event, Sample, Warned
from pipeline.options import InferenceOptions
from pipeline.tokenizer import StreamDecoder, Tokenizer
from pipeline.tokenizer_load import load_tokenizer
from utils.errors import HatcheryError, RefusedError, UsageError

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json")
_SMALL_MODEL = 16_000_000  # parameters
_LEAST_PROBABILITY = 1e-45  # what a float32 can still hold; keeps the logarithm finite


class Writer:
    """A model, its tokenizer and the name it goes by in events.

    Raises:
        RefusedError: the tokenizer has more ids than the model.
    """

    def __init__(
        self, name: str, model: GPT, tokenizer: Tokenizer, stop_ids: frozenset[int] = frozenset()
    ) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self._ends = stop_ids if tokenizer.eos_id is None else stop_ids | {tokenizer.eos_id}
        self._told_of_sliding = False
        rows = model.config.vocab_size
        if tokenizer.vocab_size > rows:
            raise RefusedError(
                f"{name} and its tokenizer do not belong together.",
                found=f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size:,} ids, the model "
                f"knows {rows:,}",
                remedy="give the one that it was trained with: --tokenizer NAME",
            )

    def write(
        self,
        prompt: str,
        options: InferenceOptions,
        *,
        seed: int,
        stop: StopSignal,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Iterator[Event]:
        """Continue `prompt` `options.samples` times together; sample r draws with seed + r.

        Yields a `Delta` for every piece of text and a `Sample` when one is complete. On `stop`
        every text ends where it is, with the finish "interrupted".

        Raises:
            UsageError: the prompt is not text, or empty where the tokenizer cannot begin one.
            HatcheryError: the model computes NaN.
        """
        whole = self._prompt_ids(prompt)
        context = self.model.config.max_position_embeddings
        ids = fit_prompt(whole, min(options.max_length, context), context)
        yield from self._notes(len(whole), len(ids), options.max_length)
        texts = [
            _Text(self, prompt, ids, index, seed if options.temperature else None)
            for index in range(options.samples)
        ]
        for text in texts:
            yield Delta("", prompt=prompt, source=self.name, index=text.index)
        steps = stream(self.model, [ids] * options.samples, self._settings(options, seed))
        seconds = 0.0  # of computing: what the reader does in between is not the model's time
        while not stop.is_set():
            begin = clock()
            with _threads_for(self.model):
                step = next(steps, None)
            seconds += clock() - begin
            if step is None:
                break
            for token in step:
                yield from texts[token.row].take(token, seconds)
        for text in texts:
            if text.finish is None:
                yield from text.end("interrupted")

    def _prompt_ids(self, prompt: str) -> list[int]:
        start = self.tokenizer.eos_id if self.tokenizer.bos_id is None else self.tokenizer.bos_id
        ids = [*([] if start is None else [start]), *self.tokenizer.encode(prompt)]
        if not ids:
            raise UsageError(
                f"{self.name} cannot begin a new document.",
                found=f"its tokenizer {self.tokenizer.name} has no token that begins or ends one",
                remedy="give a prompt that is not empty",
            )
        return ids

    def _notes(self, whole: int, kept: int, wanted: int) -> Iterator[Warned]:
        context = self.model.config.max_position_embeddings
        if kept < whole:
            yield Warned(
                f"{self.name} reads the last {kept:,} of the prompt's {whole:,} tokens: the first "
                f"{whole - kept:,} do not fit into its context of {context:,}."
            )
        if kept + wanted > context and not self._told_of_sliding:
            self._told_of_sliding = True
            yield Warned(
                f"{self.name} sees {context:,} tokens at once: past them it goes on with the newer "
                "half in sight."
            )

    def _settings(self, options: InferenceOptions, seed: int) -> SamplingSettings:
        return SamplingSettings(
            temperature=options.temperature,
            top_k=options.top_k or None,
            top_p=options.top_p,
            min_p=options.min_p or None,
            repetition_penalty=options.repetition_penalty,
            seed=seed,
            max_new_tokens=options.max_length,
            stop_ids=self._ends,
            slide=True,
            vocabulary=self.tokenizer.vocab_size,
        )


@contextmanager
def _threads_for(model: GPT) -> Iterator[None]:
    """One thread for a small model on a CPU, whose operators are shorter than waking a second.

    On 2 cores with other work on them one thread wrote 8 x as many tokens at 6 M parameters and
    15 x at 28 M; on a free machine large models want all of them.
    """
    before = torch.get_num_threads()
    small = model.device.type == "cpu" and parameter_count(model.config) < _SMALL_MODEL
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Text:
    """A text being written: its pieces, ids and what was measured."""

    writer: Writer
    prompt: str
    prompt_ids: Sequence[int]
    index: int
    seed: int | None
    finish: str | None = None
    ids: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    first: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._decoder = StreamDecoder(self.writer.tokenizer, self.prompt_ids)

    def take(self, token: NewToken, seconds: float) -> Iterator[Event]:
        """The next token, decided `seconds` after the beginning."""
        if math.isnan(token.probability):
            raise HatcheryError(
                f"{self.writer.name} computes NaN: its weights are not usable.",
                found=f"after {len(self.ids)} new tokens",
                remedy="choose an earlier checkpoint of the run, or --precision fp32",
            )
        self.first = self.first if self.ids else seconds
        self.seconds = seconds
        self.ids.append(token.id)
        self.probabilities.append(token.probability)
        yield from self._piece(self._decoder.push(token.id))
        if token.finish is not None:
            yield from self.end(token.finish)

    def end(self, finish: str) -> Iterator[Event]:
        """The text is complete."""
        self.finish = finish
        yield from self._piece(self._decoder.flush())
        yield Sample(
            "".join(self.pieces),
            prompt=self.prompt,
            source=self.writer.name,
            index=self.index,
            token_ids=self.ids,
            statistics=self._statistics(finish),
        )

    def _piece(self, text: str) -> Iterator[Delta]:
        if text:
            self.pieces.append(text)
            yield Delta(text, source=self.writer.name, index=self.index)

    def _statistics(self, finish: str) -> dict[str, float | str | None]:
        count = len(self.ids)
        result: dict[str, float | str | None] = {
            "new_tokens": count,
            "prompt_tokens": len(self.prompt_ids),
            "seconds": self.seconds,
            "finish": finish,
        }
        if count:
            logs = [math.log(max(p, _LEAST_PROBABILITY)) for p in self.probabilities]
            result |= {
                "tokens_per_second": count / self.seconds if self.seconds else 0.0,
                "first_token_ms": 1000 * self.first,
                "mean_probability": sum(self.probabilities) / count,
                "perplexity": math.exp(-sum(logs) / count),
            }
        if self.seed is not None:
            result["seed"] = str(self.seed + self.index)  # as text: JSON numbers lose digits
        return result


def load_writer(
    path: Path,
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    tokenizer: str | None,
    tokenizers_dir: Path,
) -> Writer:
    """A checkpoint folder, Hugging Face folder or `.pt` file with its tokenizer, ready to write.

    `tokenizer` names the one for a checkpoint that holds none.

    Raises:
        UsageError: there is no tokenizer.
        RefusedError: see `model.checkpoint.load_weights`; model and tokenizer do not fit.
    """
    folders = (path,) if path.is_dir() else (path.parent, path.parent.parent)
    held = [f for f in folders if any((f / name).is_file() for name in _TOKENIZER_FILES)]
    if not held and tokenizer is None:
        raise UsageError(
            f"{path} holds no tokenizer.",
            found=f"none of {', '.join(_TOKENIZER_FILES)} in {folders[0]}",
            remedy="name the one that it was trained with: --tokenizer NAME",
        )
    chosen = held[0].absolute() if held else str(tokenizer)
    opened = load_tokenizer(chosen, tokenizers_dir)
    return Writer(name, load_weights(path, device, dtype), opened, _declared_ends(path))


def _declared_ends(path: Path) -> frozenset[int]:
    """The ids that end a text by the config.json of a Hugging Face folder."""
    if not path.is_dir():
        return frozenset()
    declared = read_json_object(path / CONFIG).get("eos_token_id")
    ids = declared if isinstance(declared, list) else [declared]
    return frozenset(i for i in ids if isinstance(i, int))
