"""How fast this machine trains a given model: a few real steps on real batches, thrown away."""

import statistics
import time
from collections.abc import Generator
from threading import Event as StopSignal
from typing import NamedTuple

import torch

from model import device as devices
from model.config import ModelConfig
from model.language_model import create_model
from model.optimizer import build_optimizer
from pipeline.dataloader import train_val_loaders
from pipeline.options.config import NOTHING_TYPED, Config, TrainOptions
from pipeline.train.objective import NextToken
from pipeline.train.setup import open_inputs
from pipeline.train.trainer import Batches, Trainer

_WARM_UP, _TIMED = 2, 5
_ENOUGH_SECONDS = 20.0


class Probe(NamedTuple):
    """Median seconds of one optimizer step among `steps`, the tokens per second that this makes,
    and the most bytes that were in use."""

    seconds_per_step: float
    tokens_per_second: float
    memory: int
    steps: int


def seconds_per_step(config: Config, options: TrainOptions, stop: StopSignal) -> float:
    """Median time of one optimizer step with these settings, uncompiled.

    Raises:
        UsageError, RefusedError: the settings or the data would be refused by training too.
    """
    steps = probing(config, options, stop)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            measured: Probe = ended.value
            return measured.seconds_per_step


def probing(config: Config, options: TrainOptions, stop: StopSignal) -> Generator[int, None, Probe]:
    """Train a few steps with these settings, uncompiled, and yield their number; steps so long
    that twenty seconds have passed are few.

    Raises:
        UsageError, RefusedError: the settings or the data would be refused by training too.
        torch.OutOfMemoryError, RuntimeError: they need more memory than there is.
    """
    known = options.model_copy(update={"init_from": None})  # config.model is its shape already
    shape, data, _ = open_inputs(config, known, NOTHING_TYPED)
    device = devices.pick_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    batches, _, _ = train_val_loaders(
        data, options.batch_size, verbose=False, seed=options.seed, device=device
    )
    trainer = throwaway_trainer(shape, options, batches, device)
    times: list[float] = []
    tokens = 0
    began = time.perf_counter()
    for step in range(_WARM_UP + _TIMED):
        enough = len(times) > 1 and time.perf_counter() - began > _ENOUGH_SECONDS
        if stop.is_set() or enough:
            break
        begin = time.perf_counter()
        tokens = trainer.train_step(step).tokens  # reads the loss back, so the device has finished
        times.append(time.perf_counter() - begin)
        yield step + 1
    timed = times[_WARM_UP:] or times[1:] or times or [1.0]
    typical = statistics.median(timed)
    return Probe(typical, tokens / typical, devices.peak_memory(device), len(timed))


def throwaway_trainer(
    shape: ModelConfig, options: TrainOptions, batches: Batches, device: torch.device
) -> Trainer:
    """A model with random weights that steps change nothing of, uncompiled."""
    model = create_model(shape).to(device)
    model.gradient_checkpointing = options.gradient_checkpointing
    return Trainer(
        model,
        build_optimizer(model, kind=options.optimizer, learning_rate=0.0, matrix_learning_rate=0.0),
        batches,
        NextToken(model),
        lr_multiplier=lambda step: 1.0,
        accumulation=options.gradient_accumulation_steps,
        dtype=devices.pick_dtype(options.precision, device),
    )
