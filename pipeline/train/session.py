"""A training run in progress: model, optimizer and step count, and what is done between steps."""

import math
import time
from collections.abc import Generator, Iterator
from typing import Any, Literal

import torch

from model import device as devices
from model.checkpoint import load_training_state, load_weights, save_checkpoint
from model.config import flops_per_token
from model.generation.sampling import SamplingSettings
from model.gpt import GPT
from model.huggingface.weights import state_to_hf
from model.language_model import create_model, generate
from model.optimizer import build_optimizer, load_optimizer_state, optimizer_state
from model.tensors import total_bytes
from pipeline.dataloader import train_val_loaders
from pipeline.events import Event, Finished, Metric, Sample, Saved, Warned
from pipeline.options.config import Config
from pipeline.runs import folders
from pipeline.tokenizer.tokenizer import StreamDecoder, Tokenizer
from pipeline.train.setup import MOST_VALIDATION_BATCHES, Setup, validation_interval
from pipeline.train.trainer import StepResult, Trainer
from utils.artefacts import Source
from utils.files import DiskFullError, write_json
from utils.hardware import has_compiler
from utils.logging_utils import DualLogger
from utils.metrics import MetricsTracker
from utils.scheduler import multiplier
from utils.units import human_bytes

_MOST_FAILED_SAVES = 3
_SAVE_REQUEST_INTERVAL = 1.0  # seconds between looks for one
_WORTH_COMPILING_STEPS = 300
_WORTH_COMPILING_SECONDS = 900.0
_USUAL_MFU = 0.4


def compiling_pays(setup: Setup, device: torch.device, ceiling: float) -> bool:
    """Whether the run is long beside the half minute to minute that compiling takes.

    `ceiling` is `model.device.measured_matmul_ceiling` of the device.
    """
    if device.type != "cpu":
        return device.type == "cuda" and setup.total_steps >= _WORTH_COMPILING_STEPS
    options, window = setup.options, setup.data.train.window
    tokens = options.batch_size * options.gradient_accumulation_steps * window
    flops = flops_per_token(setup.model, window) * tokens * setup.total_steps
    seconds = flops / (_USUAL_MFU * ceiling)
    return seconds >= _WORTH_COMPILING_SECONDS and has_compiler()


