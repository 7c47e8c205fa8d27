"""Texts that lm-evaluation-harness has a model write: many at once, each until its own end."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event as StopSignal
from typing import Any

from model.generation.batch import BatchScheduler
from model.generation.runner import runner_for
from model.generation.sampling import SamplingSettings
from pipeline.evaluation.scoring import Judge
from pipeline.inference.stop_strings import Continuation

_ROWS = 16  # texts written at once
_MOST = 256  # tokens of a text where a task says nothing, as the harness has it
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Wanted:
    """A text that continues `prompt`, by at most `most` tokens, up to the first of `until`."""

    prompt: str
    until: tuple[str, ...]
    most: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    @classmethod
    def of(cls, prompt: str, settings: str) -> "Wanted":
        """From the harness's settings, the `repr` of their sorted pairs; greedy unless they ask to
        sample."""
        given: dict[str, Any] = dict(ast.literal_eval(settings))
        until = given.get("until") or []
        samples = given.get("do_sample", bool(given.get("temperature")))
        return cls(
            prompt,
            tuple([until] if isinstance(until, str) else until),
            next((int(given[name]) for name in _LENGTHS if given.get(name)), _MOST),
            float(given.get("temperature", 1.0)) if samples else 0.0,
            float(given.get("top_p", 1.0)),
            int(given.get("top_k") or 0),
        )


def texts_written(
    judge: Judge, wanted: Sequence[Wanted], stop: StopSignal
) -> Iterator[tuple[int, str]]:
    """Every text with its index, as it ends; nothing more after `stop`.

    Prompts lose their beginning where the model could not see them and what it writes.
    """
    batch = BatchScheduler(runner_for(judge.model), _ROWS)
    open_texts: dict[int, tuple[int, Continuation]] = {}
    waiting = list(enumerate(wanted))[::-1]
    while (waiting or batch) and not stop.is_set():
        while waiting and batch.free:
            index, one = waiting.pop()
            prompt = judge.encoder.prompt(one.prompt)
            key = batch.join(prompt, _settings(judge, one))
            if key is None:
                yield index, ""
            else:
                tokenizer = judge.encoder.tokenizer
                open_texts[key] = index, Continuation(tokenizer, prompt, one.until)
        for token in batch.step() if batch else ():
            index, text = open_texts[token.row]
            text.push(token)
            if text.finish is not None:
                batch.leave(token.row)
                del open_texts[token.row]
                yield index, text.text


def _settings(judge: Judge, wanted: Wanted) -> SamplingSettings:
    return SamplingSettings(
        temperature=wanted.temperature,
        top_k=wanted.top_k,
        top_p=wanted.top_p,
        seed=0,
        max_new_tokens=wanted.most,
        stop_ids=judge.ends,
        vocabulary=judge.encoder.tokenizer.vocab_size,
    )
