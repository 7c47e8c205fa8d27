"""Settings of the stages that change a model's weights; see `pipeline.options.config`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.options.data import Count, Device, Fraction, Options, Precision, Seed
from utils.scheduler import lr_multiplier


class TrainingOptions(Options):
    """What every training has: its length, its steps, and what is done between them."""

    name: str | None = Field(None, description="Added to the run folder's name")
    resume: str | None = Field(
        None, description="Run or checkpoint to go on with, or auto: the newest run"
    )
    max_steps: Count | None = Field(
        None, description="Optimizer steps in all; default: from --epochs"
    )
    epochs: float | None = Field(None, gt=0, description="Times that its data is read")
    batch_size: Count = Field(16, description="Rows per micro-batch")
    gradient_accumulation_steps: Count = Field(1, description="Micro-batches per optimizer step")
    optimizer: Literal["muon", "adamw"] = Field(
        "muon", description="Muon for hidden matrices with AdamW for the rest, or AdamW for all"
    )
    learning_rate: float | None = Field(3e-3, gt=0, description="Peak rate of AdamW")
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
    tensorboard: bool = Field(True, description="Write TensorBoard files to logs/tensorboard")

    @property
    def peak_rate(self) -> float:
        """AdamW's peak learning rate; a stage that chooses it itself has done so before it uses
        it."""
        assert self.learning_rate is not None
        return self.learning_rate

    def lr_multiplier(self, step: int, total: int) -> float:
        """The share of the peak learning rate at 0-based `step` of `total`."""
        return lr_multiplier(
            step,
            total,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            cooldown=self.cooldown,
            min_ratio=self.min_lr_ratio,
        )

    def smaller_batches(self) -> tuple[int, int] | None:
        """The next smaller batch size with more accumulation that gives the same rows per step;
        None where a batch is one row."""
        batch = self.batch_size
        by = next((n for n in range(2, batch + 1) if batch % n == 0), None)
        return None if by is None else (batch // by, self.gradient_accumulation_steps * by)


class TrainOptions(TrainingOptions):
    """Train a model on token shards; stop and resume at will."""

    common_fields = (
        "name", "resume", "max_steps", "epochs", "batch_size", "optimizer", "learning_rate",
        "precision",
    )  # fmt: skip
    epochs: float = Field(
        2.0,
        gt=0,
        description="Times that the text is read; windows that overlap read it in fewer steps",
    )
    batch_size: Count = Field(16, description="Windows per micro-batch")
    learning_rate: float = Field(3e-3, gt=0, description="Peak rate of AdamW")
    test: bool = Field(False, description="Use the small data set made by prepare --test")
    init_from: str | None = Field(
        None,
        description="Begin with these weights: gpt2 to gpt2-xl, a run, a folder, a .pt file or a "
        "Hugging Face id, id@revision",
    )
    data: Path | None = Field(None, description="Token folder; default: that of the corpus")
    val_split: float = Field(0.05, gt=0, lt=0.5, description="Share held out for validation")
    window: int | None = Field(
        None, ge=2, description="Training context, tokens; default: the data set's"
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
