"""Run folders as a training leaves them, made without training."""

import json
import math
from pathlib import Path

from pipeline.events import Event, Finished, Metric, Sample, Saved, Started, to_json


def finished_run(name: str, steps: int = 200, sample: str = "def main():\n    return 7") -> Path:
    """checkpoints/NAME of the working directory: its events, and two checkpoints with a validation
    loss each but no weights that could be loaded."""
    folder = Path("checkpoints") / name
    folder.mkdir(parents=True)
    log: list[Event] = [
        Started("train", f"Train {name}", total=steps, unit="steps", run=str(folder))
    ]
    for step in range(5, steps + 1, 5):
        loss = 3 + 5 * math.exp(-step / 40)
        values = {"loss": loss, "grad_norm": 0.8, "learning_rate": 6e-4, "tokens_per_second": 5e3}
        log.append(Metric(step=step, values=values))
        if step in (steps // 2, steps):
            log.append(Metric(step=step, values={"val_loss": 3.2 + 1 / step}))
            log.append(Sample(text=sample, prompt="def", step=step))
            log.append(Saved(kind="checkpoint", path=str(_checkpoint(folder, step))))
    log.append(Finished(summary={"steps": steps, "loss": 3.1}, path=str(folder)))
    (folder / "events.jsonl").write_bytes(b"".join(to_json(event) + b"\n" for event in log))
    return folder


def _checkpoint(run: Path, step: int) -> Path:
    folder = run / f"checkpoint_step_{step:06}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"no weights")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "state.json").write_text(json.dumps({"step": step, "val_loss": 3.2 + 1 / step}))
    return folder
