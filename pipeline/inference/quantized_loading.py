"""Loads weights quantized to 8 or 4 bits and measures their perplexity on held-out text."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint import load_config, load_quantized, load_weights
from model.config import parameter_count
from model.generation.runner import NativeRunner, runner_for
from model.gpt import GPT
from model.layers.limits import slice_length
from model.quantization.layers import Form
from model.quantization.model import QuantizedGPT, not_in_int4, weight_bytes
from pipeline.runs.record import read_record
from pipeline.tokens.token_set import open_tokens
from utils.errors import HatcheryError
from utils.hardware import release_heap
from utils.units import human_bytes

_MEASURED, _FEWEST = 8192, 1024  # held-out tokens
_BATCH = 8  # windows that are scored together
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
        after, count = _perplexity(model, windows), windows[:, 1:].numel()
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
    windows = _validation_windows(path, most)
    if windows is None:
        return None, None, "its run's held-out tokens are not here"
    return _perplexity(load_weights(path, device, dtype), windows), windows, ""


def _validation_windows(checkpoint: Path, most: int) -> Tensor | None:
    """About `most` validation tokens of the run that a checkpoint belongs to, in whole windows
    spread over all of them: (windows, T + 1) int64. None where they are not here any more."""
    try:
        record = read_record(checkpoint.resolve().parent)
        data = open_tokens(
            Path(record.data),
            window=record.options.get("window"),
            val_split=float(record.options["val_split"]),
            check="sizes",
        )
        if data.fingerprint != record.fingerprints.get("data"):
            return None
    except (HatcheryError, OSError, KeyError, TypeError, ValueError):
        return None  # no run, or without its record; or the tokens were deleted or made anew
    count = min(len(data.val), max(1, most // data.val.window))
    chosen = [index * len(data.val) // count for index in range(count)]
    whole = [i for i in chosen if data.val.spans([i]).length[0] == data.val.window + 1]
    return torch.from_numpy(data.val.gather(whole).astype("int64")) if whole else None


@torch.inference_mode()
def _perplexity(model: GPT, windows: Tensor) -> float:
    """exp of the mean cross-entropy per token on windows (n, T + 1)."""
    total, size = 0.0, slice_length(model.config.vocab_size)
    for rows in torch.split(windows.to(model.device), _BATCH):
        hidden, targets = model.hidden(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()
        for begin in range(0, len(targets), size):
            logits = model.logits(hidden[begin : begin + size]).float()
            loss = F.cross_entropy(logits, targets[begin : begin + size], reduction="sum")
            total += loss.item()
    return math.exp(total / windows[:, 1:].numel())
