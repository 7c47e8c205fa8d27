"""Continues lists of token ids; knows nothing of text.

`stream` yields what every step decided, so that a face can show it and stop by not asking for
more. The prompts are read in one pass, then every step costs one position per row.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.cache import KeyValueCache
from model.gpt import GPT
from utils.errors import UsageError

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingSettings:
    """How the next token is drawn, and when to end. None switches a limit off."""

    temperature: float = 0.8  # 0 takes the likeliest token
    top_k: int | None = 50  # only the k likeliest tokens
    top_p: float | None = 0.95  # only the likeliest tokens that together have this probability
    min_p: float | None = None  # only tokens at least this share as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1 makes tokens that were there before less likely
    seed: int | None = None  # row r draws from a generator of its own, seeded with seed + r
    max_new_tokens: int | None = None
    max_length: int | None = None  # prompt included
    stop_ids: frozenset[int] = frozenset()
    slide: bool = False  # go on when the context is full, with its newer half in sight
    vocabulary: int | None = None  # only ids below this: a padded head has more than the tokenizer
    use_cache: bool = True

    def __post_init__(self) -> None:
        limits = (
            ("temperature", self.temperature >= 0, "at least 0"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("max_new_tokens", (self.max_new_tokens or 0) >= 0, "at least 0"),
        )
        for name, holds, meaning in limits:
            if not holds:
                raise UsageError(f"{name} must be {meaning}.", found=str(getattr(self, name)))


@dataclass(frozen=True)
class NewToken:
    """One decided token. `probability` is the model's own, before temperature and limits."""

    row: int
    id: int
    probability: float
    finish: Finish | None


def new_tokens_wanted(settings: SamplingSettings, prompt: int, context: int) -> int:
    """New tokens asked for after a prompt of `prompt` tokens; without a limit, a full context.

    More than a full context only where the settings let it slide.

    Raises:
        UsageError: the prompt alone is longer than `max_length` allows.
    """
    limits = []
    if settings.max_new_tokens is not None:
        limits.append(settings.max_new_tokens)
    if settings.max_length is not None:
        if settings.max_length < prompt:
            raise UsageError(
                f"The prompt has {prompt} tokens, and max_length {settings.max_length} counts it.",
                remedy="raise --max-length, or give --max-new-tokens instead",
            )
        limits.append(settings.max_length - prompt)
    if not (limits and settings.slide):
        limits.append(context)
    return min(limits)


