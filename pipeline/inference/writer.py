"""One checkpoint in memory and the texts it writes; knows nothing of runs, faces or files of
prompts."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Event as StopSignal
from typing import NamedTuple

from model.generation.batch import BatchScheduler, fit_prompt
from model.generation.runner import ModelRunner
from model.generation.sampling import NewToken, SamplingSettings
from pipeline.chat.encoder import ChatEncoder
from pipeline.conversations.conversation import Turn
from pipeline.events import Delta, Event, Sample, Warned
from pipeline.inference.stop_strings import Continuation
from pipeline.options.config import InferenceOptions
from pipeline.runs.text_bounds import TextBounds, bounds_in_training
from pipeline.tokenizer.load import check_vocabulary
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import HatcheryError, UsageError


class Writer:
    """A model, its tokenizer and the name it goes by in events.

    `bounds` are what stands before its texts and what ends them, by default those that our own
    training teaches; `context` are the tokens that the model sees at once, `notes` sentences on
    what its loading found. `counts_padding` says that its log-probabilities are over all rows of
    its head, as other programs have them.

    Raises:
        RefusedError: the tokenizer has more ids than the model.
    """

    def __init__(
        self,
        name: str,
        runner: ModelRunner,
        tokenizer: Tokenizer,
        bounds: TextBounds | None = None,
        notes: Sequence[str] = (),
        *,
        counts_padding: bool = False,
    ) -> None:
        self.name, self.runner, self.tokenizer, self.notes = name, runner, tokenizer, notes
        self.counts_padding = counts_padding
        self._bounds = bounds or bounds_in_training(tokenizer)
        self.ends = frozenset(self._bounds.ends)
        self.context = runner.context
        self._sliding_warned = False
        check_vocabulary(name, tokenizer, runner.vocabulary)

    def write(
        self,
        prompt: str,
        options: InferenceOptions,
        *,
        seed: int,
        stop: StopSignal,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Iterator[Event]:
        """Continue `prompt` `options.samples` times together, or answer it where `options.chat` is
        given; sample r draws with seed + r.

        Yields a `Delta` for every piece of text and a `Sample` when one is complete; an answer has
        no prompt that it continues. On `stop` every text ends where it is, with the finish
        "interrupted".

        Raises:
            UsageError: the prompt is not text, or empty where the tokenizer cannot begin one; a
                question does not fit into the context or the chat template.
            HatcheryError: the model computes NaN.
        """
        answers = options.chat is not None
        ids, settings, stops, notes = (self._question if answers else self._beginning)(
            prompt, options
        )
        yield from map(Warned, notes)
        before = "" if answers else prompt
        batch = BatchScheduler(self.runner, options.samples)
        texts: dict[int | None, _Text] = {}
        for index in range(options.samples):
            yield Delta("", prompt=before, source=self.name, index=index)
            body = Continuation(self.tokenizer, ids, stops)
            shown = seed + index if options.temperature else None
            row = batch.join(ids, replace(settings, seed=seed + index))
            texts[row] = _Text(self.name, before, len(ids), index, shown, body, is_answer=answers)
        seconds = 0.0  # of computing: what the caller does in between is not the model's time
        while batch and not stop.is_set():
            begin = clock()
            step = batch.step()
            seconds += clock() - begin
            for token in step:
                yield from texts[token.row].take(token, seconds)
                if texts[token.row].body.finish:
                    batch.leave(token.row)
        for text in texts.values():
            if text.body.finish is None:
                yield from text.end("interrupted")

    @cached_property
    def chat(self) -> ChatEncoder:
        """What encodes conversations, made when first needed.

        Raises:
            UsageError: the chat template cannot be read.
        """
        return ChatEncoder(self.tokenizer)

    def prompt_ids(self, prompt: str) -> list[int]:
        """What the model reads for a text that begins a document.

        Raises:
            UsageError: see `write`.
        """
        ids = [*self.before(prompt), *self.tokenizer.encode(prompt)]
        if not ids:
            raise UsageError(
                f"{self.name} cannot begin a new document.",
                found=f"its tokenizer {self.tokenizer.name} has no token that begins or ends one",
                remedy="give a prompt that is not empty",
            )
        return ids

    def before(self, prompt: str) -> tuple[int, ...]:
        """The ids before a text that nobody typed. An empty one begins with the token that begins
        or else ends texts, whatever the tokenizer's own rule: a model has to read something."""
        if prompt or self._bounds.before:
            return self._bounds.before
        return bounds_in_training(self.tokenizer).before

    def _beginning(self, prompt: str, options: InferenceOptions) -> "_Start":
        """A text to go on with; what does not fit is cut off at its beginning."""
        whole = self.prompt_ids(prompt)
        ids = fit_prompt(whole, options.max_length, self.context)
        notes = self._notes(len(whole), len(ids), options.max_length)
        return _Start(ids, self._settings(options), tuple(options.stop or ()), [*notes])

    def _question(self, question: str, options: InferenceOptions) -> "_Start":
        """A conversation of one question, up to where the answer begins, which ends as the chat
        template ends one.

        Raises:
            UsageError: see `write`.
        """
        ids = self.chat.encode([Turn("user", question)])
        room = min(options.max_length, self.context - len(ids))
        if room < 1:
            raise UsageError(
                f"The question is too long for {self.name}.",
                found=f"{len(ids):,} tokens, and its context holds {self.context:,}, the answer "
                "included",
                remedy="shorten it",
            )
        notes = []
        if room < options.max_length:
            notes = [f"{self.name} has room for {room:,} tokens of an answer: its context holds "
                     f"{self.context:,}, the question included."]  # fmt: skip
        settings = replace(
            self._settings(options),
            stop_ids=self.ends | self.chat.stop_ids,
            max_new_tokens=room,
            slide=False,
        )
        return _Start(ids, settings, (*(options.stop or ()), *self.chat.stop_texts), notes)

    def _notes(self, whole: int, kept: int, requested: int) -> Iterator[str]:
        if kept < whole:
            yield (
                f"{self.name} reads the last {kept:,} of the prompt's {whole:,} tokens: the first "
                f"{whole - kept:,} do not fit into its context of {self.context:,}."
            )
        if kept + requested > self.context and not self._sliding_warned:
            self._sliding_warned = True
            yield (
                f"{self.name} sees {self.context:,} tokens at once: past them it goes on with the "
                "newer half in sight."
            )

    def _settings(self, options: InferenceOptions) -> SamplingSettings:
        return SamplingSettings(
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p or None,
            repetition_penalty=options.repetition_penalty,
            max_new_tokens=options.max_length,
            stop_ids=self.ends,
            slide=True,
            vocabulary=self.tokenizer.vocab_size,
            counts_padding=self.counts_padding,
        )


