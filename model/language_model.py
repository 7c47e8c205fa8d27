"""The language model as its users see it: made from a config, continuing lists of token ids.

The arithmetic is `model.gpt`'s, the next ids are `model.generation`'s. `stream` yields what every
step decided, so that a caller can show it and stop by not asking for more;
`model.generation.batch` is for texts that come and go. Nothing here knows text.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from model.config import ModelConfig
from model.generation.batch import BatchScheduler, fit_prompt, new_token_limit
from model.generation.runner import runner_for
from model.generation.sampling import NewToken
from model.generation.settings import DEFAULT_LENGTH, SamplingSettings
from model.gpt import GPT
from model.huggingface.config import read_model_config

GREEDY_ROWS = 16  # prompts that `greedy` goes on with at once


class LanguageModel(GPT):
    """A `GPT` that continues prompts. It stands above the arithmetic and above generation, which
    reads with any `GPT`, so that neither has to import the other."""

    def generate(
        self,
        ids: Tensor | Sequence[int] | Sequence[Sequence[int]],
        max_length: int = DEFAULT_LENGTH,
        temperature: float = SamplingSettings.temperature,
        top_k: int | None = SamplingSettings.top_k,
        top_p: float | None = SamplingSettings.top_p,
        **settings: Any,
    ) -> list[list[int]]:
        """Continue each prompt to at most `max_length` ids in all, the prompt included.

        ids: one prompt or several, or a tensor (T,) or (B, T). temperature 0 takes the likeliest
        token. `settings` are the further fields of `model.generation.sampling.SamplingSettings`.
        """
        rows: list[Any] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        prompts = rows if rows and not isinstance(rows[0], int) else [rows]
        sampling = SamplingSettings(
            temperature=temperature, top_k=top_k, top_p=top_p, max_length=max_length, **settings
        )
        return generate(self, prompts, sampling)


def create_model(config: str | Path | ModelConfig) -> LanguageModel:
    """A fresh model from a config or from a file: config.json with a "model" section, a file of
    the model's keys alone, or the config.json of a Hugging Face folder.

    Raises:
        UsageError: the file cannot be read or holds a wrong key or value; names file and key.
    """
    described = config if isinstance(config, ModelConfig) else read_model_config(Path(config))
    return LanguageModel(described)


def stream(
    model: GPT, prompts: Sequence[Sequence[int]], settings: SamplingSettings
) -> Iterator[list[NewToken]]:
    """Continue all prompts together; yields per step one `NewToken` for each row still running,
    with the number of its prompt as the row. Row r draws with seed + r.

    A row ends at a stop id, at its limit, or at the model's `max_position_embeddings`, which
    `slide` lets it pass. What one row draws does not depend on its neighbours. A prompt too long
    is cut by `fit_prompt`.

    Raises:
        UsageError: a prompt is empty or holds an id outside the vocabulary.
    """
    was_training = model.training
    model.eval()
    try:
        batch = BatchScheduler(
            runner_for(model, use_cache=settings.use_cache), max(1, len(prompts))
        )
        seed = secrets.randbits(62) if settings.seed is None else settings.seed
        rows = {
            batch.join(prompt, replace(settings, seed=seed + row)): row
            for row, prompt in enumerate(prompts)
        }
        while batch:
            yield [replace(token, row=rows[token.row]) for token in batch.step()]
    finally:
        model.train(was_training)


def generate(
    model: GPT, prompts: Sequence[Sequence[int]], settings: SamplingSettings
) -> list[list[int]]:
    """The prompts, each cut to fit and continued, a final stop id included."""
    context = model.config.max_position_embeddings
    results = [
        fit_prompt(prompt, new_token_limit(settings, len(prompt), context), context)
        for prompt in prompts
    ]
    for step in stream(model, prompts, settings):
        for token in step:
            results[token.row].append(token.id)
    return results


def greedy(
    model: GPT,
    prompts: Sequence[tuple[Sequence[int], int]],
    *,
    ends: frozenset[int],
    vocabulary: int,
) -> Iterator[tuple[int, list[int], float]]:
    """Go on with prompts, each ids and the most to add, by the likeliest id below `vocabulary` each
    time, until an id of `ends`.

    Yields, in the order in which they end, `(number of the prompt, new ids, log-probability)`; the
    ids are without that of the end, the sum in nats is with it and NaN where the model computes so.

    Raises:
        UsageError: a prompt holds no id, or one that the model does not know.
    """
    batch = BatchScheduler(runner_for(model), GREEDY_ROWS)
    waiting = iter(sorted(range(len(prompts)), key=lambda number: -len(prompts[number][0])))
    running: dict[int, int] = {}
    found: list[list[int]] = [[] for _ in prompts]
    sums = [0.0] * len(prompts)
    while True:
        while batch.free and (number := next(waiting, None)) is not None:
            ids, limit = prompts[number]
            settings = SamplingSettings(
                temperature=0.0,
                top_k=None,
                top_p=None,
                max_new_tokens=limit,
                stop_ids=ends,
                vocabulary=vocabulary,
                seed=0,
            )
            key = batch.join(ids, settings)
            if key is None:
                yield number, [], 0.0
            else:
                running[key] = number
        if not running:
            return
        for token in batch.step():
            number = running[token.row]
            sums[number] += token.logprob
            if token.finish != "stop":
                found[number].append(token.id)
            if token.finish:
                del running[token.row]
                yield number, found[number], sums[number]
