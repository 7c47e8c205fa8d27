"""Texts that are written together: they join and leave between steps (continuous batching,
Yu et al. 2022, "Orca").

Knows ids only. What a row draws depends on its own settings and generator; its neighbours change
no more than the rounding of sums in another order.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from model.generation.runner import Chunk, ModelRunner
from model.generation.sampling import Finish, NewToken, SamplingSettings, draw
from utils.errors import UsageError

_PROMPT_BUDGET = 1024  # prompt tokens a step, so that a long prompt does not hold up the other rows
_SHORTEST_REUSE = 16  # tokens of a common prefix from which a slot is used again


def new_token_limit(settings: SamplingSettings, prompt: int, context: int) -> int:
    """Most new tokens after a prompt of `prompt` tokens; without a limit, a full context.

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
                remedy="raise max_length, or give max_new_tokens instead",
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


@dataclass
class _Row:
    """A text being written. Its slot holds the first `cached` of the ids from `first` on."""

    settings: SamplingSettings
    ids: list[int]
    prompt: int  # how many of them were there before the first was drawn
    end: int  # length at which the row is full
    generator: torch.Generator
    slot: int
    cached: int
    first: int = 0  # place of the oldest id that the model still sees

    @property
    def pending(self) -> int:
        return len(self.ids) - self.first - self.cached


@dataclass
class _Slot:
    """Where a row may write: `ids` are those of the last one that did."""

    ids: list[int] = field(default_factory=list)
    row: int | None = None
    freed: int = 0  # step at which it became free


