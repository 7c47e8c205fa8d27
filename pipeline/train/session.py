"""A training run in progress: the steps, and what is done between them (metrics, validations,
samples, checkpoints).

A session is given its task: what it learns from, what it is measured on and the loss; where these
come from, the stage knows.
"""

import math
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Event as StopSignal
from typing import Literal

import torch

from model import device as devices
from model.checkpoint import save_checkpoint
from model.config import flops_per_token
from model.huggingface.weights import state_to_hf
from model.optimizer import build_optimizer, load_optimizer_state, optimizer_state
from model.tensors import total_bytes
from pipeline.events import Event, Finished, Metric, Progress, Saved, Warned
from pipeline.options.config import Config
from pipeline.runs import folders
from pipeline.train.run_setup import MOST_VALIDATION_BATCHES, RunSetup, compiling_pays
from pipeline.train.state import RunState
from pipeline.train.task import Task
from pipeline.train.trainer import NonFiniteError, StepResult, Trainer
from utils.files import DiskFullError, write_json
from utils.logging_utils import DualLogger
from utils.metrics import MetricsTracker
from utils.units import human_bytes

_MOST_FAILED_SAVES = 3  # in a row
_SAVE_REQUEST_INTERVAL = 1.0  # seconds between looks for one
_PROGRESS_INTERVAL = 0.1  # seconds


