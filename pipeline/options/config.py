"""Every setting: one model per stage and config.json section, each default in this one place.

The command line's flags, the validation, the help texts and the app's forms are generated from
these models, so a field carries its sentence and its unit. Importing this must not import torch.
Those of the data stages stand in `pipeline.options.data`, those of the stages that train in
`pipeline.options.training` and `pipeline.options.tuning`, those of the stages that use a model in
`pipeline.options.inference`.
"""

import re
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pydantic import Field, PrivateAttr, field_validator

from model.config import ModelConfig
from pipeline.corpora import last_corpus, titled
from pipeline.options.data import CleanupOptions as CleanupOptions
from pipeline.options.data import Count, Options
from pipeline.options.data import DatasetOptions as DatasetOptions
from pipeline.options.data import DownloadOptions as DownloadOptions
from pipeline.options.data import PathOptions as PathOptions
from pipeline.options.data import PrepareOptions as PrepareOptions
from pipeline.options.data import TokenizeOptions as TokenizeOptions
from pipeline.options.inference import BenchmarkOptions as BenchmarkOptions
from pipeline.options.inference import BenchOptions as BenchOptions
from pipeline.options.inference import ExportOptions as ExportOptions
from pipeline.options.inference import InferenceOptions as InferenceOptions
from pipeline.options.inference import LoadOptions as LoadOptions
from pipeline.options.inference import ModelOptions as ModelOptions
from pipeline.options.inference import ServeOptions as ServeOptions
from pipeline.options.training import TrainingOptions as TrainingOptions
from pipeline.options.training import TrainOptions as TrainOptions
from pipeline.options.tuning import LimaOptions as LimaOptions
from pipeline.options.tuning import SftOptions as SftOptions


class QuickstartOptions(Options):
    """Raise a first model from Python's own library, every stage in one go."""

    common_fields = ("chat", "minutes", "name")
    chat: bool = Field(
        False, description="Go on until the model answers questions, then open a chat with it"
    )
    minutes: float = Field(3.0, gt=0, le=600, description="Training time to plan for, minutes")
    vocab_size: int = Field(4096, ge=259, le=65536, description="Tokenizer vocabulary, ids")
    name: str = Field("first", description="Name of the tokenizer and run")
    max_steps: Count | None = Field(
        None, description="Train this many steps instead of planning by time"
    )
    force: bool = Field(False, description="Do everything again")


_DEADLINE = r"(\d|[01]\d|2[0-3]):[0-5]\d|(\d+(\.\d+)?(d|h|min|m|s) ?)+"


class PlanOptions(Options):
    """Say what a training would need before it starts; takes the options of train as well."""

    probe: bool = Field(
        True, description="Time a few real steps on this machine; without, only arithmetic"
    )
    price_per_hour: float | None = Field(
        None, ge=0, description="What an hour of this machine costs, in your currency"
    )
    finish_by: str | None = Field(
        None,
        description="Deadline as HH:MM or a duration such as 90m or 8h: sizes the training",
    )

    @field_validator("finish_by")
    @classmethod
    def _deadline(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_DEADLINE, value):
            raise ValueError("a deadline is a time such as 08:00 or a duration such as 90m or 8h")
        return value


class RehearseOptions(Options):
    """Try every stage on a sample of your own data; takes the options of train as well."""

    common_fields = ("documents", "steps")
    source: str | None = Field(None, description="Named source; default: what cleanup would take")
    input: list[Path] | None = Field(
        None, description="Files, folders or globs to read; default: what cleanup would read"
    )
    documents: int = Field(200, ge=20, le=10_000, description="Documents in the sliver")
    steps: int = Field(3, ge=2, le=100, description="Optimizer steps of the rehearsed training")


class Config(Options):
    """The whole of config.json."""

    paths: PathOptions = PathOptions()
    dataset: DatasetOptions = DatasetOptions()
    model: ModelConfig = ModelConfig()
    download: DownloadOptions = DownloadOptions()
    cleanup: CleanupOptions = CleanupOptions()
    tokenize: TokenizeOptions = TokenizeOptions()
    prepare: PrepareOptions = PrepareOptions()
    train: TrainOptions = TrainOptions()
    sft: SftOptions = SftOptions()
    inference: InferenceOptions = InferenceOptions()
    serve: ServeOptions = ServeOptions()
    export: ExportOptions = ExportOptions()
    benchmark: BenchmarkOptions = BenchmarkOptions()
    lima: LimaOptions = LimaOptions()
    bench: BenchOptions = BenchOptions()
    quickstart: QuickstartOptions = QuickstartOptions()
    plan: PlanOptions = PlanOptions()
    rehearse: RehearseOptions = RehearseOptions()
    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """The file that --config named, for commands that shall have the same settings."""
        return self._file

    def read_from(self, file: Path) -> "Config":
        """The same, noting that --config named `file`."""
        noted = self.model_copy()
        noted._file = file
        return noted

    @property
    def source(self) -> str:
        """The corpus that is meant where a stage names none: the configured one, else the one
        worked on last."""
        return self.dataset.source or last_corpus(self.paths.data_dir).name

    def titled(self, what: str, own: str | None = None) -> str:
        """A stage's first line: `what` it does with which corpus, `own` being the one that it was
        told, and how to choose another where it was told none."""
        if name := own or self.dataset.source:
            return titled(what, name, named=True)
        meant = last_corpus(self.paths.data_dir)
        return titled(what, meant.name, named=False, note=meant.note)

    def raw_dir(self, source: str) -> Path:
        """Folder of a source as published."""
        return self.paths.data_dir / "raw" / source

    def cleaned_dir(self, source: str, *, test: bool = False) -> Path:
        """Folder of a source's clean documents."""
        return self.paths.data_dir / "cleaned_articles" / (f"{source}_test" if test else source)

    def tokens_dir(self, source: str, *, test: bool) -> Path:
        """Folder of a source's token shards."""
        kind = "test" if test else "full"
        configured: Path | None = getattr(self.dataset, f"{source}_{kind}_dir", None)
        folder = self.paths.data_dir / "tokenized_datasets" / f"{source}_{kind}_dataset"
        return configured or folder


TRAININGS: dict[str, type[TrainingOptions]] = {"train": TrainOptions, "sft": SftOptions}
"""The settings of each stage that trains, by its command."""

Typed: TypeAlias = frozenset[str]
"""Which settings were typed, by dotted names: a resumed run lets only those change its own."""
NOTHING_TYPED: Typed = frozenset()


class Settings(NamedTuple):
    """What a command runs with: all settings, and which of them were typed."""

    config: Config
    typed: Typed = NOTHING_TYPED


def typed_in(section: str, typed: Typed) -> set[str]:
    """Names of the settings of `section` that were typed."""
    prefix = f"{section}."
    return {name.removeprefix(prefix) for name in typed if name.startswith(prefix)}
