"""Every setting: one model per stage and config.json section, each default in this one place.

The command line's flags, the validation, the help texts and the app's forms are generated from
these models, so a field carries its sentence and its unit. Importing this must not import torch.
Those of the data stages stand in `pipeline.options.data`, those of the stages that use a model in
`pipeline.options.inference`.
"""

import re
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pydantic import Field, PrivateAttr, field_validator

from model.config import ModelConfig
from pipeline.corpora import last_corpus, titled
from pipeline.options.data import CleanupOptions as CleanupOptions
from pipeline.options.data import Count, Device, Fraction, Options, Precision, Seed
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


class TrainOptions(Options):
    """Train a model on token shards; stop and resume at will."""

    common_fields = (
        "name", "resume", "max_steps", "epochs", "batch_size", "optimizer", "learning_rate",
        "precision",
    )  # fmt: skip
    test: bool = Field(False, description="Use the small data set made by prepare --test")
    name: str | None = Field(None, description="Added to the run folder's name")
    resume: str | None = Field(
        None, description="Run or checkpoint to go on with, or auto: the newest run"
    )
    init_from: str | None = Field(
        None,
        description="Begin with these weights: gpt2 to gpt2-xl, a run, a folder, a .pt file or a "
        "Hugging Face id, id@revision",
    )
    data: Path | None = Field(None, description="Token folder; default: that of the corpus")
    val_split: float = Field(0.05, gt=0, lt=0.5, description="Share held out for validation")
    max_steps: Count | None = Field(
        None, description="Optimizer steps in all; default: from --epochs"
    )
    epochs: float = Field(
        2.0,
        gt=0,
        description="Times that the text is read; windows that overlap read it in fewer steps",
    )
    batch_size: Count = Field(16, description="Windows per micro-batch")
    gradient_accumulation_steps: Count = Field(1, description="Micro-batches per optimizer step")
    window: int | None = Field(
        None, ge=2, description="Training context, tokens; default: the data set's"
    )
    optimizer: Literal["muon", "adamw"] = Field(
        "muon", description="Muon for hidden matrices with AdamW for the rest, or AdamW for all"
    )
    learning_rate: float = Field(3e-3, gt=0, description="Peak rate of AdamW")
    matrix_learning_rate: float = Field(2e-2, gt=0, description="Peak rate of Muon")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled decay of matrices")
    beta1: Fraction = Field(0.9, description="AdamW first-moment decay")
    beta2: Fraction = Field(0.95, description="AdamW second-moment decay")
    momentum: Fraction = Field(0.95, description="Muon momentum")
    gradient_clip: float | None = Field(
        1.0, gt=0, description="Largest global gradient norm; null: no clipping"
    )
    schedule: Literal["cosine", "wsd", "constant"] = Field(
        "wsd", description="Shape of the learning rate: cosine, warmup-stable-decay, constant"
    )
    warmup_steps: int = Field(50, ge=0, description="Linear warm-up, steps")
    cooldown: float = Field(0.5, ge=0, le=1, description="Share of the steps wsd decays over")
    min_lr_ratio: float = Field(
        0.0, ge=0, le=1, description="Final learning rate as a share of the peak"
    )
    precision: Precision = Field("auto", description="Number format of the matrix products")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile: auto uses it where the run is long enough to pay"
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, slower"
    )
    device: Device = Field(
        "auto", description="Where to compute; auto: cuda, then mps, then cpu; cuda:1: a second GPU"
    )
    threads: Count | None = Field(None, description="CPU threads; default: torch's choice")
    seed: Seed = Field(42, description="Seed of weights, data order and dropout")
    log_every: Count = Field(10, description="Steps between logged metrics")
    eval_every: Count | None = Field(
        None, description="Steps between validations; default: ten per epoch"
    )
    eval_batches: Count | None = Field(
        None, description="Validation batches at most; default: the whole set up to 200"
    )
    checkpoint_every: Count | None = Field(
        None, description="Steps between checkpoints; default: with every validation"
    )
    keep_checkpoints: Count = Field(
        3, description="Step checkpoints kept; best and latest always are"
    )
    early_stopping: Count | None = Field(
        None, description="Validations without improvement before stopping; null: never"
    )
    sample_every: Count | None = Field(
        None, description="Steps between text samples; default: with every validation"
    )
    benchmark_every: Count | None = Field(
        None,
        description="Steps between scores of tasks, shown beside the loss; their time is in no "
        "estimate; default: never",
    )
    benchmark_tasks: list[str] | None = Field(
        None,
        description="Tasks of these scores; default: our grammar pairs and texts of Python's "
        "library",
    )
    sample_prompt: str = Field("", description="What the samples continue; empty: a new document")
    tensorboard: bool = Field(True, description="Write TensorBoard files to logs/tensorboard")

    def smaller_batches(self) -> tuple[int, int] | None:
        """The next smaller batch size with more accumulation that gives the same windows per
        step; None where a batch is one window."""
        batch = self.batch_size
        by = next((n for n in range(2, batch + 1) if batch % n == 0), None)
        return None if by is None else (batch // by, self.gradient_accumulation_steps * by)


class QuickstartOptions(Options):
    """Raise a first model from Python's own library, every stage in one go."""

    common_fields = ("minutes", "name")
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
    inference: InferenceOptions = InferenceOptions()
    serve: ServeOptions = ServeOptions()
    export: ExportOptions = ExportOptions()
    benchmark: BenchmarkOptions = BenchmarkOptions()
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
