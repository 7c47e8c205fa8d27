"""Settings of the stages before training; see `pipeline.options.config`."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from utils.files import home_path
from utils.hardware import parse_device


def _known_device(name: str) -> str:
    parse_device(name)
    return name


Count: TypeAlias = Annotated[int, Field(ge=1)]
Fraction: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Device: TypeAlias = Annotated[
    Literal["auto", "cpu", "cuda", "mps"] | str, AfterValidator(_known_device)
]
Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]


class Options(BaseModel):
    """Base of all sections: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    common_fields: ClassVar[tuple[str, ...]] = ()  # the fields that a form shows first

    @field_validator("*")
    @classmethod
    def _at_home(cls, value: object) -> object:
        """A shell replaces ~ only where it begins a word; in --data=~/x, config.json and a field
        of the app it arrives here."""
        if isinstance(value, list):
            return [home_path(item) if isinstance(item, Path) else item for item in value]
        return home_path(value) if isinstance(value, Path) else value


def settings_of(options: object) -> frozenset[str]:
    """The names of all settings of a section; none of what is no section."""
    return frozenset(type(options).model_fields if isinstance(options, Options) else ())


class PathOptions(Options):
    """Where things live; relative paths count from the working directory."""

    data_dir: Path = Field(Path("data"), description="Raw, cleaned and tokenized text")
    tokenizers_dir: Path = Field(Path("tokenizers"), description="One folder per tokenizer")
    checkpoints_dir: Path = Field(Path("checkpoints"), description="One folder per run")
    logs_dir: Path = Field(Path("logs"), description="Jobs, TensorBoard and raw metrics")


class DatasetOptions(Options):
    """Which text everything downstream works on."""

    source: str | None = Field(
        None, description="Corpus to work on; default: the one worked on last"
    )
    wikipedia_test_dir: Path = Field(
        Path("data/tokenized_datasets/wikipedia_test_dataset"), description="Small Wikipedia tokens"
    )
    wikipedia_full_dir: Path = Field(
        Path("data/tokenized_datasets/wikipedia_full_dataset"), description="All Wikipedia tokens"
    )
    fineweb_test_dir: Path = Field(
        Path("data/tokenized_datasets/fineweb_test_dataset"), description="Small FineWeb tokens"
    )
    fineweb_full_dir: Path = Field(
        Path("data/tokenized_datasets/fineweb_full_dataset"), description="All FineWeb tokens"
    )


class DownloadOptions(Options):
    """Fetch a named source of text, or list them."""

    common_fields = ("name", "max_files")
    name: str | None = Field(
        None, description="Source to fetch", json_schema_extra={"positional": True}
    )
    list: bool = Field(False, description="List the named sources instead")
    revision: str | None = Field(
        None, description="Commit or branch of a Hugging Face source; default: a pinned commit"
    )
    max_files: Count | None = Field(None, description="Files to fetch at most; default: all")
    url: str | None = Field(
        None, description="Mirror to fetch from: the file itself, or a Hugging Face endpoint"
    )
    force: bool = Field(False, description="Fetch again what is already there")


class CleanupOptions(Options):
    """Turn raw records into clean documents, one per line."""

    common_fields = ("source", "input", "name", "test")
    source: str | None = Field(None, description="Corpus; default: the one worked on last")
    input: list[Path] | None = Field(
        None, description="Files, folders or globs to read; default: the source's raw folder"
    )
    name: str | None = Field(
        None, description="What the corpus is called; default: as the folder or file of --input"
    )
    test: bool = Field(False, description="Only the first 50,000 articles of each process")
    output: Path | None = Field(
        None, description="Folder to write; default: data/cleaned_articles/NAME"
    )
    format: Literal["jsonl", "txt"] = Field(
        "jsonl", description="JSON with id, title and text per line, or plain text, one per line"
    )
    text_field: str | None = Field(
        None, description="Field of JSON or Parquet rows that holds the text; default: known names"
    )
    workers: Count = Field(4, description="Processes at most, one file each")
    min_words: int = Field(20, ge=0, description="Shorter documents are rejected as stubs, words")
    force: bool = Field(False, description="Do it again even when nothing changed")


class TokenizeOptions(Options):
    """Train or fetch a tokenizer; encode, decode and measure with it."""

    common_fields = ("train", "vocab_size", "name", "load")
    train: Literal["bpe", "char"] | None = Field(None, description="Train a tokenizer of this kind")
    vocab_size: int = Field(
        8192, ge=259, le=1_000_000, description="Size of a trained BPE vocabulary, ids"
    )
    train_mib: int = Field(
        256,
        ge=1,
        le=65536,
        description="Text to learn from at most, MiB; sampled when there is more",
    )
    name: str | None = Field(
        None, description="Folder name under tokenizers/; default: from the kind"
    )
    source: str | None = Field(
        None, description="Corpus to learn from; default: the one worked on last"
    )
    input: list[Path] | None = Field(
        None, description="Clean documents to learn from or measure; default: the cleaned source"
    )
    text_field: str | None = Field(
        None, description="Field of rows of --input that holds the text; default: known names"
    )
    load: str | None = Field(
        None,
        description="codellama, gpt2, a name under tokenizers/, a folder, a tokenizer.json, a "
        "vocab file beside its merges, or a Hugging Face id",
    )
    encode: str | None = Field(None, description="Text to encode")
    decode: str | None = Field(None, description='Ids to decode, as in "123,456"')
    force: bool = Field(False, description="Train or fetch again even when nothing changed")


class PrepareOptions(Options):
    """Turn clean documents into token shards ready for training."""

    common_fields = ("tokenizer", "window", "test")
    source: str | None = Field(None, description="Corpus; default: the one worked on last")
    input: list[Path] | None = Field(
        None,
        description="Clean documents, or any rows with a text; default: the corpus's clean ones",
    )
    name: str | None = Field(
        None, description="What the corpus is called; default: as the folder or file of --input"
    )
    text_field: str | None = Field(
        None, description="Field of rows of --input that holds the text; default: known names"
    )
    output: Path | None = Field(None, description="Folder to write; default: by source and --test")
    tokenizer: str | None = Field(
        None, description="Name under tokenizers/ or a path; default: the newest one there"
    )
    window: int = Field(512, ge=2, description="Training context, tokens")
    test: bool = Field(False, description="Only the first 10,000 articles")
    stride: Count | None = Field(
        None, description="Distance between windows, tokens; default: half the window"
    )
    batch: Count = Field(10_000, description="Documents encoded at a time at most")
    split: Literal["document", "tail"] = Field(
        "document",
        description="Hold out whole documents by hash of their id, or the end of each shard",
    )
    shard_tokens: int = Field(
        100_000_000,
        ge=1024,
        description="Tokens per shard at most; each worker holds one in memory",
    )
    workers: Count = Field(4, description="Processes at most, each with files of its own")
    force: bool = Field(False, description="Do it again even when nothing changed")
