"""What the bench stage times: units of real work, run through the code that does it elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from model import device as devices
from model.checkpoint import load_quantized, load_weights
from model.config import ModelConfig
from model.generation.runner import Chunk, ModelRunner, runner_for
from model.gpt import GPT
from model.language_model import create_model
from model.quantization.model import QuantizedGPT, weight_bytes
from pipeline.benchmark.speed.roofline import Work, decode_work, prefill_work, training_work
from pipeline.inference.loading import dtype_for
from pipeline.options.config import BenchOptions, Config
from pipeline.planning.probe import throwaway_trainer

_LEAST_SECONDS = 0.02  # of one measurement: shorter ones would time the clock
_LEAST_READ = 1 << 20  # bytes
_USUAL_SHARE, _STEPS = 0.2, 12  # of the matmul speed in training; training steps in `seconds`


@dataclass
class Task:
    """`run` does one unit of `work`, with numbers in `form`; `seconds` are those of single units,
    one entry per round."""

    name: str
    form: str
    work: Work
    run: Callable[[], object]
    seconds: list[float] = field(default_factory=list)
    _repeats: int = 1

    def warm_up(self, device: torch.device) -> None:
        """Run it twice, and find out how often makes a measurement long enough."""
        self.run()
        self.measure(device)
        self._repeats = max(1, round(_LEAST_SECONDS / self.seconds.pop()))

    def measure(self, device: torch.device) -> None:
        """One round."""
        devices.synchronise(device)
        begin = time.perf_counter()
        for _ in range(self._repeats):
            self.run()
        devices.synchronise(device)
        self.seconds.append((time.perf_counter() - begin) / self._repeats)


@dataclass
class Group:
    """Tasks of one model that take turns, and `reading`: memory read as fast as can be, as much
    of it as the model's weights are. `dtype` is what the products are computed in."""

    tasks: list[Task]
    reading: Task
    dtype: torch.dtype
    device: torch.device


def generation(options: BenchOptions, shape: ModelConfig, path: Path | None) -> Group:
    """Reading a prompt, and writing one text and several, with a checkpoint's weights or, without
    `path`, random ones."""
    device = devices.pick_device(options.device)
    dtype = dtype_for(options.precision, device)
    model = _model(shape, path, options, device, dtype)
    runner = runner_for(model)
    form = short(dtype) if options.quantize == "none" else options.quantize
    weights = _streamed(shape, options, dtype)
    prompt = max(1, min(options.prompt, shape.max_position_embeddings - 1))
    ids = torch.randint(shape.vocab_size, (prompt,)).tolist()
    tasks = [
        Task(
            f"read {prompt}",
            form,
            prefill_work(shape, prompt, weights),
            lambda: runner.forward([Chunk(0, 0, ids)]),
        )
    ]
    tasks += [
        Task(
            f"write {texts} at once",
            form,
            decode_work(shape, texts, prompt, weights, dtype.itemsize),
            _decoding(runner, ids, texts),
        )
        for texts in dict.fromkeys((1, options.texts))
    ]
    return Group(tasks, _reading(int(weights), device), _multiplied_in(model, dtype), device)


def training(config: Config, options: BenchOptions, shape: ModelConfig) -> Group:
    """An optimizer step with the train section's optimizer, uncompiled; on fewer windows where
    steps would take longer than there is time."""
    device = devices.pick_device(options.device)
    window = min(options.window, shape.max_position_embeddings)
    dtype = devices.pick_dtype(options.precision, device)
    seconds = training_work(shape, 1, window).flops / (
        _USUAL_SHARE * devices.measured_matmul_ceiling(device, dtype)
    )
    windows = min(options.batch_size, max(1, int(options.seconds / _STEPS / seconds)))
    batches = _RandomBatches(shape.vocab_size, windows, window, device)
    settings = config.train.model_copy(
        update={"gradient_accumulation_steps": 1, "precision": options.precision}
    )
    trainer = throwaway_trainer(shape, settings, batches, device)
    work = training_work(shape, windows, window)
    task = Task(
        f"train {windows} x {window}",
        short(dtype),
        work,
        lambda: trainer.train_step(0),
    )
    return Group([task], _reading(weight_bytes(shape, None, torch.float32), device), dtype, device)


class _RandomBatches:
    """The same random windows at every step."""

    def __init__(self, vocabulary: int, rows: int, window: int, device: torch.device) -> None:
        self._ids = torch.randint(vocabulary, (rows, window + 1), device=device)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        return self._ids[:, :-1], self._ids[:, 1:]


def _model(
    shape: ModelConfig,
    path: Path | None,
    options: BenchOptions,
    device: torch.device,
    dtype: torch.dtype,
) -> GPT:
    if path is None:
        model = create_model(shape).to(device, dtype).eval()
        if options.quantize == "none":
            return model
        return QuantizedGPT(shape, model.state_dict(), options.quantize, device, dtype)
    if options.quantize == "none":
        return load_weights(path, device, dtype)
    return load_quantized(path, options.quantize, device, dtype)


def _streamed(shape: ModelConfig, options: BenchOptions, dtype: torch.dtype) -> float:
    """Bytes of weights that every pass reads: all but tables of which it takes single rows."""
    form = None if options.quantize == "none" else options.quantize
    rows = shape.max_position_embeddings if shape.position == "learned" else 0
    looked_up = float(rows * shape.hidden_size * dtype.itemsize)
    if not shape.tie_word_embeddings:
        size = dtype.itemsize if form is None else 1
        looked_up += shape.vocab_size * shape.hidden_size * size
    return weight_bytes(shape, form, dtype) - looked_up


def _decoding(runner: ModelRunner, ids: list[int], texts: int) -> Callable[[], object]:
    """One more token for each text, always the one after the prompt."""
    newest = [Chunk(slot, len(ids), ids[:1]) for slot in range(texts)]
    ready = False

    def step() -> None:
        nonlocal ready
        if not ready:
            runner.forward([Chunk(slot, 0, ids) for slot in range(texts)])
            ready = True
        runner.forward(newest)

    return step


def _reading(size: int, device: torch.device) -> Task:
    numbers = torch.ones(max(size, _LEAST_READ) // 4, device=device)
    size = numbers.numel() * 4
    return Task("read memory", "fp32", Work(0, 0, size), numbers.sum)


def _multiplied_in(model: GPT, dtype: torch.dtype) -> torch.dtype:
    """bfloat16 where the weights are quantized: torch's kernels round activations to it, and for
    the 16 bit integers of our own it is the nearest whose ceiling torch can measure."""
    return torch.bfloat16 if isinstance(model, QuantizedGPT) else dtype


def short(dtype: torch.dtype) -> str:
    """What `--precision` calls it."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
