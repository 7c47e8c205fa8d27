"""What every training run is about to start or go on with, whatever it learns from."""

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from model.config import ModelConfig, flops_per_token
from model.huggingface.generation_config import GenerationConfig, read_generation_config
from pipeline.options.config import TrainingOptions, Typed
from pipeline.runs import folders
from pipeline.runs.record import Epoch, RunRecord, write_record
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.train.init_from import Initial
from utils import VERSION
from utils.artefacts import Source
from utils.hardware import has_compiler

MOST_VALIDATION_BATCHES = 200
"""Batches of a validation at most, where --eval-batches sets no limit."""

_WORTH_COMPILING_STEPS = 300  # on a GPU
_WORTH_COMPILING_SECONDS = 900.0  # of the whole run on a CPU
_USUAL_MFU = 0.4  # share of the matrix-product ceiling that training reaches


@dataclass(frozen=True)
class RunSetup(ABC):
    """A run about to start or go on; `initial` are weights that a new one begins with, `origin`
    says where those of any run came from. `record` is what a run that goes on has on record, and
    `parent` the checkpoint of another run that this one branches off. `epoch` is what the run's
    epochs count.

    `command` is the stage that trains it, `validations` how many an epoch has by default.
    """

    command: ClassVar[str]
    validations: ClassVar[int] = 10

    folder: Path
    options: TrainingOptions
    model: ModelConfig
    tokenizer: Tokenizer
    total_steps: int
    steps_per_epoch: float
    resume_from: Path | None = None
    parent: Path | None = None
    notes: list[str] = field(default_factory=list)
    initial: Initial | None = None
    origin: Source | None = None
    record: RunRecord | None = None
    epoch: Epoch = "text"

    @property
    @abstractmethod
    def data_source(self) -> Source:
        """What it learns from."""

    @property
    @abstractmethod
    def window(self) -> int:
        """Positions of a row at most, tokens."""

    @abstractmethod
    def epochs_at(self, step: int, tokens: int) -> float:
        """How often its data was read after so many steps and tokens."""

    @property
    def steps_done(self) -> int:
        """Optimizer steps before the first one."""
        return 0 if self.resume_from is None else folders.step_of(self.resume_from)

    @property
    def resumes_itself(self) -> bool:
        """Whether it goes on in its own folder."""
        return self.resume_from is not None and self.parent is None

    @property
    def validation_interval(self) -> int:
        """Steps between validations."""
        return validation_interval(
            self.options, self.steps_per_epoch, self.total_steps, self.validations
        )

    @property
    def generation(self) -> GenerationConfig:
        """What the weights that it begins with, or goes on from, declare of their texts."""
        began = None if self.initial is None else self.initial.path
        path = self.resume_from or began
        return GenerationConfig() if path is None else read_generation_config(path)

    @property
    def sources(self) -> list[Source]:
        """What its checkpoints are made from: the data, and the first weights if given."""
        return [self.data_source, *filter(None, [self.origin])]

    @property
    def fingerprints(self) -> dict[str, str]:
        """What must still be the same when the run goes on."""
        return {
            "data": self.data_source.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
        }


def length_note(section: str, options: TrainingOptions, typed: Typed) -> list[str]:
    """That of two lengths given in one place only one counts, where that is so."""
    both = {"max_steps", "epochs"} <= options.model_fields_set and options.max_steps is not None
    if not both or len({f"{section}.max_steps", f"{section}.epochs"} & typed) == 1:
        return []  # what was typed is stronger than a file, which is as it should be
    return [
        f"max_steps {options.max_steps:,} and epochs {options.epochs:g} both say how long to "
        "train: max_steps decides, epochs is not used."
    ]


def validation_interval(
    options: TrainingOptions, steps_per_epoch: float, total_steps: int, validations: int = 10
) -> int:
    """Steps between validations: by default `validations` in an epoch, or in a run shorter than
    one."""
    some = math.ceil(min(steps_per_epoch, total_steps) / validations)
    return options.eval_every or max(1, some)


def compiling_pays(setup: RunSetup, device_type: str, ceiling: float) -> bool:
    """Whether the run is long compared to the half minute to minute that compiling takes.

    `ceiling` is `model.device.measured_matmul_ceiling` of the device.
    """
    if device_type != "cpu":
        return device_type == "cuda" and setup.total_steps >= _WORTH_COMPILING_STEPS
    options, window = setup.options, setup.window
    tokens = options.batch_size * options.gradient_accumulation_steps * window
    flops = flops_per_token(setup.model, window) * tokens * setup.total_steps
    seconds = flops / (_USUAL_MFU * ceiling)
    return seconds >= _WORTH_COMPILING_SECONDS and has_compiler()


def save_record(setup: RunSetup) -> None:
    """Write the run.json of a run about to start or go on, where it would change.

    What was changed on resuming is kept, so that the next resume goes on in the same way.
    """
    before = setup.record
    parent = None if setup.parent is None else str(setup.parent)
    record = RunRecord(
        options=setup.options.model_dump(mode="json"),
        model=setup.model.model_dump(mode="json"),
        data=setup.data_source.path,
        fingerprints=setup.fingerprints,
        created=before.created if before else time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        version=before.version if before else VERSION,
        parent=before.parent if before else parent,
        initial=before.initial if before else setup.origin,
        epoch=setup.epoch,
        command=setup.command,
        checksum=before.checksum if before else "",
    )
    if record != before or not record.checksum:
        write_record(setup.folder, record)
