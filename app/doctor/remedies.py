"""What may help a job that ended badly, as commands that can be started with one key.

The values come from the job's own command and from what the stage itself advised.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from app.commands.flags import section_model
from app.jobs.job import Job
from app.jobs.retry import command_again, command_of, run_folder, stage_of
from pipeline.corpora import name_of
from pipeline.events import Failed
from pipeline.options.config import Config, TrainingOptions
from pipeline.runs.record import read_record, recorded_options
from pipeline.stages import STAGES, Stage
from utils.errors import HatcheryError
from utils.units import human_bytes

_MISSING = "MissingError"  # a failure of this kind lists steps to do one after the other


class Cause(StrEnum):
    """What went wrong, in words for a heading."""

    MEMORY = "out of memory"
    NAN = "the numbers broke down"
    DISK = "the disk is full"
    MISSING = "something is missing"
    MISMATCH = "things do not belong together"
    BUSY = "in use by another process"
    SETTINGS = "a setting is wrong"
    NETWORK = "the network"
    KILLED = "ended from outside"
    KILLED_BY_YOU = "killed by you"
    RESTARTED = "the machine was restarted"
    TERMINAL = "its terminal was closed"
    TERMINATED = "told to end"
    STOPPED = "stopped by you"
    MISTAKE = "a mistake in Hatchery"
    OTHER = "it could not go on"
    ACTIVE = "it has not ended"
    NONE = "nothing is wrong"


class Remedy(NamedTuple):
    """Something that may help. `command` is a stage and its arguments that take the job's place,
    empty for what is done by hand; `first` is an earlier stage that has to be done before, and
    `earlier` are those, in order, that `first` needs in turn. `edit` says that the command makes
    sense only once the user has changed it."""

    label: str
    why: str
    command: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    edit: bool = False
    earlier: tuple[tuple[str, ...], ...] = ()

    @property
    def commands(self) -> list[tuple[str, ...]]:
        """All that it runs, in order."""
        return [words for words in (*self.earlier, self.first, self.command) if words]


class Case(NamedTuple):
    """A job with its command understood: `stage` and `typed` arguments, the settings they resolve
    to (None where they are not valid), and the run a training can go on with."""

    job: Job
    stage: Stage
    typed: tuple[str, ...]
    config: Config | None
    run: Path | None
    failed: Failed | None

    @property
    def training(self) -> TrainingOptions | None:
        """The settings that a training had: a run that goes on has its own, where not typed. None
        of a job that trains nothing."""
        options, run = getattr(self.config, self.stage.section, None), self.run
        if not isinstance(options, TrainingOptions):
            return None
        if run is None or options.resume is None:
            return options
        home = Path(self.job.record.cwd) if self.job.record else Path()
        try:
            return recorded_options(home / run, read_record(home / run))
        except HatcheryError:
            return options

    def again(self, *more: str) -> tuple[str, ...]:
        """The command, going on where it stopped, with `more`."""
        return tuple(command_again(self.job, more))

    def anew(self, *more: str) -> tuple[str, ...]:
        """The command from the beginning, with `more`."""
        from app.commands.arguments import overlaid, without

        fresh = without(self.stage, self.typed, "resume")
        return (self.stage.command, *overlaid(self.stage, fresh, more))


def remedies(cause: Cause, job: Job, failed: Failed | None) -> list[Remedy]:
    """What may help, the most promising first."""
    if cause in (Cause.ACTIVE, Cause.NONE):
        return []
    try:
        case = _case(job, failed)
    except HatcheryError as error:
        return [Remedy(error.remedy or "Start it anew", error.problem)]
    found = list(_FOR.get(cause, _general)(case))
    commands = {remedy.command for remedy in found if remedy.command and not remedy.first}
    if case.again() not in commands and cause is not Cause.SETTINGS:
        found.append(_again(case))
    found.append(Remedy("Change its settings", "opens its form", case.again(), edit=True))
    return found


def _case(job: Job, failed: Failed | None) -> Case:
    from app.commands.parser import parse_stage

    command, *typed = command_of(job)
    stage = stage_of(command)
    try:
        config = parse_stage([command, *typed]).config
    except HatcheryError:
        config = None
    return Case(job, stage, tuple(typed), config, run_folder(job), failed)


def _again(case: Case) -> Remedy:
    if case.run is not None:
        return Remedy("Go on where it stopped", f"the last checkpoint in {case.run}", case.again())
    keeps = "from the beginning" if case.training else "what is done is kept"
    return Remedy("Run it again", keeps, case.again())


def _general(case: Case) -> Iterator[Remedy]:
    """The advice of the stage: commands first, else its words."""
    commands = startable(case.failed) if case.failed else []
    if case.failed and case.failed.kind == _MISSING:
        commands = commands if len(commands) == len(case.failed.commands) else []
        *earlier, first = [_same_source(case, words) for words in commands] or [()]
        if first:
            label = f"First {', then '.join(' '.join(words) for words in (*earlier, first))}"
            yield Remedy(
                label, "then this job again", case.again(), first=first, earlier=tuple(earlier)
            )
            return
    for words in (_same_source(case, words) for words in commands):
        typed = " ".join(words)
        if words[0] == case.stage.command:
            yield Remedy(f"Run {typed}", "as it advises itself", words)
        elif "--list" not in words:
            again = _with_corpus_of(case, words)
            yield Remedy(f"First {typed}", "then this job again", again, first=words)
    if case.failed and case.failed.remedy and not commands:
        yield Remedy(_capital(case.failed.remedy), "as it advises itself")


def startable(failed: Failed) -> list[tuple[str, ...]]:
    """The stages in the failure's own advice that can be started as they are: no word is left for
    the user to fill in, such as NAME."""
    known = {stage.command for stage in STAGES}
    return [
        command
        for command in failed.commands
        if command[0] in known and not any(re.fullmatch(r"[A-Z_]{2,}", word) for word in command)
    ]


def _same_source(case: Case, words: tuple[str, ...]) -> tuple[str, ...]:
    """Advice names no source where the stage could not know it; then it is the job's own. Texts
    that it names are their own corpus."""
    source = getattr(_options(case), "source", None)
    taken = "source" in section_model(stage_of(words[0]).section).model_fields
    named = "--source" in words or "--input" in words
    return (*words, "--source", source) if source and taken and not named else words


def _with_corpus_of(case: Case, first: Sequence[str]) -> tuple[str, ...]:
    """The command again, on the corpus that `first` makes of the texts that it names."""
    given = [Path(path) for flag, path in pairwise(first) if flag == "--input"]
    return case.again("--source", name_of(given)) if given else case.again()


def _capital(text: str) -> str:
    return text if text.startswith("python ") else text[:1].upper() + text[1:]


# What is known to help.


def _mismatch(case: Case) -> Iterator[Remedy]:
    yield from _general(case)
    if case.training and "--resume" in case.typed:
        yield Remedy("Start a new run", "with the data there is now", case.anew())
    elif hasattr(_options(case), "force"):
        yield Remedy("Do it all again", "what it made before is replaced", case.again("--force"))


def _options(case: Case) -> object:
    return getattr(case.config, case.stage.section, None)


_LESS: tuple[tuple[str, int, int, str], ...] = (
    ("workers", 100, 1, "one process holds less than several"),
    ("shard_tokens", 4, 1024, "a worker holds one shard"),
    ("train_mib", 2, 1, "it learns from less text"),
)
"""Settings of other stages that cost memory: what to divide them by, the least value, and why."""
_FEW_TOKENS = 1024  # of a benchmark at once, where it chose itself
_ONE_TEXT = ("samples", 256, 1, "it writes one text at a time")


def _memory(case: Case) -> Iterator[Remedy]:
    if case.config is not None and case.training:
        yield from _smaller_training(case, case.config, case.training)
        return
    if case.config is not None and case.stage.command == "benchmark":
        size = max(64, (case.config.benchmark.batch_tokens or 4 * _FEW_TOKENS) // 4)
        flags = ("--batch-tokens", str(size))
        yield Remedy(f"Read {size:,} tokens at once", "scores stay the same", case.again(*flags))
        return
    for name, by, least, why in (*_LESS, *[_ONE_TEXT] * (case.stage.command == "inference")):
        value = getattr(_options(case), name, None)
        if value is not None and (less := max(least, value // by)) < value:
            flag = f"--{name.replace('_', '-')}"
            command = case.again(flag, str(less))
            yield Remedy(f"Run it with {flag} {less}", f"{why}; it was {value:,}", command)


def _smaller_training(case: Case, config: Config, options: TrainingOptions) -> Iterator[Remedy]:
    checkpointing = "--gradient-checkpointing"
    why = "it keeps less for the backward pass, and takes about a third longer"
    if not options.gradient_checkpointing and case.run is not None:
        yield Remedy("Go on with gradient checkpointing", why, case.again(checkpointing))
    if smaller := options.smaller_batches():
        batch, parts = map(str, smaller)
        flags = ("--batch-size", batch, "--gradient-accumulation-steps", parts)
        yield Remedy(
            f"Smaller batches: {batch} rows, {parts} times per step",
            "learns the same per step",
            case.again(*flags) if case.run else case.anew(*flags),
        )
    if not options.gradient_checkpointing and case.run is None:
        yield Remedy("Gradient checkpointing", why, case.again(checkpointing))
    if case.stage.command == "train" and (model := _smaller_model(case, config)):
        yield model


def _smaller_model(case: Case, config: Config) -> Remedy | None:
    """The largest preset, or else half the layers, that makes the model a good part smaller."""
    from app.commands.parser import parse_stage
    from model.config import PRESETS, ModelConfig, parameter_count

    now = parameter_count(config.model)
    own = [name for name in PRESETS if not name.startswith("gpt2")]
    sizes = {n: parameter_count(ModelConfig.model_validate({"preset": n})) for n in own}
    names = sorted(own, key=lambda name: -sizes[name])
    ways = [("--model.preset", name) for name in names if sizes[name] < now]
    ways.append(("--model.num-layers", str(max(1, config.model.num_layers // 2))))
    for flag, value in ways:
        command = case.anew(flag, value)
        try:
            model = parse_stage(command).config.model
        except HatcheryError:  # it contradicts what was typed
            continue
        # What was typed beside a preset is stronger: the preset may then change next to nothing.
        taken = value not in PRESETS or model.hidden_size == PRESETS[value]["hidden_size"]
        size = parameter_count(model)
        if taken and size < 0.8 * now:
            label = f"A smaller model: {flag.rpartition('.')[2].replace('-', ' ')} {value}"
            return Remedy(label, f"{size / now:.0%} of the parameters, in a new run", command)
    return None


def _nan(case: Case) -> Iterator[Remedy]:
    options, go_on = case.training, "Go on" if case.run else "Begin again"
    if options is None:
        yield from _general(case)
        return
    rates = {"--learning-rate": options.learning_rate} if options.learning_rate else {}
    if options.optimizer == "muon":
        rates["--matrix-learning-rate"] = options.matrix_learning_rate
    for share, name in ((2, "half"), (4, "a quarter of")) if rates else ():
        lower = [word for flag, rate in rates.items() for word in (flag, f"{rate / share:g}")]
        yield Remedy(f"{go_on} with {name} the learning rate", " ".join(lower), case.again(*lower))
    if options.precision == "fp16":
        wider = ("--precision", "bf16")
        yield Remedy(f"{go_on} in bf16", "it has a wider range than fp16", case.again(*wider))
    yield Remedy("Look at the batch", "bad_batch_step_*.json in the run's folder holds its text")


def _disk(case: Case) -> Iterator[Remedy]:
    if case.config is not None:
        paths = case.config.paths
        home = Path(case.job.record.cwd) if case.job.record else Path()
        taken = largest(home / paths.data_dir, home / paths.checkpoints_dir)
        listed = ", ".join(f"{short(path, home)} {human_bytes(size)}" for path, size in taken)
        if listed:
            yield Remedy("Free some room", f"the largest folders here: {listed}")
        if case.training and case.training.keep_checkpoints > 1:
            few = ("--keep-checkpoints", "1")
            why = "and the best one; older ones are deleted as it goes on"
            yield Remedy("Keep only the newest checkpoint", why, case.again(*few))


def _sudden(case: Case) -> Iterator[Remedy]:
    """Going on is likeliest to help; where it dies again, memory was why."""
    yield _again(case)
    for remedy in _memory(case):
        yield remedy._replace(why=f"if it dies again: {remedy.why}")


def _by_hand_first(case: Case) -> Iterator[Remedy]:
    yield _again(case)
    yield from _general(case)


_FOR: dict[Cause, Callable[[Case], Iterator[Remedy]]] = {
    Cause.MEMORY: _memory,
    Cause.NAN: _nan,
    Cause.DISK: _disk,
    Cause.MISMATCH: _mismatch,
    Cause.KILLED: _sudden,
    Cause.NETWORK: _by_hand_first,
    Cause.BUSY: _by_hand_first,
    Cause.MISTAKE: _by_hand_first,
}


def largest(*folders: Path, count: int = 4) -> list[tuple[Path, int]]:
    """The largest things directly under `folders`, with their bytes."""
    sized = [(path, _bytes(path)) for folder in folders for path in _inside(folder)]
    sized.sort(key=lambda item: -item[1])
    return [(path, size) for path, size in sized if size][:count]


def short(path: Path, home: Path) -> Path:
    """`path` as seen from `home`, where it lies below it."""
    return path.relative_to(home) if path.is_relative_to(home) else path


def _inside(folder: Path) -> Iterator[Path]:
    """What a folder holds; nothing of one that is gone or not ours to read."""
    try:
        yield from folder.iterdir()
    except OSError:
        return


def _bytes(path: Path) -> int:
    total, waiting = 0, [path]
    while waiting:
        one = waiting.pop()
        if one.is_dir() and not one.is_symlink():
            waiting += _inside(one)
            continue
        try:
            total += one.lstat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total