class Session:
    """A run from its state to its end; `run` does it all. `step` counts finished steps."""

    def __init__(self, config: Config, setup: RunSetup, state: RunState, task: Task) -> None:
        self._setup, self._options, self._task = setup, setup.options, task
        self._model, self._state = state.model, state.counters
        self._device = state.model.device
        self._dtype = devices.pick_dtype(self._options.precision, self._device)
        self._ceiling = devices.measured_matmul_ceiling(self._device, self._dtype)
        self._generation = setup.generation
        self._saved_step = self.step if setup.resumes_itself else -1
        self._failed_saves = 0
        self._request_checked = 0.0
        self._stopped_early = False
        self._tracker = MetricsTracker()
        self._trainer = self._make_trainer(state)
        self._logger = DualLogger(
            config.paths.logs_dir,
            setup.folder.name,
            tensorboard=self._options.tensorboard,
            resumed_at=self.step if setup.resumes_itself else None,
        )
        self._begin = time.monotonic()

    @property
    def step(self) -> int:
        return int(self._state["step"])

    @property
    def _epochs(self) -> float:
        """How often its data was read."""
        return self._setup.epochs_at(self.step, int(self._state["tokens"]))

    def close(self) -> None:
        """Close the metric files."""
        self._logger.close()

    def _make_trainer(self, state: RunState) -> Trainer:
        options, total = self._options, self._setup.total_steps
        optimizer = build_optimizer(
            self._model,
            kind=options.optimizer,
            learning_rate=options.peak_rate,
            matrix_learning_rate=options.matrix_learning_rate,
            weight_decay=options.weight_decay,
            betas=(options.beta1, options.beta2),
            momentum=options.momentum,
        )
        trainer = Trainer(
            self._model,
            optimizer,
            self._task.batches,
            self._task.objective,
            lr_multiplier=lambda step: options.lr_multiplier(step, total),
            accumulation=options.gradient_accumulation_steps,
            gradient_clip=options.gradient_clip,
            dtype=self._dtype,
            seed=options.seed,
            compiled=self._compiled(),
        )
        if state.optimizer is not None:
            load_optimizer_state(optimizer, self._model, state.optimizer)
            trainer.load_scaler_state(self._state.get("scaler", {}))
        return trainer

    def _compiled(self) -> bool:
        """Whether to compile; a resumed run keeps its choice, or its numbers would change."""
        if self._options.compile != "auto":
            return self._options.compile == "on"
        if "compiled" not in self._state:
            self._state["compiled"] = compiling_pays(self._setup, self._device.type, self._ceiling)
        return bool(self._state["compiled"])

    def run(self, stop: StopSignal) -> Iterator[Event]:
        """Train to the end, or until `stop` is set or early stopping ends it; what happens, and
        `Finished` once all is saved.

        Raises:
            NonFiniteError: loss or gradients broke down; the batch is written into the run folder.
            DiskFullError: three checkpoints in a row could not be saved, or the last one.
        """
        total = self._setup.total_steps
        yield from self._check_numbers()
        if self._setup.resumes_itself and self._setup.resume_from is not None:
            # A kill may have come between the checkpoint and its names, and names keep it.
            self._name_checkpoint(self._setup.resume_from)
        if self._task.measures_first and self.step == 0:
            yield self._metric("validation", self._measure())
        self._tracker.mark(time.monotonic(), self._state["tokens"])
        try:
            yield from self._train(total, stop)
        except NonFiniteError as error:
            self._dump_batch(error.step)
            raise
        yield from self._finish(stopped=stop.is_set())

    def _check_numbers(self) -> Iterator[Event]:
        """Say where threads or number format differ from before, as numbers then do."""
        now = torch.get_num_threads()
        before = self._state.get("threads", now)
        if self._device.type == "cpu" and now != before:
            yield Warned(
                f"This run used {before} threads and now has {now}: its numbers may differ in the "
                "last bits."
            )
        dtype = str(self._dtype).removeprefix("torch.")
        used = self._state.get("dtype", dtype)
        record = self._setup.record
        if record is not None and "dtype" not in self._state:  # of a version that did not say
            asked = record.options.get("precision", "auto")
            used = dtype if asked == self._options.precision else f"precision {asked}"
        if used != dtype:
            yield Warned(
                f"This run computed in {used} and now does in {dtype}: it does not go on bit for "
                "bit as it would have."
            )
        self._state |= {"threads": now, "dtype": dtype}

    def _train(self, total: int, stop: StopSignal) -> Iterator[Event]:
        shown = 0.0
        while self.step < total and not self._stopped_early:
            yield from self._train_step(last=self.step + 1 == total)
            now = time.monotonic()
            if now - shown >= _PROGRESS_INTERVAL or self.step == total:
                shown = now
                yield Progress(self.step, total, "steps", figures=self._progress_figures())
            if stop.is_set():
                return

    def _train_step(self, *, last: bool) -> Iterator[Event]:
        """One optimizer step, and whatever is due after it."""
        options, total = self._options, self._setup.total_steps
        result = self._trainer.train_step(self.step)
        self._state["step"] += 1
        self._state["tokens"] += result.tokens
        self._tracker.mark(time.monotonic(), self._state["tokens"])
        self._tracker.update({"loss": result.loss, "grad_norm": result.grad_norm})
        if result.skipped:
            yield Warned(f"fp16 overflowed at step {self.step}: its update was left out.")
        if self.step % options.log_every == 0 or last:
            yield self._metric("train", self._train_metrics(result))
        eval_every, task = self._setup.validation_interval, self._task
        improved = False
        if self.step % eval_every == 0 or last:
            improved = yield from self._validate()
        if task.benchmark and (self.step % (task.benchmark_every or total) == 0 or last):
            yield self._metric("benchmark", task.benchmark.measure(self._model))
            self._tracker.restart(time.monotonic(), self._state["tokens"])
        if self.step % (options.sample_every or eval_every) == 0 or last:
            yield from task.samples(self._model, self.step)
        ended = task.keeps_epochs and self.step % self._setup.steps_per_epoch == 0
        due = self.step % (options.checkpoint_every or eval_every) == 0
        if due or improved or ended:
            yield from self._save()
        elif self._save_requested():
            yield from self._save(requested=True)

    def _train_metrics(self, result: StepResult) -> dict[str, float]:
        """What is logged of an optimizer step, for the events, TensorBoard and the raw metrics."""
        options = self._options
        values = {
            "loss": result.loss,
            "grad_norm": result.grad_norm,
            "learning_rate": options.peak_rate * result.lr_multiplier,
            "tokens": self._state["tokens"],
            "memory": devices.peak_memory(self._device),
        }
        if options.optimizer == "muon":
            values["matrix_learning_rate"] = options.matrix_learning_rate * result.lr_multiplier
        speed = self._tracker.tokens_per_second()
        if speed is not None:
            values["tokens_per_second"] = speed
            flops = flops_per_token(self._setup.model, self._setup.window)
            values["mfu"] = flops * speed / self._ceiling
        return values | result.figures

    def _metric(
        self, kind: Literal["train", "validation", "benchmark"], values: dict[str, float]
    ) -> Metric:
        metric = Metric(self.step, dict(values), kind)
        self._logger.log(self.step, values, metric.time)
        return metric

    def _validate(self) -> Generator[Event, None, bool]:
        """Score the validation set; returns whether it is the best so far."""
        measured = self._measure()
        loss = measured["val_loss"]
        self._state |= {"val_loss": loss if math.isfinite(loss) else None, "val_step": self.step}
        yield self._metric("validation", measured)
        self._tracker.restart(time.monotonic(), self._state["tokens"])
        # NaN is never smaller, so it is never best.
        if loss < self._state.get("best_loss", math.inf):
            self._state |= {"best_loss": loss, "best_step": self.step, "stale": 0}
            return True
        stale = self._state["stale"] = self._state["stale"] + 1
        patience = self._options.early_stopping
        if patience is not None and stale >= patience:
            self._stopped_early = True
            yield Warned(f"Stopping early: {stale} validations in a row {self._not_better()}.")
        return False

    def _measure(self) -> dict[str, float]:
        """Score the held-out batches."""
        limit = self._options.eval_batches or MOST_VALIDATION_BATCHES
        found = self._trainer.evaluate(self._task.held_out(limit))
        values = {"val_loss": found.loss}
        if self._task.bytes_per_target is not None:
            values["bits_per_byte"] = found.loss / math.log(2) / self._task.bytes_per_target
        return values | {f"val_{name}": value for name, value in found.figures.items()}

    def _not_better(self) -> str:
        """What the validations since the best one have in common."""
        if "best_step" not in self._state:
            return "had a loss that is not finite"
        best, loss = self._state["best_step"], self._state["best_loss"]
        return f"were no better than step {best} (loss {loss:.4f})"

    def _save_requested(self) -> bool:
        """Whether somebody who watches has asked for a checkpoint; looked for once a second."""
        now = time.monotonic()
        if now - self._request_checked < _SAVE_REQUEST_INTERVAL:
            return False
        self._request_checked = now
        return folders.take_save_request(self._setup.folder)

    def _save(self, *, requested: bool = False, final: bool = False) -> Iterator[Event]:
        """Write a checkpoint; a full disk is a warning until it has happened three times in a row,
        not counting those that were `requested`. Nothing comes after the `final` one.

        Raises:
            DiskFullError: the third failed save running, or a final one that failed.
        """
        setup, folder = self._setup, folders.step_folder(self._setup.folder, self.step)
        self._state["seconds"] += time.monotonic() - self._begin
        self._begin = time.monotonic()
        self._state["scaler"] = self._trainer.scaler_state()
        try:
            save_checkpoint(
                folder,
                self._model,
                tokenizer_files=setup.tokenizer.files(),
                bos_token_id=setup.tokenizer.bos_id,
                eos_token_id=setup.tokenizer.eos_id,
                pad_token_id=setup.tokenizer.pad_id,
                generation=self._generation,
                optimizer_state=optimizer_state(self._trainer.optimizer, self._model),
                state=self._state | {"fingerprints": setup.fingerprints, "epoch": setup.epoch},
                command=setup.command,
                options=setup.options.model_dump(mode="json"),
                inputs=setup.sources,
            )
        except DiskFullError as error:
            self._failed_saves += not requested
            if final or self._failed_saves >= _MOST_FAILED_SAVES:
                raise self._no_room(error) from error
            yield Warned(f"Not saved at step {self.step}: {error.problem}", error.remedy)
            return
        self._failed_saves, self._saved_step = 0, self.step
        folders.take_save_request(setup.folder)
        self._name_checkpoint(folder)
        folders.prune(setup.folder, self._options.keep_checkpoints)
        measured = self._state.get("val_step") == self.step
        loss = self._state.get("val_loss") if measured else None
        facts = {"step": self.step, "val_loss": loss}
        yield Saved("checkpoint", str(folder), facts)

    def _name_checkpoint(self, checkpoint: Path) -> None:
        """Give the checkpoint of this step the names that are its own."""
        run = self._setup.folder
        folders.point(run, "latest", checkpoint)
        if self._state.get("best_step") == self.step:
            folders.point(run, "best", checkpoint)
        epoch, between = divmod(self.step, self._setup.steps_per_epoch)
        if self._task.keeps_epochs and not between:
            folders.point(run, f"epoch_{int(epoch)}", checkpoint)

    def _no_room(self, error: DiskFullError) -> DiskFullError:
        """What a save that was given up needed, and what there was."""
        optimizer = optimizer_state(self._trainer.optimizer, self._model)
        size = total_bytes(state_to_hf(self._model)) + total_bytes(optimizer)
        return DiskFullError(
            f"The checkpoint of step {self.step} could not be saved.",
            found=f"{error.problem} A checkpoint takes {human_bytes(size)}; {error.found}",
            remedy=error.remedy,
        )

    def _finish(self, *, stopped: bool) -> Iterator[Event]:
        """Save what is not saved yet, and say how it ended.

        Raises:
            DiskFullError: there is no room for the last checkpoint.
        """
        if self._saved_step != self.step:
            yield from self._save(final=True)
        finished = self.step >= self._setup.total_steps or self._stopped_early
        summary = {
            "steps": self.step,
            "tokens": self._state["tokens"],
            "epochs": round(self._epochs, 2),
            "seconds": round(self._state["seconds"], 1),
        }
        best = {k: self._state[k] for k in ("best_loss", "best_step") if k in self._state}
        yield Finished(summary | best, str(self._setup.folder), stopped=stopped and not finished)

    def _dump_batch(self, step: int) -> None:
        """Write the texts of a step's rows to bad_batch_step_N.json in the run folder."""
        accumulation = self._options.gradient_accumulation_steps
        micros = range(step * accumulation, (step + 1) * accumulation)
        windows = [row for micro in micros for row in self._task.texts(micro)]
        name = f"bad_batch_step_{step:06d}.json"
        write_json(self._setup.folder / name, {"step": step, "windows": windows})

    def _progress_figures(self) -> dict[str, str]:
        """What a progress line shows."""
        loss, speed = self._tracker.smooth("loss"), self._tracker.tokens_per_second()
        val = self._state.get("val_loss")
        shown = {
            "epoch": f"{self._epochs:.2f}",
            "loss": None if loss is None else f"{loss:.3f}",
            "val": None if val is None else f"{val:.3f}",
            "speed": None if speed is None else f"{speed:,.0f} tokens/s",
            "memory": human_bytes(devices.peak_memory(self._device)),
        }
        return {name: value for name, value in shown.items() if value is not None}
