"""Settings of the stages that use a trained model; see `pipeline.options`."""

from typing import Literal

from pydantic import Field

from pipeline.options_data import Count, Device, Fraction, Options, Precision, Seed


class LoadOptions(Options):
    """Which checkpoints to load, where, and in what form."""

    checkpoint: list[str] | None = Field(
        None,
        description="Runs by name, run or checkpoint folders, Hugging Face folders or .pt files; "
        "default: a picker in a terminal, else the newest run's best",
    )
    tokenizer: str | None = Field(
        None, description="Name under tokenizers/ or a path, for checkpoints that hold none"
    )
    device: Device = Field("auto", description="Where to compute; auto: cuda, then mps, then cpu")
    precision: Precision = Field(
        "auto", description="Number format of the weights; auto: bf16 on a GPU that has it"
    )
    quantize: Literal["none", "int8", "int4"] = Field(
        "none", description="Weights in 8 or 4 bits: less memory, faster, a little worse"
    )
    engine: Literal["torch", "llamacpp"] = Field(
        "torch", description="What computes; llamacpp: faster on a CPU, needs the extra cpu-fast"
    )


class InferenceOptions(LoadOptions):
    """Let one or several checkpoints continue a prompt."""

    essential = ("checkpoint", "prompt", "max_length", "temperature")
    prompt: str | None = Field(
        None,
        description="Text to continue, or FILE:path; empty: a new document; default: ask in a "
        "terminal, else read standard input",
    )
    samples: int = Field(1, ge=1, le=256, description="Continuations per checkpoint")
    max_length: Count = Field(200, description="New tokens at most")
    temperature: float = Field(0.8, ge=0, le=100, description="0 takes the likeliest token")
    top_k: int = Field(50, ge=0, description="Sample among this many likeliest tokens; 0: all")
    top_p: float = Field(0.95, gt=0, le=1, description="Sample within this probability mass")
    min_p: Fraction = Field(0.0, description="Drop tokens below this share of the likeliest")
    repetition_penalty: float = Field(
        1.0, gt=0, le=10, description="Above 1 makes tokens that were there before less likely"
    )
    stop: list[str] | None = Field(None, description="Texts that end a continuation, left out")
    seed: Seed | None = Field(None, description="Same seed, same text; default: a new one")


class ServeOptions(LoadOptions):
    """Answer programs that speak the OpenAI protocol, and people in a browser."""

    essential = ("checkpoint", "host", "port", "token")
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
        description="What clients send as API key; default: HATCHERY_TOKEN, else a new one",
    )
    open: bool = Field(False, description="Ask for no token; on this machine's own address only")
    rows: Count = Field(16, description="Texts written at once per model")
    queue: Count = Field(64, description="Requests that may wait; more are told to come back")
    models: Count = Field(4, description="Models kept in memory; the least used makes room")
    max_tokens: Count = Field(4096, description="New tokens per text at most")
    max_n: Count = Field(16, description="Texts per request at most")
    max_body: Count = Field(1 << 20, description="Bytes of a request at most")
    request_seconds: float = Field(
        600, gt=0, description="Longest a request may take, its sending included, seconds"
    )
    attached: bool = Field(False, description="End when standard input closes, as the app's own")