def fit_prompt(prompt: Sequence[int], new_tokens: int, context: int) -> list[int]:
    """The last tokens of `prompt` that leave room for `new_tokens` in `context`.

    Room is never more than half of the context: a model that sees nothing writes nothing useful.
    A caller that shows the result compares lengths and says what was left out.
    """
    room = min(new_tokens, context // 2)
    return list(prompt[-(context - room) :]) if len(prompt) + room > context else list(prompt)


def stream(
    model: GPT, prompts: Sequence[Sequence[int]], settings: SamplingSettings
) -> Iterator[list[NewToken]]:
    """Continue all prompts together; yields per step one `NewToken` for each row still running.

    A row ends at a stop id, at its limit, or at the model's `max_position_embeddings`, which
    `slide` lets it pass. What one row draws does not depend on its neighbours. A prompt too long
    is cut by `fit_prompt`.

    Raises:
        UsageError: a prompt is empty or holds an id outside the vocabulary.
    """
    rows = _start_rows(model, prompts, settings)
    context = model.config.max_position_embeddings
    capacity = min(context, max((row.end for row in rows), default=0))
    was_training = model.training
    model.eval()
    try:
        reader = _Reader(model, [row.seen for row in rows], settings.use_cache, capacity)
        while rows:
            ids, probabilities = _choose(reader.logits, rows, settings)
            step = []
            for row, token, probability in zip(rows, ids, probabilities, strict=True):
                row.ids.append(token)
                row.finish = _finish(row, settings)
                step.append(NewToken(row.index, token, probability, row.finish))
            yield step
            running = [place for place, row in enumerate(rows) if row.finish is None]
            if len(running) < len(rows):
                rows = [rows[place] for place in running]
                reader.keep(running)
            if _slide(rows, context):
                reader = _Reader(model, [row.seen for row in rows], settings.use_cache, capacity)
            elif rows:
                reader.read([row.seen for row in rows])
    finally:
        model.train(was_training)


def generate(
    model: GPT, prompts: Sequence[Sequence[int]], settings: SamplingSettings
) -> list[list[int]]:
    """The prompts, each cut to fit and continued, a final stop id included."""
    results = [row.ids for row in _start_rows(model, prompts, settings, all_rows=True)]
    for step in stream(model, prompts, settings):
        for token in step:
            results[token.row].append(token.id)
    return results


@dataclass
class _Row:
    index: int
    ids: list[int]
    end: int  # length at which the row is full
    generator: torch.Generator
    finish: Finish | None = None
    first: int = 0  # place of the oldest id that the model still sees

    @property
    def seen(self) -> list[int]:
        return self.ids[self.first :]


def _start_rows(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    all_rows: bool = False,
) -> list[_Row]:
    """One row per prompt; those that may not grow at all are left out unless `all_rows`."""
    context, vocabulary = model.config.max_position_embeddings, model.config.vocab_size
    seed = secrets.randbits(62) if settings.seed is None else settings.seed
    rows = []
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise UsageError("A prompt holds no token.", remedy="begin it with the BOS token")
        if not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise UsageError(
                f"A prompt holds an id outside the vocabulary of {vocabulary} tokens.",
                found=f"ids from {min(prompt)} to {max(prompt)}",
                remedy="encode it with the tokenizer that the model was trained with",
            )
        wanted = new_tokens_wanted(settings, len(prompt), context)
        ids = fit_prompt(prompt, wanted, context)
        end = len(ids) + wanted if settings.slide else min(len(ids) + wanted, context)
        if all_rows or len(ids) < end:
            rows.append(_Row(index, ids, end, torch.Generator().manual_seed(seed + index)))
    return rows


def _slide(rows: Sequence[_Row], context: int) -> bool:
    """Show a row that outgrew the context only the newer half of it; True where there is one."""
    outgrown = [row for row in rows if len(row.seen) > context]
    for row in outgrown:
        row.first = len(row.ids) - context // 2
    return bool(outgrown)


def _finish(row: _Row, settings: SamplingSettings) -> Finish | None:
    if row.ids[-1] in settings.stop_ids:
        return "stop"
    return "length" if len(row.ids) >= row.end else None


class _Reader:
    """Feeds the model and holds the logits (rows, V) that follow each row."""

    def __init__(
        self, model: GPT, rows: Sequence[Sequence[int]], use_cache: bool, capacity: int
    ) -> None:
        self._model = model
        self._cache: KeyValueCache | None = None
        if not rows:
            return
        if use_cache and model.config.use_cache:
            self._cache = KeyValueCache(
                model.config, len(rows), capacity, device=model.device, dtype=model.dtype
            )
        self.logits = self._whole(rows)

    @torch.inference_mode()
    def _whole(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Read rows of unequal length at once, filled up at the end, where nothing looks."""
        longest = max(len(ids) for ids in rows)
        padded = [[*ids, *[0] * (longest - len(ids))] for ids in rows]
        inputs = torch.tensor(padded, device=self._model.device)
        hidden = self._model.hidden(inputs, self._cache)  # (rows, longest, C)
        last = torch.tensor([len(ids) - 1 for ids in rows], device=hidden.device)
        every = torch.arange(len(rows), device=hidden.device)
        return self._model.logits(hidden[every, last]).float()

    @torch.inference_mode()
    def read(self, rows: Sequence[Sequence[int]]) -> None:
        """Take in each row's newest token."""
        if self._cache is None:
            self.logits = self._whole(rows)
            return
        places = [len(ids) - 1 for ids in rows]
        self._cache.rewind(max(places))
        newest = torch.tensor([[ids[-1]] for ids in rows], device=self._model.device)
        positions = None
        if min(places) != max(places):
            positions = torch.tensor(places, device=newest.device)[:, None]
        hidden = self._model.hidden(newest, self._cache, positions)
        self.logits = self._model.logits(hidden[:, -1]).float()

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        if self._cache is not None and rows:
            self._cache.keep(rows)


@torch.inference_mode()
def _choose(
    logits: Tensor, rows: Sequence[_Row], settings: SamplingSettings
) -> tuple[list[int], list[float]]:
    """The next token of each row and the probability that the model gave it."""
    logits = logits[:, : settings.vocabulary]
    scores = logits
    if settings.repetition_penalty != 1:
        scores = penalise_repetition(scores, [row.ids for row in rows], settings.repetition_penalty)
    if settings.temperature == 0:
        chosen = scores.argmax(dim=-1)
    else:
        candidates, ids = keep_likely(scores / settings.temperature, settings)
        cumulative = candidates.softmax(dim=-1).cumsum(dim=-1)
        # One uniform number per row from the row's own generator, on the CPU whatever the device.
        draws = torch.cat([torch.rand(1, generator=row.generator) for row in rows])
        wanted = draws.to(scores.device)[:, None] * cumulative[:, -1:]
        place = torch.searchsorted(cumulative, wanted, right=True)
        chosen = ids.gather(1, place.clamp(max=ids.shape[1] - 1))[:, 0]
    log_probability = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(dim=-1)
    return chosen.tolist(), log_probability.exp().tolist()


def keep_likely(scores: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """The scores (rows, n) that top-k, top-p and min-p allow, and their ids, likeliest first.

    Excluded candidates within n have score -inf; the likeliest always stays. Holtzman et al. 2020
    (top-p), Nguyen et al. 2024 (min-p).
    """
    vocabulary = scores.shape[-1]
    best, ids = scores.topk(min(settings.top_k or vocabulary, vocabulary), dim=-1)
    probabilities = best.softmax(dim=-1)
    excluded = torch.zeros_like(best, dtype=torch.bool)
    if settings.top_p is not None:
        excluded |= probabilities.cumsum(dim=-1) - probabilities >= settings.top_p
    if settings.min_p is not None:
        excluded |= probabilities < settings.min_p * probabilities[:, :1]
    excluded[:, 0] = False
    return best.masked_fill(excluded, float("-inf")), ids


def penalise_repetition(scores: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Make the ids in `seen` less likely: positive scores are divided by `penalty`, negative ones
    multiplied (Keskar et al. 2019, CTRL, section 4.1)."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row, ids in enumerate(seen):
        mask[row, torch.tensor(ids, device=scores.device)] = True
    return torch.where(mask, torch.where(scores > 0, scores / penalty, scores * penalty), scores)
