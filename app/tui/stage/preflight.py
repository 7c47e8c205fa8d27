"""What the pre-flight card says: an estimate, remedies, and what a probe of this machine gave.

Reads a few small files, loads neither torch nor widgets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from app.jobs.job import Job
from app.tui.stage.stage_form import StageForm
from app.tui.system import MeasuredSpeed
from model.config import flops_per_token, parameter_count
from pipeline.options.config import NOTHING_TYPED, Config, Typed
from pipeline.planning.estimate import Estimate
from pipeline.planning.inputs import Inputs, read_inputs
from pipeline.planning.remedies import Remedy, remedies
from pipeline.planning.wording import Line, lines
from utils.errors import HatcheryError
from utils.units import human_bytes, human_count, human_seconds

_LONG = 60.0  # seconds of a stage that is started only after a question
_ASKED = ("Model", "Data", "Training", "Memory", "Time")  # the lines that the question shows
# What the speed depends on, beside model and window.
_SPEED = ("batch_size", "optimizer", "precision", "gradient_checkpointing", "device", "threads")


class Outlook(NamedTuple):
    """The card's contents: lines, the estimate they are from, changes to offer; `problem` where
    training would refuse to start."""

    lines: list[Line]
    plan: Estimate | None
    remedies: list[Remedy]
    problem: HatcheryError | None


def outlook(
    config: Config, measured: MeasuredSpeed | None = None, typed: Typed = NOTHING_TYPED
) -> Outlook:
    """What training with `config` would need, of which `typed` changes a run that goes on; never
    raises: what is wrong becomes its problem."""
    try:
        inputs = read_inputs(config, typed)
        plan = _estimated(config, inputs, measured)
        return Outlook(_lines(inputs, plan, measured), plan, remedies(inputs, plan), None)
    except HatcheryError as error:
        problem = error
    except (OSError, ValueError) as error:  # a file that changes while it is read
        problem = HatcheryError("The estimate cannot be made.", found=str(error))
    return Outlook([_model_alone(config)], None, [], problem)


def before_long(
    form: StageForm, jobs: Sequence[Job], measured: MeasuredSpeed | None
) -> list[Line] | None:
    """What to know before a stage is started that takes long; None for one that is short, or of
    which nobody knows.

    Raises:
        HatcheryError: the training would be refused.
    """
    config, command = form.draft.config, form.stage.command
    if command == "train":
        found = outlook(config, measured)
        if found.problem is not None:
            raise found.problem
        timed = found.plan.seconds if found.plan is not None else None
        if timed is not None and timed <= _LONG:
            return None
        lines = [line for line in found.lines if line.name in _ASKED]
        unknown = Line("Time", "not measured yet", "p in its form times a few real steps")
        return [unknown if line.name == "Time" and timed is None else line for line in lines]
    if command == "quickstart":
        seconds: float | None = config.quickstart.minutes * 60
    else:
        ended = (job for job in jobs if job.stage == command and job.state == "done")
        last = next(ended, None)
        seconds = last.duration(last.started) if last is not None else None
    if seconds is None or seconds <= _LONG:
        return None
    known = "about" if command == "quickstart" else "the last time it took"
    return [Line("Time", f"{known} {human_seconds(seconds)}")]


def understood(numbers: Mapping[str, Any], settings: tuple[object, ...]) -> MeasuredSpeed | None:
    """The measurement in the `numbers` of the plan stage; None where nothing was timed."""
    probe, seconds = numbers.get("probe"), numbers.get("seconds")
    if not isinstance(probe, dict) or not seconds:
        return None
    return MeasuredSpeed(
        float(probe["tokens_per_second"]),
        float(numbers["flops"]) / float(seconds),
        int(probe["memory"]),
        int(probe["steps"]),
        settings,
    )


def speed_settings(config: Config) -> tuple[object, ...]:
    """The settings on which the speed of training depends."""
    train = config.train
    return (config.model, train.window, *(getattr(train, name) for name in _SPEED))


def _estimated(config: Config, inputs: Inputs, measured: MeasuredSpeed | None) -> Estimate:
    """The estimate, at the measured speed; of other settings at the same arithmetic a second."""
    speed = None
    if measured is not None:
        speed = measured.tokens_per_second
        if measured.settings != speed_settings(config):
            each = flops_per_token(inputs.model, inputs.corpus.window)
            speed = measured.flops_per_second / each
    return inputs.estimated(tokens_per_second=speed, price_per_hour=config.plan.price_per_hour)


def _lines(inputs: Inputs, plan: Estimate, measured: MeasuredSpeed | None) -> list[Line]:
    found = lines(plan)
    for number, line in enumerate(found):
        if line.name == "Time":
            found[number] = _time(line, plan, measured)
    return [*found, *(Line("Note", "", note) for note in inputs.notes)]


def _time(line: Line, plan: Estimate, measured: MeasuredSpeed | None) -> Line:
    if measured is None:
        return line._replace(figure="not measured yet", remark="p times a few real steps here")
    if plan.tokens_per_second != measured.tokens_per_second:
        figure = f"about {line.figure}"
        return line._replace(figure=figure, remark="by a probe of other settings: p probes again")
    return line._replace(
        remark=f"{measured.tokens_per_second:,.0f} tokens/s in {measured.steps} real steps, which "
        f"took {human_bytes(measured.memory)}"
    )


def _model_alone(config: Config) -> Line:
    """The model without the data that its vocabulary comes from."""
    model = config.model
    count = human_count(parameter_count(model, embeddings=False))
    shape = f"{model.num_layers} layers × {model.hidden_size}"
    return Line("Model", f"{count} parameters", f"{shape}, without its vocabulary")
