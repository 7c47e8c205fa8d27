"""Settings of the stages that use a trained model; see `pipeline.options.config`."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from model.generation.settings import DEFAULT_LENGTH, SamplingSettings
from pipeline.options.data import Count, Device, Fraction, Options, Precision, Seed


def _site(origin: str) -> str:
    parts = urlsplit(origin)
    if origin == "*" or (parts.hostname and origin == f"{parts.scheme}://{parts.netloc}"):
        return origin
    raise ValueError("an origin is SCHEME://HOST[:PORT] without a path, or *")


SampleCount: TypeAlias = Literal["all"] | Count
Origin: TypeAlias = Annotated[str, AfterValidator(_site)]


class ModelOptions(Options):
    """Which checkpoints to load, where, and in what form."""

    checkpoint: list[str] | None = Field(
        None,
        description="Runs by name, run or checkpoint folders, Hugging Face folders or .pt files; "
        "default: a picker in a terminal, else the newest run's best",
    )
    tokenizer: str | None = Field(
        None, description="Name under tokenizers/ or a path, for checkpoints that hold none"
    )
    device: Device = Field(
        "auto", description="Where to compute; auto: cuda, then mps, then cpu; cuda:1: a second GPU"
    )
    precision: Precision = Field(
        "auto", description="Number format of the weights; auto: bf16 on a GPU that has it"
    )
    quantize: Literal["none", "int8", "int4"] = Field(
        "none", description="Weights in 8 or 4 bits: less memory, faster, a little worse"
    )


class LoadOptions(ModelOptions):
    """The same for writing text, which another program may compute."""

    engine: Literal["torch", "llamacpp"] = Field(
        "torch",
        description="What computes; torch is the faster also on a CPU; llamacpp needs cpu-fast",
    )


class InferenceOptions(LoadOptions):
    """Let one or several checkpoints continue a prompt."""

    common_fields = ("checkpoint", "prompt", "max_length", "temperature")
    prompt: str | None = Field(
        None,
        description="Text to continue, or FILE:path; empty: a new document; default: ask in a "
        "terminal, else read standard input",
    )
    chat: str | None = Field(
        None,
        description="Question to answer in the model's chat template, or FILE:path; the answer "
        "alone is printed",
    )
    samples: int = Field(1, ge=1, le=256, description="Continuations per checkpoint")
    max_length: Count = Field(DEFAULT_LENGTH, description="New tokens at most")
    temperature: float = Field(
        SamplingSettings.temperature, ge=0, le=100, description="0 takes the likeliest token"
    )
    top_k: int = Field(
        SamplingSettings.top_k or 0,
        ge=0,
        description="Sample among this many likeliest tokens; 0: all",
    )
    top_p: float = Field(
        SamplingSettings.top_p or 1.0,
        gt=0,
        le=1,
        description="Sample within this probability mass",
    )
    min_p: Fraction = Field(
        SamplingSettings.min_p or 0.0, description="Drop tokens below this share of the likeliest"
    )
    repetition_penalty: float = Field(
        SamplingSettings.repetition_penalty,
        gt=0,
        le=10,
        description="Above 1 makes tokens that were there before less likely",
    )
    stop: list[str] | None = Field(
        None,
        description="Texts that end a continuation, left out; a line break is typed as $'\\n'",
    )
    seed: Seed | None = Field(None, description="Same seed, same text; default: a new one")


class ServeOptions(LoadOptions):
    """Answer programs that speak the OpenAI protocol, and people in a browser."""

    common_fields = ("checkpoint", "host", "port", "token")
    checkpoint: list[str] | None = Field(
        None,
        description="Runs by name, run or checkpoint folders, Hugging Face folders or .pt files; "
        "default: all runs, each loaded when it is first asked for",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; default: this machine only")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any that is free")
    token: str | None = Field(
        None,
        min_length=8,
        description="What clients send as API key; typed here, other users of the machine can see "
        "it; default: HATCHERY_TOKEN, else a new one",
    )
    open: bool = Field(False, description="Ask for no token; on this machine's own address only")
    allowed_origins: list[Origin] | None = Field(
        None,
        description="Sites whose pages may use the server, such as http://localhost:3000; *: all, "
        "which needs a token; default: its own page",
        json_schema_extra={"flag": "--allow-origin"},
    )
    rows: Count = Field(16, description="Texts written at once per model")
    queue: Count = Field(64, description="Requests that may wait; more are told to come back")
    models: Count = Field(4, description="Models kept in memory; the least used makes room")
    max_tokens: Count = Field(4096, description="New tokens per text at most")
    max_n: Count = Field(16, description="Texts per request at most")
    max_body: Count = Field(1 << 20, description="Bytes of a request at most")
    request_seconds: float = Field(
        600, gt=0, description="Longest a request may take, its sending included, seconds"
    )
    receive_seconds: float = Field(
        20, gt=0, description="Longest that the sending of a request may take, seconds"
    )
    connections: Count = Field(
        1000, description="Open connections at most; the slowest sender makes room"
    )
    attached: bool = Field(False, description="End when standard input closes, as the app's own")


class ExportOptions(Options):
    """Turn a checkpoint into a model that other programs open."""

    common_fields = ("checkpoint", "to", "dtype")
    checkpoint: str | None = Field(
        None,
        description="Run by name, run or checkpoint folder, Hugging Face folder or id, or .pt "
        "file; default: the newest run's best",
    )
    to: Literal["hf", "gguf"] = Field(
        "hf", description="hf: a folder for transformers and vLLM; gguf: for llama.cpp and Ollama"
    )
    output: Path | None = Field(None, description="Folder to write; default: a new one in exports/")
    dtype: Literal["auto", "f32", "f16", "bf16", "q8_0"] = Field(
        "auto",
        description="Number format of the weights; auto: as they are; q8_0: 8 bits, gguf only",
    )
    name: str | None = Field(None, description="What the model is called; default: as its run")
    tokenizer: str | None = Field(
        None, description="Name under tokenizers/ or a path, for a checkpoint that holds none"
    )
    force: bool = Field(False, description="Write it again although nothing changed")


class BenchmarkOptions(ModelOptions):
    """Judge how good checkpoints are: scores with intervals, compared item by item."""

    common_fields = (
        "checkpoint", "every_checkpoint", "tasks", "preset", "samples", "data", "text",
    )  # fmt: skip
    checkpoint: list[str] | None = Field(
        None,
        description="Runs by name, run or checkpoint folders, Hugging Face folders or ids, or .pt "
        "files; default: by --every-checkpoint, else the newest run's best",
    )
    every_checkpoint: str | None = Field(
        None, description="Run whose checkpoints are all judged: scores over its steps"
    )
    tasks: list[str] | None = Field(
        None,
        description="Tasks by name; default: those whose data is given, else the embedded ones, "
        "which need no download, and those fetched before",
    )
    data: list[Path] | None = Field(
        None,
        description="Files of tasks, folders that hold them, or TASK=FILE; default: none for sets "
        "of ours, the Hugging Face hub's for others, fetched once",
    )
    text: list[Path] | None = Field(
        None,
        description="Files or folders of your own text, of any kind that cleanup reads: bits per "
        "byte, perplexities and how often the next token is foretold",
    )
    harness: list[str] | None = Field(
        None,
        description="Tasks of lm-evaluation-harness by name, its YAML files below --data included; "
        "needs the extra eval",
    )
    preset: Literal["quick", "standard", "comprehensive"] = Field(
        "standard",
        description="Documents, items and completions per task: 50, 20, 10; 100, 50, 20; or 200, "
        "100, 50",
    )
    samples: SampleCount | None = Field(
        None, description="Items of each task, or all; default: as many as the preset says"
    )
    bos: Literal["auto", "on", "off"] = Field(
        "auto",
        description="BOS, or else EOS, before every context; auto: as the model was trained",
    )
    window: int | None = Field(
        None, ge=2, description="Tokens that the model reads at once; default: its context"
    )
    endpoint: str | None = Field(
        None,
        description="Server whose model is judged instead, by /v1/completions "
        "with echo and logprobs: http://host:port",
    )
    endpoint_model: str | None = Field(None, description="Name of the model there")
    endpoint_key_env: str | None = Field(
        None, description="Environment variable that holds the server's key"
    )
    contamination: Literal["auto", "off"] = Field(
        "auto",
        description="Look for the items in the training text and score without those found as "
        "well; auto: where the run's tokens are there",
    )
    training_data: Path | None = Field(
        None,
        description="Token set that checkpoints of other programs learned from, to look for the "
        "items in",
    )
    batch_tokens: Count | None = Field(
        None, description="Tokens that are read in one batch; default: as suits the device"
    )
    force: bool = Field(False, description="Score again what was scored before")


class BenchOptions(Options):
    """Measure how fast this machine reads, writes and trains with a model."""

    common_fields = ("checkpoint", "seconds", "quantize")
    checkpoint: str | None = Field(
        None,
        description="Run by name, run or checkpoint folder, or .pt file; default: the model "
        "section with random weights",
    )
    device: Device = Field(
        "auto", description="Where to compute; auto: cuda, then mps, then cpu; cuda:1: a second GPU"
    )
    precision: Precision = Field(
        "auto", description="Number format; auto: what generation and training each take"
    )
    quantize: Literal["none", "int8", "int4"] = Field(
        "none", description="Form of the weights for reading and writing"
    )
    prompt: Count = Field(256, description="Tokens of the prompt that is read")
    texts: int = Field(8, ge=1, le=256, description="Texts written at once, beside one alone")
    batch_size: Count = Field(8, description="Windows of a training step; fewer on a slow machine")
    window: int = Field(256, ge=2, description="Training context, tokens")
    threads: Count | None = Field(None, description="CPU threads; default: torch's choice")
    seconds: float = Field(40, gt=0, le=3600, description="Time to measure for, about")
