"""A model and its tokenizer judge items: likelihoods in, what each item adds to the metrics out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event as StopSignal
from typing import Any, Literal, TypeAlias

from model.generation.batch_scoring import ScoredText, likelihoods
from model.gpt import GPT
from model.language_model import greedy
from pipeline.evaluation.encoding import TextEncoder
from pipeline.evaluation.tasks.completions import CompletionTask
from pipeline.evaluation.tasks.task import Item, Ratios, Task
from pipeline.runs.text_bounds import bounds_in_training
from pipeline.tokenizer.load import check_vocabulary
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import HatcheryError

Bos: TypeAlias = Literal["auto", "on", "off"]

_PORTION = 256  # items that are encoded and sorted by length together


@dataclass(frozen=True)
class ItemScore:
    """What an item adds to every metric; where it cannot be scored, `reason` says why. `cut` says
    that its context was longer than the model reads, `joined` that a token lies over the end of a
    context; `text` is what the model wrote."""

    ratios: Ratios
    reason: str = ""
    cut: bool = False
    joined: bool = False
    text: str = ""


class NoScoreError(HatcheryError):
    """A model computes what is no likelihood."""


class Judge:
    """A model that is asked about items.

    `bos` says what stands before every context: "auto" what its training or its tokenizer puts
    there, "on" BOS or else EOS, "off" nothing. A text that nothing precedes always begins with BOS
    or else EOS. `ends` are ids that end a text, `window` is the most tokens it reads at once.

    Raises:
        RefusedError: the tokenizer has more ids than the model.
    """

    def __init__(
        self,
        name: str,
        model: GPT,
        tokenizer: Tokenizer,
        before: Sequence[int],
        *,
        ends: Sequence[int] = (),
        bos: Bos = "auto",
        window: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        check_vocabulary(name, tokenizer, model.config.vocab_size)
        start = bounds_in_training(tokenizer).before
        chosen = {"auto": tuple(before), "on": start, "off": ()}[bos]
        context = model.config.max_position_embeddings
        self.name, self.model, self._batch_tokens = name, model, batch_tokens
        self.ends = frozenset(ends)
        self.encoder = TextEncoder(
            tokenizer, chosen, start[0] if start else None, min(window or context, context)
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """How it was asked, as far as that changes scores."""
        encoder = self.encoder
        prefix = encoder.prefix
        return {
            "bos": bool(encoder.before),
            "before": list(encoder.before),
            "prefix": None if prefix is None else encoder.tokenizer.piece(prefix),
            "window": encoder.context,
            "precision": str(self.model.dtype).removeprefix("torch."),
        }

    def scores(
        self, task: Task, items: Sequence[Item], stop: StopSignal
    ) -> Iterator[tuple[int, ItemScore]]:
        """What every item adds to the task's metrics, with its index; ends early on `stop`.

        Raises:
            NoScoreError: the model computes NaN, or infinity.
        """
        encoder = self.encoder
        for begin in range(0, len(items), _PORTION):
            portion = range(begin, min(begin + _PORTION, len(items)))
            groups: list[list[ScoredText]] = []
            asked: list[tuple[int, bool, bool]] = []
            for index in portion:
                encoder.cut = encoder.joined = 0
                try:
                    groups.append(task.texts(items[index], encoder))
                    asked.append((index, encoder.cut > 0, encoder.joined > 0))
                except ValueError as error:
                    yield index, ItemScore({}, str(error))
            asking = [items[index] for index, _, _ in asked]
            for number, ratios, text in self._answers(task, asking, groups):
                index, cut, joined = asked[number]
                yield index, ItemScore(ratios, "", cut, joined, text)
                if stop.is_set():
                    return

    def _answers(
        self, task: Task, items: Sequence[Item], groups: Sequence[Sequence[ScoredText]]
    ) -> Iterator[tuple[int, Ratios, str]]:
        """What items add, with their number and, of completions, what was written."""
        if isinstance(task, CompletionTask):
            yield from self._completions(task, items, [text for [text] in groups])
            return
        found = likelihoods(self.model, groups, batch_tokens=self._batch_tokens, ranks=task.ranks)
        for number, values in found:
            for value in values:
                self._refuse_non_finite(task, value.logprob)
            yield number, task.ratios(items[number], values), ""

    def _completions(
        self, task: CompletionTask, items: Sequence[Item], texts: Sequence[ScoredText]
    ) -> Iterator[tuple[int, Ratios, str]]:
        """The texts without what would be scored of them, gone on with by as many tokens."""
        tokenizer = self.encoder.tokenizer
        prompts = [(text.ids[: -text.scored], text.scored) for text in texts]
        written = greedy(self.model, prompts, ends=self.ends, vocabulary=tokenizer.vocab_size)
        for number, ids, logprob in written:
            self._refuse_non_finite(task, logprob)
            text = tokenizer.decode(ids)
            yield number, task.compared(items[number], text), text

    def _refuse_non_finite(self, task: Task, logprob: float) -> None:
        if not math.isfinite(logprob):
            raise NoScoreError(
                f"{self.name} computes {logprob}: it has no score.",
                found=f"in {task.name}; its weights are not usable",
                remedy="choose an earlier checkpoint of the run, or --precision fp32",
            )
