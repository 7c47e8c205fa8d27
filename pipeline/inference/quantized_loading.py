"""Loads weights quantized to 8 or 4 bits and measures their perplexity on held-out text."""

from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import load_config, load_quantized, load_weights
from model.config import parameter_count
from model.generation.runner import NativeRunner, runner_for
from model.quantization.layers import Form
from model.quantization.model import QuantizedGPT, not_in_int4, weight_bytes
from pipeline.train.held_out import held_out, perplexity
from utils.hardware import release_heap
from utils.units import human_bytes

_MEASURED, _FEWEST = 8192, 1024  # held-out tokens
_WORK = 5e11  # floating-point operations of one measurement on a CPU: a few seconds


def load_quantized_measured(
    path: Path, name: str, form: Form, device: torch.device, dtype: torch.dtype, free: int
) -> tuple[QuantizedGPT, tuple[str, ...]]:
    """A checkpoint in `form`, and notes on it: its size, its perplexity before and after where
    that can be measured within `free` bytes, and what stays larger or becomes slower.

    Raises:
        RefusedError, UsageError: see `model.checkpoint.load_weights`.
    """
    before, windows, why_not = _before(path, device, dtype, free)
    model = load_quantized(path, form, device, dtype)
    release_heap()
    whole = weight_bytes(model.config, None, dtype)
    stored = weight_bytes(model.config, form, dtype)
    note = f"{name} in {form}: {human_bytes(stored)} instead of {human_bytes(whole)}"
    if before is None or windows is None:
        notes = [f"{note}; what that costs was not measured: {why_not}."]
    else:
        after, count = perplexity(model, windows), windows[:, 1:].numel()
        change = f"{before:.4g} -> {after:.4g} ({100 * (after / before - 1):+.2f} %)"
        notes = [f"{note}; perplexity {change} on {count:,} held-out tokens."]
    odd = not_in_int4(model.config) if form == "int4" else []
    if odd:
        notes.append(f"{', '.join(odd)} stay in int8: their sizes do not divide into int4 groups.")
    if model.slow and not isinstance(runner_for(model), NativeRunner):
        notes.append(
            f"There is no fast {form} product for some of these matrices on {device.type}"
            f"{' without a C compiler' if device.type == 'cpu' else ''}: less memory, but slower."
        )
    return model, tuple(notes)


def _before(
    path: Path, device: torch.device, dtype: torch.dtype, free: int
) -> tuple[float | None, Tensor | None, str]:
    """Perplexity of the whole weights, the tokens that it was measured on, and else why not."""
    if not path.is_dir():
        return None, None, "the file belongs to no run"
    config = load_config(path)
    if weight_bytes(config, None, dtype) > free:
        return None, None, "the whole weights do not fit into memory"
    most = _MEASURED
    if device.type == "cpu":
        most = min(most, max(_FEWEST, int(_WORK / (2 * parameter_count(config)))))
    windows = held_out(path, most)
    if windows is None:
        return None, None, "its run's held-out tokens are not here"
    return perplexity(load_weights(path, device, dtype), windows), windows, ""
