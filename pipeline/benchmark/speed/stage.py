"""The bench stage: how fast this machine reads, writes and trains with a model, beside what its own
arithmetic and memory would allow.

Every speed is the median of rounds in which all tasks take turns, so that whatever else the machine
does falls on all of them; a ceiling is the best that was seen, so that a share is never flattered
by a slow moment.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import torch

from model import device as devices
from model.checkpoint import describe
from model.config import ModelConfig, parameter_count
from pipeline.benchmark.speed.roofline import Ceilings, row
from pipeline.benchmark.speed.tasks import Group, generation, short, training
from pipeline.events import Event, Finished, Progress, Started, Warned
from pipeline.options.config import BenchOptions, Config
from pipeline.runs import inventory
from utils.errors import OutOfMemoryError, is_out_of_memory
from utils.hardware import usable_cores
from utils.units import human_bytes, human_count

_FEWEST, _MOST = 3, 25  # rounds
_BUSY = 0.25  # running programs for each core
_NOISY = 0.5  # slowest round over fastest, less one


def run(config: Config, options: BenchOptions, stop: StopSignal) -> Iterator[Event]:
    """Measure generation, then training; the first entry of the summary is the table.

    Raises:
        UsageError: no such checkpoint, device or precision.
        OutOfMemoryError: the model does not fit.
    """
    path, name, shape = _chosen(config, options)
    device = devices.pick_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    cores, busy = usable_cores(), os.getloadavg()[0]
    yield Started("bench", f"Measure {name} on {device}")
    if busy > _BUSY * cores:
        yield Warned(
            f"Other programs keep this machine busy (load {busy:.1f} on {cores} cores): the "
            "speeds are lower than they could be.",
            remedy="close them and measure again",
        )
    groups: list[Callable[[], Group]] = [
        partial(generation, options, shape, path),
        partial(training, config, options, shape),
    ]
    rows: list[dict[str, Any]] = []
    machine: dict[str, float] = {}
    for make in groups:
        if stop.is_set():
            break
        yield Progress(len(rows), message="preparing")
        yield from _measured(make, options.seconds / len(groups), rows, machine, stop)
    noisy = [r["tokens_per_second"] for r in rows if r["high"] / r["low"] - 1 > _NOISY]
    if noisy:
        yield Warned(
            f"The machine was not steady: rounds differ much in {', '.join(noisy)}.",
            remedy="believe the ranges, not the medians; measure again on a quiet machine",
        )
    facts = {
        "model": f"{name}, {human_count(parameter_count(shape))} parameters",
        "threads": torch.get_num_threads(),
        "load_before": busy,
        **machine,
    }
    yield Finished({"results": rows} | facts, stopped=stop.is_set())


def _measured(
    make: Callable[[], Group],
    seconds: float,
    rows: list[dict[str, Any]],
    machine: dict[str, float],
    stop: StopSignal,
) -> Iterator[Event]:
    """Time a group's tasks for about `seconds`, and add to `rows` and to what is known of the
    `machine`."""
    try:
        group = make()
        device, timed = group.device, [*group.tasks, group.reading]
        arithmetic = [devices.measured_matmul_ceiling(device, group.dtype)]
        for task in timed:
            task.warm_up(device)
            if stop.is_set():
                return
        end = time.monotonic() + seconds
        for number in range(_MOST):
            for task in timed:
                task.measure(device)
            yield Progress(number + 1, message=", ".join(task.name for task in group.tasks))
            if stop.is_set() or (number + 1 >= _FEWEST and time.monotonic() > end):
                break
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            "This model does not fit into memory.",
            found=str(error).split("\n")[0],
            remedy="use a smaller --model.preset, --batch-size or --window",
        ) from error
    arithmetic.append(devices.measured_matmul_ceiling(device, group.dtype))
    ceilings = Ceilings(max(arithmetic), group.reading.work.bytes / min(group.reading.seconds))
    rows += [row(t.name, t.form, t.work, t.seconds, ceilings) for t in group.tasks]
    machine[f"matmul_gflop_per_s_{short(group.dtype)}"] = ceilings.flops / 1e9
    machine[f"memory_gb_per_s_of_{human_bytes(group.reading.work.bytes)}"] = ceilings.bytes / 1e9


def _chosen(config: Config, options: BenchOptions) -> tuple[Path | None, str, ModelConfig]:
    """The checkpoint, where one is named, what to call the model, and its shape."""
    if options.checkpoint is None:
        return None, "the model section, random weights", config.model
    found = inventory.resolve(options.checkpoint, config.paths.checkpoints_dir)
    return found.path, found.label, describe(found.path)
