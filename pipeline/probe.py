"""How fast this machine trains a given model: a few real steps on real batches, thrown away."""

import statistics
import time
from threading import Event as StopSignal

from model import device as devices
from model.gpt import create_model
from model.optimizer import build_optimizer
from pipeline.dataloader import train_val_loaders
from pipeline.loop import Trainer
from pipeline.options import Config, TrainOptions
from pipeline.train_setup import open_inputs

_WARM_UP, _TIMED = 2, 5


def seconds_per_step(config: Config, options: TrainOptions, stop: StopSignal) -> float:
    """Median time of one optimizer step with these settings, uncompiled.

    Raises:
        UsageError, RefusedError: the settings or the data would be refused by training too.
    """
    shape, data, _ = open_inputs(config, options)
    device = devices.pick_device(options.device)
    model = create_model(shape).to(device)
    optimizer = build_optimizer(
        model, kind=options.optimizer, learning_rate=0.0, matrix_learning_rate=0.0
    )
    batches, _, _ = train_val_loaders(
        data, options.batch_size, verbose=False, seed=options.seed, device=device
    )
    trainer = Trainer(
        model,
        optimizer,
        batches,
        rate=lambda step: 1.0,
        accumulation=options.gradient_accumulation_steps,
        dtype=devices.pick_dtype(options.precision, device),
    )
    times = []
    for step in range(_WARM_UP + _TIMED):
        if stop.is_set():
            break
        begin = time.perf_counter()
        trainer.step(step)  # reads the loss back, so the device has finished
        times.append(time.perf_counter() - begin)
    return statistics.median(times[_WARM_UP:] or times or [1.0])
