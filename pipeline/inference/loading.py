"""From what a user named to something that writes: checkpoint, tokenizer, device, form of the
weights and engine, and how much memory that takes.

One place for every face that writes text, so that all load the same things in the same way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from model import device as devices
from model.checkpoint import load_config, load_weights
from model.config import parameter_count
from model.generation.runner import ModelRunner, runner_for
from model.gpt import GPT
from model.huggingface.config import is_of_others
from model.quantization.model import weight_bytes
from pipeline.inference.quantized_loading import load_quantized_measured
from pipeline.inference.writer import Writer
from pipeline.options.config import LoadOptions, ModelOptions
from pipeline.runs.inventory import Checkpoint
from pipeline.runs.text_bounds import text_bounds
from pipeline.tokenizer.load import tokenizer_of
from utils.errors import HatcheryError, OutOfMemoryError, UsageError, is_out_of_memory
from utils.hardware import machine, release_heap
from utils.units import human_bytes


def load_writer(path: Path, name: str, options: LoadOptions, tokenizers_dir: Path) -> Writer:
    """A checkpoint folder, Hugging Face folder or `.pt` file with its tokenizer, ready to write.

    `name` is what the writer goes by in events; its `notes` say what the form of the weights
    costs.

    Raises:
        UsageError: there is no tokenizer; device, precision or engine is not to be had here.
        RefusedError: see `model.checkpoint.load_weights`; model and tokenizer do not fit.
        OutOfMemoryError: says which forms of the weights would fit.
    """
    tokenizer = tokenizer_of(path, options.tokenizer, tokenizers_dir)
    with _memory_refused(path, name, options):
        runner, notes = _runner(path, name, options)
    bounds, foreign = text_bounds(path, tokenizer), is_of_others(path)
    return Writer(name, runner, tokenizer, bounds, notes, counts_padding=foreign)


def load_model(path: Path, name: str, options: ModelOptions) -> tuple[GPT, tuple[str, ...]]:
    """The weights of a checkpoint, ready to compute, and notes on what their form costs.

    Raises:
        UsageError, RefusedError, OutOfMemoryError: see `load_writer`.
    """
    with _memory_refused(path, name, options):
        return _model(path, name, options)


@contextmanager
def _memory_refused(path: Path, name: str, options: ModelOptions) -> Iterator[None]:
    """Lack of memory within the block becomes an error that says what would fit."""
    try:
        yield
    except Exception as error:
        if isinstance(error, HatcheryError) or not is_out_of_memory(error):
            raise
        raise _out_of_memory(path, name, options, error) from error


def device_for(options: ModelOptions) -> torch.device:
    """Where the weights will be.

    Raises:
        UsageError: it is not there, or the engine computes elsewhere only.
    """
    if not isinstance(options, LoadOptions) or options.engine == "torch":
        return devices.pick_device(options.device)
    if options.device not in ("auto", "cpu"):
        raise UsageError(
            f"The engine llamacpp computes on the CPU, not on {options.device}.",
            remedy="use --device cpu, or --engine torch",
        )
    return torch.device("cpu")


def dtype_for(precision: str, device: torch.device) -> torch.dtype:
    """The number format of weights that are not quantized, and of activations.

    "auto" is float32 on a CPU, although bf16 is up to twice as fast there: the text is then that of
    the weights as they were saved.
    """
    name = "fp32" if precision == "auto" and device.type != "cuda" else precision
    return devices.pick_dtype(name, device)


def bytes_needed(checkpoint: Checkpoint, options: ModelOptions) -> int:
    """Memory that a checkpoint's weights need in the form asked for; of a `.pt` file, at most.

    Raises:
        UsageError, RefusedError: device or precision is not there; the checkpoint is not whole.
    """
    if not checkpoint.path.is_dir():
        return checkpoint.size
    config = load_config(checkpoint.path)
    dtype = dtype_for(options.precision, device_for(options))
    if options.quantize == "none":
        return parameter_count(config) * dtype.itemsize
    return weight_bytes(config, options.quantize, dtype)


def memory_free(device: torch.device) -> int:
    """Bytes that are free for weights on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return machine().memory_available


def what_fits(path: Path, options: ModelOptions, free: int) -> str:
    """The next thing to try for weights that need more than `free` bytes: smaller forms of them,
    each with its size, as far as they fit."""
    if not path.is_dir():
        return "choose a smaller checkpoint, or --quantize int8"
    config = load_config(path)
    now = dtype_for(options.precision, device_for(options))
    needed = weight_bytes(config, None if options.quantize == "none" else options.quantize, now)
    smaller = {
        "--precision bf16": weight_bytes(config, None, torch.bfloat16),
        "--quantize int8": weight_bytes(config, "int8", now),
        "--quantize int4": weight_bytes(config, "int4", now),
    }
    fitting = [
        f"{flags} ({human_bytes(size)})"
        for flags, size in smaller.items()
        if size <= free and size < needed
    ]
    return f"{', '.join(fitting)} would fit" if fitting else "choose a smaller checkpoint"


def _runner(path: Path, name: str, options: LoadOptions) -> tuple[ModelRunner, tuple[str, ...]]:
    """What computes, and notes on it."""
    if options.engine == "llamacpp":
        from pipeline.inference.llama_cpp import llama_runner  # an extra that need not be there

        return llama_runner(path, name, options, dtype_for(options.precision, device_for(options)))
    model, notes = _model(path, name, options)
    return runner_for(model), notes


def _model(path: Path, name: str, options: ModelOptions) -> tuple[GPT, tuple[str, ...]]:
    """The weights in the form asked for, and notes on it."""
    device = device_for(options)
    dtype = dtype_for(options.precision, device)
    if options.quantize != "none":
        free = memory_free(device)
        return load_quantized_measured(path, name, options.quantize, device, dtype, free)
    whole = load_weights(path, device, dtype)
    release_heap()  # what the file was read into
    return whole, ()


def _out_of_memory(
    path: Path, name: str, options: ModelOptions, error: Exception
) -> OutOfMemoryError:
    free = memory_free(device_for(options))
    try:
        remedy = what_fits(path, options, free)
    except HatcheryError:
        remedy = "choose a smaller checkpoint"
    return OutOfMemoryError(
        f"There is not enough memory for {name}.",
        found=f"{human_bytes(free)} free; {str(error).splitlines()[0] if str(error) else ''}",
        remedy=remedy,
    )
