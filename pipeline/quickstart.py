"""Raise a first model: every stage in turn on Python's own library, nothing to download.

Each stage is the one that users run by hand, with its settings filled in here; what is done
already is skipped, and a training that was interrupted goes on.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

from model.config import ModelConfig, parameter_count
from pipeline import corpora, stages
from pipeline.events import Event, Finished, Progress, Sample, Saved, Started, Warned
from pipeline.nested import nested_events, revised
from pipeline.options.config import (
    Config,
    LimaOptions,
    QuickstartOptions,
    Settings,
    Typed,
    typed_in,
)
from pipeline.runs import folders
from pipeline.runs.record import read_record
from pipeline.tokens.metadata import Metadata, read_metadata
from utils.artefacts import read_manifest
from utils.errors import RefusedError, UsageError, as_typed

SOURCE = "python"
PROMPTS = (
    *("def read(self", "def __init__(self", "class Parser", "    def close(self):\n"),
    *("if __name__ == ", "for name in ", "class Test", "    try:\n"),
)
_TEXTS = 2  # of each beginning, of which the best of all is shown
_PENALTY = 1.15  # of a token that was there before: a model of minutes likes to repeat itself
_SHORT = 40  # tokens below which a text shows little
_NGRAM, _REPEATED = 6, 0.2  # tokens in a row, and the share of them that may have been there before
# Width and layers, largest first. At the few minutes of a first model less is more: with equal
# arithmetic on 2 cores, 128 x 4 reached 1.42 bits per byte, 192 x 4 1.46 and 256 x 6 1.62.
SIZES = ((512, 8), (384, 6), (256, 6), (192, 4), (128, 4))
_TOKENS_PER_PARAMETER = 1.0
_MOST_EPOCHS = 8.0
_NAME = QuickstartOptions().name
TUNING: dict[str, Any] = {
    "window": 256,
    "batch_size": 8,
    "epochs": 3.0,
    "learning_rate": 3e-3,
}
"""A model of a million parameters and short answers; a large model would forget at such a rate."""
TRAINING: dict[str, Any] = {
    "window": 256,
    "batch_size": 8,
    "learning_rate": 5e-3,
    "beta1": 0.8,
    "weight_decay": 0.0,
    "warmup_steps": 20,
    "cooldown": 0.6,
    "eval_batches": 12,
    "log_every": 5,
    "sample_prompt": "def ",
}


@dataclass
class _Outcome:
    """How an nested stage ended."""

    finished: Finished | None = None

    @property
    def stopped(self) -> bool:
        return self.finished is None or self.finished.stopped


def run(
    config: Config, options: QuickstartOptions, stop: StopSignal, typed: Typed
) -> Iterator[Event]:
    """Clean, tokenize, prepare, train, and let the model write.

    Raises:
        HatcheryError: whatever a stage raises.
    """
    yield Started("quickstart", "Raise a first model from Python's own library")
    config = _settings(config, options)
    outcome = _Outcome()
    for command in ("cleanup", "tokenize", "prepare"):
        outcome = yield from _nested(command, Settings(config, typed), stop)
        if outcome.stopped:
            yield Finished(stopped=True)
            return
    config = yield from _with_training(config, options, stop, typed)
    if stop.is_set():
        yield Finished(stopped=True)
        return
    if config.train.resume is None:
        typed |= {"train.max_steps"}  # the length that was planned is stronger than a file's epochs
    outcome = yield from _nested("train", Settings(config, typed), stop)
    if outcome.stopped or stop.is_set():
        yield Finished(stopped=True)
        return
    assert outcome.finished is not None
    assert outcome.finished.path is not None
    folder = outcome.finished.path
    if options.chat:
        yield from _taught_to_answer(config, options, folder, stop, typed)
        return
    written = yield from _at_its_best(config, folder, stop)
    yield Finished(_next_commands(folder, written, options.name), folder)


def _taught_to_answer(
    config: Config, options: QuickstartOptions, base: str, stop: StopSignal, typed: Typed
) -> Iterator[Event]:
    """Make questions and answers of the library's documentation, and tune the run `base` on
    them."""
    config = _with_conversations(config, options)
    outcome = yield from _nested("lima", Settings(config, typed), stop)
    if not outcome.stopped:
        config = _with_tuning(config, options, base)
        outcome = yield from _nested("sft", Settings(config, typed), stop)
    if outcome.stopped or stop.is_set():
        yield Finished(stopped=True)
        return
    assert outcome.finished is not None
    assert outcome.finished.path is not None
    tuned = outcome.finished.path
    yield Finished({"chat with it": as_typed(("chat", tuned))}, tuned)


def _with_conversations(config: Config, options: QuickstartOptions) -> Config:
    """The configuration of the set that the model learns to answer from."""
    tokenizer = str(config.paths.tokenizers_dir / options.name)
    made = LimaOptions(embedded=True, tokenizer=tokenizer, force=options.force)
    return revised(config, lima=made)


def _with_tuning(config: Config, options: QuickstartOptions, base: str) -> Config:
    """The configuration of tuning: going on with the run of that name, where it was made from
    these conversations and this run, or a new one."""
    name = tuned_name(options.name)
    examples = config.paths.data_dir / corpora.EXAMPLES / config.lima.set_name
    known = not options.force and _tuned_from(config, name, Path(base), examples)
    if known:
        return revised(config, sft=revised(config.sft, name=name, resume="auto"))
    changes = TUNING | {"checkpoint": base, "data": examples, "name": name, "resume": None}
    if options.max_steps is not None:
        changes["max_steps"] = options.max_steps
    return revised(config, sft=revised(config.sft, **changes))


def tuned_name(name: str) -> str:
    """What the tuned run is called beside the one that it began from."""
    return f"{name}_chat"


def _tuned_from(config: Config, name: str, base: Path, examples: Path) -> bool:
    """Whether there is a run of that name, tuned on exactly these conversations from `base`."""
    try:
        run = folders.find_run(config.paths.checkpoints_dir, name, "sft")
        record = read_record(run)
    except (UsageError, RefusedError):
        return False
    made = read_manifest(examples)
    began = Path(record.initial.path) if record.initial is not None else None
    return (
        record.command == "sft"
        and made is not None
        and record.fingerprints["data"] == made.fingerprint
        and began is not None
        and base.resolve() in began.resolve().parents
    )


def _nested(command: str, settings: Settings, stop: StopSignal) -> Generator[Event, None, _Outcome]:
    """Run another stage as part of this one; its end becomes a `Saved` event, reported once."""
    makes, outcome, reported = stages.find(command).makes, _Outcome(), False
    for event in nested_events(command, settings, stop):
        if not isinstance(event, Finished):
            reported = reported or (isinstance(event, Saved) and event.kind == makes)
            yield event
            continue
        outcome.finished = event
        if event.path is not None and not event.stopped and not reported:
            yield Saved(makes, event.path, {"unchanged": True} if event.skipped else {})
    return outcome


def _at_its_best(config: Config, folder: str, stop: StopSignal) -> Generator[Event, None, int]:
    """Let the model go on with several beginnings and show the text it finds likeliest among those
    that do not repeat themselves; how many it was chosen from."""
    yield Started("inference", "Let the model write")
    texts: list[Sample] = []
    for number, prompt in enumerate(PROMPTS, 1):
        events = nested_events("inference", Settings(_sampling(config, folder, prompt)), stop)
        for event in events:
            if isinstance(event, Sample):
                texts.append(event)
            elif isinstance(event, Warned):
                yield event
        yield Progress(number, len(PROMPTS), "beginnings")
        if stop.is_set():
            break
    if texts:
        yield min(texts, key=_fault_of)
    return len(texts)


def _fault_of(text: Sample) -> tuple[bool, bool, float]:
    """What speaks against a text, worst first: loops, brevity, how unlikely the model finds it."""
    perplexity = text.statistics.get("perplexity")
    unlikely = perplexity if isinstance(perplexity, float) else math.inf
    return loops(text), len(text.token_ids) < _SHORT, unlikely


def loops(text: Sample) -> bool:
    """Whether a text repeats itself: a line three times in a row, or many token sequences."""
    lines = text.text.split("\n")
    if any(a.strip() and a == b == c for a, b, c in zip(lines, lines[1:], lines[2:], strict=False)):
        return True
    ids = text.token_ids
    sequences = [tuple(ids[at : at + _NGRAM]) for at in range(len(ids) - _NGRAM + 1)]
    return len(set(sequences)) < (1 - _REPEATED) * len(sequences)


def _settings(config: Config, options: QuickstartOptions) -> Config:
    """The configuration of all stages before training."""
    tokenizer = config.paths.tokenizers_dir / options.name
    return revised(
        config,
        dataset=revised(config.dataset, source=SOURCE),
        cleanup=revised(config.cleanup, source=SOURCE, force=options.force),
        tokenize=revised(
            config.tokenize,
            train="bpe",
            vocab_size=options.vocab_size,
            name=options.name,
            source=SOURCE,
            force=options.force,
        ),
        prepare=revised(
            config.prepare,
            source=SOURCE,
            tokenizer=str(tokenizer),
            window=TRAINING["window"],
            force=options.force,
        ),
    )


def _with_training(
    config: Config, options: QuickstartOptions, stop: StopSignal, typed: Typed
) -> Generator[Event, None, Config]:
    """The configuration of training: going on with the run of that name, or a new one whose
    length is planned by the speed of this machine."""
    if not options.force and _can_go_on(config, options.name):
        if typed_in("quickstart", typed) & {"minutes", "max_steps"}:
            yield Warned(
                f"There is a run called {options.name} already; it keeps the length it began with.",
                remedy="--name NAME trains another, --force this one anew.",
            )
        resume = revised(config.train, resume="auto", name=options.name)
        return revised(config, train=resume)
    train = revised(config.train, name=options.name, resume=None, data=None, **TRAINING)
    tokens = _tokens(config)
    config = revised(config, model=_model(SIZES[-1], tokens), train=train)
    if options.max_steps is not None:
        return revised(config, train=revised(train, max_steps=options.max_steps))
    yield Started("plan", "Measure how fast this machine trains")
    config, steps = _largest_that_learns(config, options.minutes * 60, tokens, stop)
    yield Progress(1, 1)
    return revised(config, train=revised(train, max_steps=steps))


def _largest_that_learns(
    config: Config, seconds: float, tokens: Metadata, stop: StopSignal
) -> tuple[Config, int]:
    """The largest model that sees as many tokens as it has parameters in `seconds`, and the
    optimizer steps that this time allows; each size is timed here, not guessed."""
    from pipeline.planning.probe import seconds_per_step

    batch_tokens = TRAINING["window"] * TRAINING["batch_size"]
    most = max(1, round(_MOST_EPOCHS * tokens.tokens / batch_tokens))
    sized, steps = config, 1
    for size in reversed(SIZES):
        larger = revised(config, model=_model(size, tokens))
        possible = round(seconds / seconds_per_step(larger, larger.train, stop))
        possible = min(most, max(1, possible))
        enough = possible * batch_tokens >= _TOKENS_PER_PARAMETER * parameter_count(larger.model)
        if size != SIZES[-1] and not enough:
            break
        sized, steps = larger, possible
    return sized, steps


def _tokens(config: Config) -> Metadata:
    folder = config.tokens_dir(SOURCE, test=False)
    manifest = read_manifest(folder)
    assert manifest is not None
    return read_metadata(folder, manifest)


def _model(size: tuple[int, int], tokens: Metadata) -> ModelConfig:
    """A model that a Hugging Face architecture holds, started the way that learns fastest."""
    width, layers = size
    return ModelConfig(
        vocab_size=tokens.tokenizer.vocab_size,
        hidden_size=width,
        num_layers=layers,
        num_heads=max(4, width // 64),
        num_kv_heads=max(4, width // 64),
        max_position_embeddings=512,
        qk_norm=True,
        norm_gain=False,
        zero_init=True,
    )


def _can_go_on(config: Config, name: str) -> bool:
    """Whether there is a run of that name on exactly these tokens."""
    try:
        run = folders.find_run(config.paths.checkpoints_dir, name, "train")
    except UsageError:
        return False
    tokens = read_manifest(config.tokens_dir(SOURCE, test=False))
    return tokens is not None and read_record(run).fingerprints["data"] == tokens.fingerprint


def _sampling(config: Config, folder: str, prompt: str) -> Config:
    inference = revised(
        config.inference,
        checkpoint=[folder],
        prompt=prompt,
        seed=1,
        samples=_TEXTS,
        temperature=0.6,
        repetition_penalty=_PENALTY,
    )
    return revised(config, inference=inference)


def _next_commands(folder: str, written: int, name: str) -> dict[str, Any]:
    taught = ["quickstart", "--chat", *(["--name", name] if name != _NAME else [])]
    return {
        "the text above": f"its best of {written}: the likeliest that does not repeat itself",
        "talk to it": f"python main.py inference --checkpoint {folder}",
        "teach it to answer": as_typed(taught),
        "train longer": "python main.py quickstart --minutes 20 --name second",
        "use your own text": "python main.py cleanup --input FOLDER",
        "all commands": "python main.py --help",
    }
