"""Settings of the stages that tune a model to answer; see `pipeline.options.config`."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline import corpora
from pipeline.options.data import Count, Options
from pipeline.options.training import TrainingOptions

_RATES = ((10_000_000, 1e-3), (100_000_000, 2e-4))  # most parameters, rate
_FASTEST_ADAPTERS = 2e-3
_EPOCHS, _MOST_EPOCHS, _FEW_STEPS = 3.0, 10.0, 60


class LimaOptions(Options):
    """Turn conversations into examples that a model is tuned on."""

    common_fields = ("input", "from_corpus", "embedded", "tokenizer", "max_length")
    input: list[Path] | None = Field(
        None,
        description="Files of conversations, folders or globs; default: LIMA, from the Hugging "
        "Face hub",
    )
    from_corpus: str | None = Field(
        None,
        description="Corpus in whose clean documents conversations are found by rule",
        json_schema_extra={"flag": "--from"},
    )
    embedded: bool = Field(
        False, description="Questions and answers from the documentation of Python's own library"
    )
    votes: bool = Field(
        False, description="Pairs of answers that were compared, from the votes cast in Compare"
    )
    tokenizer: str | None = Field(
        None,
        description="Name under tokenizers/ or a path, also of the model to be tuned; default: "
        "the newest one there",
    )
    name: str | None = Field(
        None, description="What the set is called; default: as the file, the corpus, or lima"
    )
    max_length: int = Field(
        512, ge=8, description="Tokens of a conversation at most; longer ones are left out"
    )
    batch_size: Count = Field(64, description="Conversations encoded between two looks at a stop")
    val_split: float = Field(0.05, gt=0, lt=0.5, description="Share held out for validation")
    force: bool = Field(False, description="Do it again even when nothing changed")

    @property
    def set_name(self) -> str:
        """What the set is called: as typed, else by what it is made of."""
        if self.name or self.from_corpus:
            return self.name or self.from_corpus or ""
        if self.input:
            return corpora.name_of(self.input)
        return "votes" if self.votes else "python_questions" if self.embedded else "lima"


class SftOptions(TrainingOptions):
    """Tune a checkpoint on conversations, so that it answers."""

    common_fields = (
        "checkpoint", "data", "name", "resume", "epochs", "learning_rate", "batch_size",
    )  # fmt: skip
    checkpoint: str | None = Field(
        None,
        description="What to tune: a run, a checkpoint folder, a .pt file or a Hugging Face id; "
        "default: the newest run's best",
    )
    data: Path | None = Field(
        None,
        description="Conversations made by lima: their folder, or its name; default: the newest",
    )
    epochs: float | None = Field(
        None,
        gt=0,
        description="Times that the conversations are read; default: 3, of a small set up to 10",
    )
    batch_size: Count = Field(8, description="Rows per micro-batch")
    window: int | None = Field(
        None,
        ge=2,
        description="Tokens of a row; default: 512, or as the longest conversation needs",
    )
    packing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Several conversations in a row, none of which sees another; auto: where two "
        "fit into one",
    )
    optimizer: Literal["muon", "adamw"] = Field(
        "adamw", description="AdamW for all, or Muon for hidden matrices with AdamW for the rest"
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="Peak rate of AdamW; default: by the size of the model, 5e-5 for large ones",
        json_schema_extra={"flag": "--lr"},
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled decay of matrices")
    schedule: Literal["cosine", "wsd", "constant"] = Field(
        "cosine", description="Shape of the learning rate: cosine, warmup-stable-decay, constant"
    )
    warmup_steps: int = Field(10, ge=0, description="Linear warm-up, steps")
    log_every: Count = Field(1, description="Steps between logged metrics")
    eval_every: Count | None = Field(
        None, description="Steps between validations; default: five per epoch"
    )
    keep_checkpoints: Count = Field(
        3, description="Step checkpoints kept; best, latest and the end of each epoch always are"
    )
    answers: int = Field(
        2, ge=0, le=64, description="Held-out questions that it answers with each sample"
    )
    method: Literal["sft", "dpo"] = Field(
        "sft",
        description="Learn answers, or by dpo to prefer the chosen of two; a row is then a pair",
    )
    lora: bool = Field(
        False, description="Learn small adapters beside the frozen weights: less memory"
    )
    lora_rank: Count = Field(16, description="Columns of an adapter")
    lora_alpha: float = Field(32.0, gt=0, description="An adapter is multiplied by this / rank")
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of an adapter's inputs dropped in training"
    )
    beta: float = Field(
        0.1, gt=0, description="dpo: how much the margin between two answers counts, per nat"
    )
    nll_weight: float = Field(
        0.0, ge=0, description="dpo: weight of the chosen answer's own loss, which keeps it likely"
    )


def usual_epochs(steps_per_epoch: float) -> float:
    """How often conversations are read where nobody has said it: three times, or more of so few
    that it would end after a handful of steps; not any number, since each epoch keeps a checkpoint.
    """
    return min(max(_EPOCHS, math.ceil(_FEW_STEPS / steps_per_epoch)), _MOST_EPOCHS)


def usual_rate(parameters: int, *, lora: bool = False, preferences: bool = False) -> float:
    """AdamW's peak rate for a model of so many parameters, where nobody has chosen one. Adapters
    take up to ten times that of all weights, preferences a tenth of that of answers.

    Small models need more than the usual 5e-5, which leaves them nearly as they were. Measured on
    held-out answers, in nats per token: 1.4 M parameters after 16 steps on 64 LIMA conversations
    6.54 -> 6.48 at 5e-5, 6.40 at 2e-4, 6.22 at 1e-3, 6.14 at 3e-3; after 40 steps on questions
    about Python 5.69 -> 4.77 at 2e-4, 4.17 at 1e-3, 3.82 at 3e-3; 5 M after 16 steps on the LIMA
    conversations 6.96 at 5e-5, 6.79 at 2e-4, 6.54 at 1e-3. The larger ones were not measured.
    """
    rate = next((rate for most, rate in _RATES if parameters <= most), 5e-5)
    if lora:
        rate = min(10 * rate, _FASTEST_ADAPTERS)
    return rate / (10 if preferences else 1)