class BatchScheduler:
    """Rows that continue together, at most `slots` of them at a time."""

    def __init__(self, runner: ModelRunner, slots: int) -> None:
        self.runner = runner
        self._slots = [_Slot() for _ in range(slots)]
        self._rows: dict[int, _Row] = {}
        self._joined = 0
        self._steps = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def free(self) -> int:
        """Rows that may join now."""
        return len(self._slots) - len(self._rows)

    def join(self, prompt: Sequence[int], settings: SamplingSettings) -> int | None:
        """Let a text be continued from the next step on: its key, None where it may not grow.

        A row ends at a stop id, at its limit, or at the runner's context, which `slide` lets it
        pass; then it has left. A prompt too long is cut by `fit_prompt`. Without a seed one is
        drawn.

        Raises:
            UsageError: the prompt is empty, or it or a bias has an id outside the vocabulary.
        """
        context = self.runner.context
        self._check(prompt, settings)
        limit = new_token_limit(settings, len(prompt), context)
        ids = fit_prompt(prompt, limit, context)
        end = len(ids) + limit if settings.slide else min(len(ids) + limit, context)
        if len(ids) >= end:
            return None
        seed = secrets.randbits(62) if settings.seed is None else settings.seed
        slot, known = self._choose_slot(ids, settings)
        key = self._joined = self._joined + 1
        generator = torch.Generator().manual_seed(seed)
        self._rows[key] = _Row(settings, ids, len(ids), end, generator, slot, known)
        self._slots[slot].row = key
        return key

    def leave(self, key: int) -> None:
        """Take a row out; nothing happens where it has left already."""
        row = self._rows.pop(key, None)
        if row is not None:
            slot = self._slots[row.slot]
            slot.ids = row.ids[row.first : row.first + row.cached]
            slot.row, slot.freed = None, self._steps

    def step(self) -> list[NewToken]:
        """Run the model once, and decide the next token of every row that is cached to its end."""
        self._steps += 1
        chunks, keys = self._chunks()
        if not chunks:
            return []
        logits = self.runner.forward(chunks)
        for chunk, key in zip(chunks, keys, strict=True):
            self._rows[key].cached += len(chunk.ids)
        places: dict[tuple[object, ...], list[int]] = {}
        for place, key in enumerate(keys):
            row = self._rows[key]
            if not row.pending:
                places.setdefault(row.settings.sampled_alike, []).append(place)
        tokens = []
        for group in places.values():
            some = logits if len(group) == len(keys) else logits[group]
            tokens += self._draw(some, [keys[place] for place in group])
        return sorted(tokens, key=lambda token: token.row)

    def _check(self, prompt: Sequence[int], settings: SamplingSettings) -> None:
        vocabulary = self.runner.vocabulary
        if not prompt:
            raise UsageError("A prompt holds no token.", remedy="begin it with the BOS token")
        if not 0 <= min(prompt) <= max(prompt) < vocabulary:
            raise UsageError(
                f"A prompt holds an id outside the vocabulary of {vocabulary} tokens.",
                found=f"ids from {min(prompt)} to {max(prompt)}",
                remedy="encode it with the tokenizer that the model was trained with",
            )
        drawn = vocabulary if settings.vocabulary is None else settings.vocabulary
        if unknown := [i for i, _ in settings.logit_bias if not 0 <= i < drawn]:
            raise UsageError(
                f"logit_bias has an id outside the vocabulary of {drawn} tokens.",
                found=str(unknown[0]),
            )
        if not self.free:
            raise UsageError(f"All {len(self._slots)} rows are taken.")

    def _choose_slot(self, ids: Sequence[int], settings: SamplingSettings) -> tuple[int, int]:
        """A free slot and how many of `ids` it already holds, never all of them.

        Where pieces of another length change the logits, what a seed or temperature 0 promises to
        repeat is read anew.
        """
        free = [number for number, slot in enumerate(self._slots) if slot.row is None]
        repeats = settings.seed is not None or settings.temperature == 0
        if self.runner.exact or not repeats:
            common = {number: _shared_prefix(self._slots[number].ids, ids[:-1]) for number in free}
            best = max(free, key=common.__getitem__)
            if common[best] >= _SHORTEST_REUSE:
                return best, common[best]
        return min(free, key=lambda number: (len(self._slots[number].ids) > 0,
                                             self._slots[number].freed, number)), 0  # fmt: skip

    def _chunks(self) -> tuple[list[Chunk], list[int]]:
        """What to run next: every row's newest token, and of prompts at most `_PROMPT_BUDGET`."""
        chunks, keys = [], []
        ahead = _PROMPT_BUDGET
        for key, row in self._rows.items():
            if row.settings.slide and len(row.ids) - row.first > self.runner.context:
                row.first, row.cached = len(row.ids) - self.runner.context // 2, 0
            count = row.pending
            if count > 1:
                count = min(count, ahead)
                ahead -= count
            if count:
                begin = row.first + row.cached
                chunks.append(Chunk(row.slot, row.cached, row.ids[begin : begin + count]))
                keys.append(key)
        return chunks, keys

    def _draw(self, logits: torch.Tensor, keys: Sequence[int]) -> list[NewToken]:
        rows = [self._rows[key] for key in keys]
        settings, seen = rows[0].settings, [row.ids for row in rows]
        own = [row.ids[row.prompt :] for row in rows] if settings.counts_drawn else ()
        drawn = draw(logits, settings, [row.generator for row in rows], seen, own)
        tokens = []
        for place, (key, row) in enumerate(zip(keys, rows, strict=True)):
            token = drawn.ids[place]
            row.ids.append(token)
            finish: Finish | None = "length" if len(row.ids) >= row.end else None
            if token in row.settings.stop_ids:
                finish = "stop"
            alternatives = drawn.alternatives[place]
            tokens.append(NewToken(key, token, drawn.logprobs[place], finish, alternatives))
            if finish:
                self.leave(key)
        return tokens


def _shared_prefix(cached: Sequence[int], prompt: Sequence[int]) -> int:
    """Length of the prefix that both have."""
    for place, (a, b) in enumerate(zip(cached, prompt, strict=False)):
        if a != b:
            return place
    return min(len(cached), len(prompt))
