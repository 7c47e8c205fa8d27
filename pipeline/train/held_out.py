"""Tokens that a run was not trained on, and how well a model predicts them.

The measure of what a smaller form of the weights costs, on the text that the model is for.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.gpt import GPT
from model.layers.limits import slice_length
from pipeline.tokens.token_set import open_tokens
from pipeline.train.setup import read_record
from utils.errors import HatcheryError

_ROWS = 8  # windows that are read together


def held_out(checkpoint: Path, most: int) -> Tensor | None:
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
    whole = [i for i in chosen if data.val.places([i]).length[0] == data.val.window + 1]
    return torch.from_numpy(data.val.gather(whole).astype("int64")) if whole else None


@torch.inference_mode()
def perplexity(model: GPT, windows: Tensor) -> float:
    """exp of the mean cross-entropy per token on windows (n, T + 1)."""
    total, size = 0.0, slice_length(model.config.vocab_size)
    for rows in torch.split(windows.to(model.device), _ROWS):
        hidden, targets = model.hidden(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()
        for begin in range(0, len(targets), size):
            logits = model.logits(hidden[begin : begin + size]).float()
            loss = F.cross_entropy(logits, targets[begin : begin + size], reduction="sum")
            total += loss.item()
    return math.exp(total / windows[:, 1:].numel())
