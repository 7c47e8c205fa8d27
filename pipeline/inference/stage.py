"""The inference stage: one or several checkpoints continue a prompt.

`InferenceSession` holds them in memory, so that a face can send it prompt after prompt.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from threading import Event as StopSignal
from typing import Any

from pipeline.events import Event, Finished, Progress, Sample, Started, Warned
from pipeline.inference.loading import bytes_needed, device_for, load_writer, memory_free, what_fits
from pipeline.inference.prompts import read_prompt
from pipeline.inference.writer import Writer
from pipeline.options.config import Config, InferenceOptions
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from pipeline.tokenizer.chat_template import is_chat_model
from utils.errors import UsageError
from utils.units import human_bytes

_ESCAPE = re.compile(r"\\([nrt])")


def run(config: Config, options: InferenceOptions, stop: StopSignal) -> Iterator[Event]:
    """Continue one prompt, or answer the question of `chat`, and end; without `checkpoint` the
    newest run's best does it.

    Raises:
        HatcheryError: no prompt, or a question beside it; no checkpoint, or things that do not
            belong together.
    """
    prompt = _given(options)
    directory = config.paths.checkpoints_dir
    chosen = [inventory.resolve(where, directory) for where in options.checkpoint or ()]
    session = InferenceSession(config, options, chosen or [inventory.newest(config)])
    texts = len(session.checkpoints) * options.samples
    yield Started("inference", session.title, texts, "texts")
    yield from session.load(stop)
    yield from session.generate(prompt, options, stop)


def _given(options: InferenceOptions) -> str:
    """The prompt or the question; an empty prompt, as the form proposes it, is none beside one."""
    if options.prompt and options.chat is not None:
        raise UsageError(
            "A text is either continued or answered.",
            found="both --prompt and --chat",
            remedy="leave one of them out",
        )
    given = options.prompt if options.chat is None else options.chat
    if given is None:
        raise UsageError(
            "There is no prompt.",
            remedy='give one: --prompt "Once upon a time", --prompt FILE:path, or --prompt "" for '
            'a new document; or a question: --chat "Who are you?"',
        )
    return read_prompt(given)


class InferenceSession:
    """Checkpoints in memory, each with its own tokenizer, and what they write.

    Raises:
        UsageError: the device or precision is not to be had here.
        RefusedError: a checkpoint is not whole.
    """

    def __init__(
        self, config: Config, options: InferenceOptions, checkpoints: Sequence[Checkpoint]
    ) -> None:
        self._config, self._options = config, options
        self._device = device_for(options)
        self.checkpoints = _unique_names(checkpoints)
        self._writers: list[Writer] = []

    @property
    def title(self) -> str:
        """What is about to be loaded, where, and how much memory that takes."""
        names = list(self.checkpoints)
        doing = "Generate with" if self._options.chat is None else "Ask"
        if len(names) == 1:
            return f"{doing} {names[0]} on {self._device}"
        needed, free = self._memory()
        return (
            f"{doing} {len(names)} checkpoints on {self._device}: about "
            f"{human_bytes(needed)} of {human_bytes(free)} free memory"
        )

    def load(self, stop: StopSignal) -> Iterator[Event]:
        """Read every checkpoint that is not in memory yet; `stop` ends it between two."""
        for text in self._options.stop or ():
            if escape := _ESCAPE.search(text):
                yield Warned(
                    f"--stop {text!r} stops at a backslash and the letter {escape[1]}.",
                    remedy=f"A line break or tab is typed as $'{escape[0]}'.",
                )
        needed, free = self._memory()
        if needed > free:
            yield Warned(
                f"The weights need about {human_bytes(needed)}, and {human_bytes(free)} are free.",
                remedy=self._memory_remedy(free),
            )
        for done, (name, checkpoint) in enumerate(self.checkpoints.items()):
            if stop.is_set():
                return
            yield Progress(done, len(self.checkpoints), "checkpoints", f"loading {name}")
            tokenizers = self._config.paths.tokenizers_dir
            writer = load_writer(checkpoint.path, name, self._options, tokenizers)
            self._writers.append(writer)
            yield from map(Warned, writer.notes)
            if self._options.chat is not None and not is_chat_model(checkpoint.path):
                yield Warned(
                    f"{name} was never taught to answer: it goes on with the question as its chat "
                    "template puts it."
                )

    def generate(self, prompt: str, options: InferenceOptions, stop: StopSignal) -> Iterator[Event]:
        """Let every checkpoint in turn continue `prompt`; the last event holds all texts.

        Checkpoints take turns because the speed of one is not to depend on the others.
        """
        seed = secrets.randbits(31) if options.seed is None else options.seed
        samples: list[Sample] = []
        for writer in self._writers:
            if stop.is_set():
                break
            for event in writer.write(prompt, options, seed=seed, stop=stop):
                if isinstance(event, Sample):
                    samples.append(event)
                yield event
        question = None if options.chat is None else prompt
        summary = _summary(samples, len(self._writers), question)
        yield Finished(summary, stopped=stop.is_set())

    def _memory_remedy(self, free: int) -> str:
        """What to do about weights that do not fit."""
        if len(self.checkpoints) > 1:
            return "Choose fewer checkpoints, or --quantize int8."
        [checkpoint] = self.checkpoints.values()
        return what_fits(checkpoint.path, self._options, free)

    def _memory(self) -> tuple[int, int]:
        """Bytes that the weights need and that are free on the device."""
        needed = sum(bytes_needed(c, self._options) for c in self.checkpoints.values())
        return needed, memory_free(self._device)


def _unique_names(checkpoints: Sequence[Checkpoint]) -> dict[str, Checkpoint]:
    """Each once, under a name that no other one has."""
    unique = {checkpoint.path.resolve(): checkpoint for checkpoint in checkpoints}
    labels = [checkpoint.label for checkpoint in unique.values()]
    return {
        label if labels.count(label) == 1 else str(checkpoint.path): checkpoint
        for label, checkpoint in zip(labels, unique.values(), strict=True)
    }


def _summary(samples: Sequence[Sample], checkpoints: int, question: str | None) -> dict[str, Any]:
    """All texts, those that answer with their `question`; of several checkpoints also who was
    fastest, longest and quickest per token."""
    summary: dict[str, Any] = {}
    totals = _totals(samples)
    if checkpoints > 1 and totals:
        fastest = min(totals, key=lambda name: totals[name][1])
        longest = max(totals, key=lambda name: totals[name][0])
        quickest = max(totals, key=lambda name: _speed(*totals[name]))
        summary = {
            "fastest": f"{fastest}, {totals[fastest][1]:.2f} s",
            "most_tokens": f"{longest}, {totals[longest][0]:,} tokens",
            "highest_speed": f"{quickest}, {_speed(*totals[quickest]):,.0f} tokens/s",
        }
    asked = {} if question is None else {"question": question}
    texts = [
        {
            "checkpoint": sample.source,
            "sample": sample.index,
            "prompt": sample.prompt,
            "text": sample.text,
            "token_ids": sample.token_ids,
            "statistics": sample.statistics,
        }
        | asked
        for sample in samples
    ]
    return summary | {"texts": texts}


def _totals(samples: Sequence[Sample]) -> dict[str, tuple[int, float]]:
    """New tokens and seconds of every checkpoint; its samples were written together."""
    totals: dict[str, tuple[int, float]] = {}
    for sample in samples:
        tokens, seconds = totals.get(sample.source, (0, 0.0))
        own = float(sample.statistics["seconds"] or 0.0)
        totals[sample.source] = (tokens + len(sample.token_ids), max(seconds, own))
    return totals


def _speed(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds else 0.0
