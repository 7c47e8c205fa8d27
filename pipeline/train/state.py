"""The state that a run begins with, or goes on from: weights, counters and the optimizer's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.checkpoint import load_training_state, load_weights
from model.gpt import GPT
from model.language_model import create_model
from pipeline.train.run_setup import RunSetup

_OF_THE_BEST = ("best_loss", "best_step")


class RunState(NamedTuple):
    """A model in training and how far it is: `counters` as they stand in state.json, and the
    optimizer's tensors, None for a run that begins."""

    model: GPT
    counters: dict[str, Any]
    optimizer: dict[str, Tensor] | None


def load_state(
    setup: RunSetup,
    device: torch.device,
    load: Callable[[Path, torch.device], GPT] = load_weights,
) -> RunState:
    """The state that a run begins with or goes on from; sets the number of CPU threads. `load`
    gives the model of a checkpoint of its own.

    Raises:
        RefusedError, UsageError: see `model.checkpoint`; every byte of a checkpoint is verified.
    """
    options, checkpoint = setup.options, setup.resume_from
    counters: dict[str, Any] = {"step": 0, "tokens": 0, "seconds": 0.0, "stale": 0}
    optimizer = None
    if checkpoint is not None:
        optimizer, counters = load_training_state(checkpoint)
        if setup.parent is not None:  # its best is a checkpoint of its own, not of the parent's
            counters = {k: v for k, v in counters.items() if k not in _OF_THE_BEST} | {"stale": 0}
    threads = options.threads or counters.get("threads")
    if threads:
        torch.set_num_threads(threads)
    if checkpoint is not None:
        model = load(checkpoint, device)
    else:
        torch.manual_seed(options.seed)
        if setup.initial is None:
            model = create_model(setup.model).to(device)
        else:
            assert setup.initial.path is not None
            model = load_weights(setup.initial.path, device, torch.float32, config=setup.model)
    model.gradient_checkpointing = options.gradient_checkpointing
    return RunState(model.train(), counters, optimizer)