class Session:
    """What a run is made of, and the bookkeeping after each step.

    `step` counts finished optimizer steps. `given_up` is set by early stopping. Loading verifies
    every byte of the checkpoint; see `model.checkpoint` for what it raises.
    """

    def __init__(self, config: Config, setup: Setup) -> None:
        self._setup, self._options = setup, setup.options
        self._device = devices.pick_device(self._options.device)
        self._dtype = devices.pick_dtype(self._options.precision, self._device)
        self._ceiling = devices.measured_matmul_ceiling(self._device, self._dtype)
        self._state: dict[str, Any] = {"step": 0, "tokens": 0, "seconds": 0.0, "stale": 0}
        self._saved_step = -1
        self._failed_saves = 0
        self._looked = 0.0
        self.given_up = False
        self._tracker = MetricsTracker()
        self._model = self._load_model()
        self._train, self._val, self._info = train_val_loaders(
            setup.data,
            self._options.batch_size,
            verbose=False,
            seed=self._options.seed,
            device=self._device,
        )
        self._trainer = self._make_trainer()
        self._logger = DualLogger(
            config.paths.logs_dir, setup.folder.name, tensorboard=self._options.tensorboard
        )
        self._begin = time.monotonic()

    @property
    def step(self) -> int:
        return int(self._state["step"])

    def close(self) -> None:
        """Close the metric files."""
        self._logger.close()

    def _load_model(self) -> GPT:
        checkpoint = self._setup.resume_from
        if checkpoint is not None:
            self._tensors, self._state = load_training_state(checkpoint)
            self._saved_step = self.step if self._setup.parent is None else -1
        threads = self._options.threads or self._state.get("threads")
        if threads:
            torch.set_num_threads(threads)
        if checkpoint is not None:
            model = load_weights(checkpoint, self._device)
        elif self._setup.initial is not None:
            assert self._setup.initial.path is not None
            torch.manual_seed(self._options.seed)
            model = load_weights(
                self._setup.initial.path, self._device, torch.float32, config=self._setup.model
            )
        else:
            torch.manual_seed(self._options.seed)
            model = create_model(self._setup.model).to(self._device)
        model.gradient_checkpointing = self._options.gradient_checkpointing
        return model.train()

    def _make_trainer(self) -> Trainer:
        options, total = self._options, self._setup.total_steps
        optimizer = build_optimizer(
            self._model,
            kind=options.optimizer,
            learning_rate=options.learning_rate,
            matrix_learning_rate=options.matrix_learning_rate,
            weight_decay=options.weight_decay,
            betas=(options.beta1, options.beta2),
            momentum=options.momentum,
        )
        trainer = Trainer(
            self._model,
            optimizer,
            self._train,
            rate=lambda step: multiplier(
                step,
                total,
                schedule=options.schedule,
                warmup_steps=options.warmup_steps,
                cooldown=options.cooldown,
                min_ratio=options.min_lr_ratio,
            ),
            accumulation=options.gradient_accumulation_steps,
            gradient_clip=options.gradient_clip,
            dtype=self._dtype,
            seed=options.seed,
            compiled=self._compiled(),
        )
        if self._setup.resume_from is not None:
            load_optimizer_state(optimizer, self._model, self._tensors)
            trainer.load_scaler_state(self._state.get("scaler", {}))
            del self._tensors
        return trainer

    def _compiled(self) -> bool:
        """Whether to compile; a resumed run keeps its choice, or its numbers would change."""
        if self._options.compile != "auto":
            return self._options.compile == "on"
        if "compiled" not in self._state:
            self._state["compiled"] = compiling_pays(self._setup, self._device, self._ceiling)
        return bool(self._state["compiled"])

    def opening(self) -> Iterator[Event]:
        """Notes before the first step of this process."""
        if self._device.type == "cpu" and torch.get_num_threads() != self._state.get(
            "threads", torch.get_num_threads()
        ):
            yield Warned(
                f"This run used {self._state['threads']} threads and now has "
                f"{torch.get_num_threads()}: its numbers may differ in the last bits."
            )
        self._state["threads"] = torch.get_num_threads()
        self._tracker.mark(time.monotonic(), self._state["tokens"])

    def advance(self, *, last: bool) -> Iterator[Event]:
        """One optimizer step, and whatever is due after it."""
        options, total = self._options, self._setup.total_steps
        result = self._trainer.step(self.step)
        self._state["step"] += 1
        self._state["tokens"] += result.tokens
        self._tracker.mark(time.monotonic(), self._state["tokens"])
        self._tracker.update({"loss": result.loss, "grad_norm": result.grad_norm})
        if result.skipped:
            yield Warned(f"fp16 overflowed at step {self.step}: its update was left out.")
        if self.step % options.log_every == 0 or last:
            yield self._metric("train", self._values(result))
        eval_every = validation_interval(options, self._setup.steps_per_epoch, total)
        improved = False
        if self.step % eval_every == 0 or last:
            improved = yield from self._evaluate()
        if self.step % (options.sample_every or eval_every) == 0 or last:
            prompt = options.sample_prompt
            yield write_sample(self._model, self._setup.tokenizer, prompt, self.step)
        if self.step % (options.checkpoint_every or eval_every) == 0 or improved:
            yield from self._save()
        elif self._save_requested():
            yield from self._save(requested=True)

    def _values(self, result: StepResult) -> dict[str, float]:
        options = self._options
        values = {
            "loss": result.loss,
            "grad_norm": result.grad_norm,
            "learning_rate": options.learning_rate * result.rate,
            "tokens": self._state["tokens"],
            "memory": devices.peak_memory(self._device),
        }
        if options.optimizer == "muon":
            values["matrix_learning_rate"] = options.matrix_learning_rate * result.rate
        speed = self._tracker.tokens_per_second()
        if speed is not None:
            values["tokens_per_second"] = speed
            flops = flops_per_token(self._setup.model, self._setup.data.train.window)
            values["mfu"] = flops * speed / self._ceiling
        return values

    def _metric(self, kind: Literal["train", "validation"], values: dict[str, float]) -> Metric:
        metric = Metric(self.step, dict(values), kind)
        self._logger.log(self.step, values, metric.time)
        return metric

    def _evaluate(self) -> Generator[Event, None, bool]:
        """Score the validation set; returns whether it is the best so far."""
        limit = self._options.eval_batches or MOST_VALIDATION_BATCHES
        loss = self._trainer.evaluate(self._val.first(limit)).loss
        bits = loss / math.log(2) / self._info.val_bytes_per_token
        self._state["val_loss"] = loss if math.isfinite(loss) else None
        yield self._metric("validation", {"val_loss": loss, "bits_per_byte": bits})
        self._tracker.restart(time.monotonic(), self._state["tokens"])
        # NaN is never smaller, so it is never best.
        if loss < self._state.get("best_loss", math.inf):
            self._state |= {"best_loss": loss, "best_step": self.step, "stale": 0}
            return True
        self._state["stale"] += 1
        patience = self._options.early_stopping
        if patience is not None and self._state["stale"] >= patience:
            self.given_up = True
            stale = self._state["stale"]
            yield Warned(f"Stopping early: {stale} validations in a row {self._not_better()}.")
        return False

    def _not_better(self) -> str:
        """What the validations since the best one have in common."""
        if "best_step" not in self._state:
            return "had a loss that is not finite"
        best, loss = self._state["best_step"], self._state["best_loss"]
        return f"were no better than step {best} (loss {loss:.4f})"

    def _save_requested(self) -> bool:
        """Whether somebody who watches has asked for a checkpoint; looked for once a second."""
        now = time.monotonic()
        if now - self._looked < _SAVE_REQUEST_INTERVAL:
            return False
        self._looked = now
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
                optimizer_state=optimizer_state(self._trainer.optimizer, self._model),
                state=self._state | {"fingerprints": setup.fingerprints},
                command="train",
                options=setup.options.model_dump(mode="json"),
                inputs=[
                    Source(str(setup.data.folder), setup.data.fingerprint),
                    *filter(None, [setup.origin]),
                ],
            )
        except DiskFullError as error:
            self._failed_saves += not requested
            if final or self._failed_saves >= _MOST_FAILED_SAVES:
                raise self._no_room(error) from error
            yield Warned(f"Not saved at step {self.step}: {error.problem}", error.remedy)
            return
        self._failed_saves, self._saved_step = 0, self.step
        folders.take_save_request(setup.folder)
        folders.point(setup.folder, "latest", folder)
        if self._state.get("best_step") == self.step:
            folders.point(setup.folder, "best", folder)
        folders.prune(setup.folder, self._options.keep_checkpoints)
        facts = {"step": self.step, "val_loss": self._state.get("val_loss")}
        yield Saved("checkpoint", str(folder), facts)

    def _no_room(self, error: DiskFullError) -> DiskFullError:
        """What a save that was given up needed, and what there was."""
        optimizer = optimizer_state(self._trainer.optimizer, self._model)
        size = total_bytes(state_to_hf(self._model)) + total_bytes(optimizer)
        return DiskFullError(
            f"The checkpoint of step {self.step} could not be saved.",
            found=f"{error.problem} A checkpoint takes {human_bytes(size)}; {error.found}",
            remedy=error.remedy,
        )

    def closing(self, *, stopped: bool) -> Iterator[Event]:
        """Save what is not saved yet, and say how it ended.

        Raises:
            DiskFullError: there is no room for the last checkpoint.
        """
        if self._saved_step != self.step:
            yield from self._save(final=True)
        finished = self.step >= self._setup.total_steps or self.given_up
        summary = {
            "steps": self.step,
            "tokens": self._state["tokens"],
            "seconds": round(self._state["seconds"], 1),
        }
        best = {k: self._state[k] for k in ("best_loss", "best_step") if k in self._state}
        yield Finished(summary | best, str(self._setup.folder), stopped=stopped and not finished)

    def dump_batch(self, step: int) -> None:
        """Write the texts of a step's windows to bad_batch_step_N.json in the run folder."""
        accumulation = self._options.gradient_accumulation_steps
        windows = []
        for micro in range(step * accumulation, (step + 1) * accumulation):
            inputs, _ = self._train.batch(micro)
            for index, ids in zip(self._train.indices(micro), inputs.tolist(), strict=True):
                text = self._setup.tokenizer.decode(ids)
                windows.append({"window": int(index), "token_ids": ids, "text": text})
        name = f"bad_batch_step_{step:06d}.json"
        write_json(self._setup.folder / name, {"step": step, "windows": windows})

    def figures(self) -> dict[str, str]:
        """What a progress line shows."""
        loss, speed = self._tracker.smooth("loss"), self._tracker.tokens_per_second()
        val = self._state.get("val_loss")
        shown = {
            "loss": None if loss is None else f"{loss:.3f}",
            "val": None if val is None else f"{val:.3f}",
            "speed": None if speed is None else f"{speed:,.0f} tokens/s",
            "memory": human_bytes(devices.peak_memory(self._device)),
        }
        return {name: value for name, value in shown.items() if value is not None}


_TOKENS = 60


def write_sample(model: GPT, tokenizer: Tokenizer, prompt: str, step: int) -> Sample:
    """Let `model` continue `prompt`, or begin a document where it is empty.

    The step is the seed, and the training's random numbers are not touched: a resumed run writes
    the same samples as an undisturbed one.
    """
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    ids = [] if start is None else [start]
    ids += tokenizer.encode(prompt) if prompt or not ids else []
    ends = frozenset(() if tokenizer.eos_id in (None, start) else (tokenizer.eos_id,))
    settings = SamplingSettings(
        max_new_tokens=_TOKENS, seed=step, stop_ids=ends, vocabulary=tokenizer.vocab_size
    )
    model.eval()
    new = generate(model, [ids], settings)[0][len(ids) :]
    model.train()
    decoder = StreamDecoder(tokenizer, after=ids)
    text = "".join(map(decoder.push, new)) + decoder.flush()
    return Sample(text, prompt=prompt, step=step, token_ids=new)