class _Start(NamedTuple):
    """What the model reads first, how its text is drawn, the texts that end it, and sentences for
    the user."""

    ids: list[int]
    settings: SamplingSettings
    stops: Sequence[str]
    notes: Sequence[str]


@dataclass
class _Text:
    """A text being written and what was measured, as events. The white space before an
    answer belongs to the chat template."""

    source: str
    prompt: str
    prompt_tokens: int
    index: int
    seed: int | None
    body: Continuation
    is_answer: bool = False
    first: float = 0.0
    seconds: float = 0.0
    _begun: bool = False

    def take(self, token: NewToken, seconds: float) -> Iterator[Event]:
        """The next token, decided `seconds` after the beginning."""
        refuse_nan(self.source, token.logprob, f"after {len(self.body.tokens)} new tokens")
        self.first = self.first if self.body.tokens else seconds
        self.seconds = seconds
        yield from self._piece(self.body.push(token))
        if self.body.finish is not None:
            yield self._sample(self.body.finish)

    def end(self, finish: str) -> Iterator[Event]:
        """The text ends here for a reason that is not its own."""
        yield from self._piece(self.body.end(finish))
        yield self._sample(finish)

    def _piece(self, text: str) -> Iterator[Delta]:
        if self.is_answer and not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        if text:
            yield Delta(text, source=self.source, index=self.index)

    def _sample(self, finish: str) -> Sample:
        text = self.body.text
        return Sample(
            text.lstrip() if self.is_answer else text,
            prompt=self.prompt,
            source=self.source,
            index=self.index,
            token_ids=[token.id for token in self.body.tokens],
            statistics=self._statistics(finish),
        )

    def _statistics(self, finish: str) -> dict[str, float | str | None]:
        logprobs = [token.logprob for token in self.body.tokens]
        count = len(logprobs)
        result: dict[str, float | str | None] = {
            "new_tokens": count,
            "prompt_tokens": self.prompt_tokens,
            "seconds": self.seconds,
            "finish": finish,
        }
        if count:
            result |= {
                "tokens_per_second": count / self.seconds if self.seconds else 0.0,
                "first_token_ms": 1000 * self.first,
                "mean_probability": sum(map(math.exp, logprobs)) / count,
                "perplexity": math.exp(-sum(logprobs) / count),
            }
        if self.seed is not None:
            result["seed"] = str(self.seed)  # as text: JSON numbers lose digits
        return result


def refuse_nan(name: str, logprob: float | None, where: str) -> None:
    """Raise a HatcheryError where the model has computed no number; it says `where` that was."""
    if logprob is not None and math.isnan(logprob):
        raise HatcheryError(
            f"{name} computes NaN: its weights are not usable.",
            found=where,
            remedy="choose an earlier checkpoint of the run, or --precision fp32",
        )
