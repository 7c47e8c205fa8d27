"""Continues lists of token ids; knows nothing of text.

`stream` yields what every step decided, so that a face can show it and stop by not asking for
more. `model.generation.batch` is for texts that come and go.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace

from model.generation.batch import Batch, fit_prompt, new_tokens_wanted
from model.generation.reader import reader_for
from model.generation.sampling import NewToken, SamplingSettings
from model.gpt import GPT


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
        batch = Batch(reader_for(model, use_cache=settings.use_cache), max(1, len(prompts)))
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
        fit_prompt(prompt, new_tokens_wanted(settings, len(prompt), context), context)
        for prompt in prompts
    ]
    for step in stream(model, prompts, settings):
        for token in step:
            results[token.row].append(token.id)
    return results
