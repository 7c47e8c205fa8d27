"""A second front door for tests: the same command line with one small, misbehaving stage.

`python tests/support/programs/fake_stage.py fake --name MODE --max-steps N`; the stage borrows the
options of quickstart. Run with `python fake_stage.py`, it is also what jobs started from here run.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from pipeline import events
from pipeline.stages import Stage
from utils.errors import RefusedError
from utils.files import write_file

FAKE = Stage(
    "fake",
    "Fake",
    "Pretend to work",
    "quickstart",
    (),
    "nothing",
    "tests.support.programs.fake_stage:run",
)
EVIL = "\x1b]52;c;aGk=\x07\x1b[2J\u202e[/red]\x9b31m"
STEP_SECONDS = 0.02


def run(config: Any, options: Any, stop: StopSignal) -> Iterator[events.Event]:
    """Yield the events of the mode named by `--name`."""
    steps = options.max_steps or 10
    if options.name == "ids":
        yield events.Finished({"ids": [15043, 3186], "count": 2})
        return
    if options.name == "rows":
        rows = [{"name": "python", "documents": 512}, {"name": EVIL, "documents": 3}]
        yield events.Finished({"sources": rows})
        return
    yield events.Started(stage="fake", title="Fake work", total=steps, unit="steps")
    yield from _beginning(options.name)
    for step in range(1, steps + 1):
        if options.name not in ("flood", "stubborn"):
            time.sleep(STEP_SECONDS)
        if stop.is_set() and options.name != "stubborn":
            write_file(Path("saved_state"), str(step))
            yield events.Saved("state", "saved_state", {"step": step})
            yield events.Finished({"step": step}, path="saved_state", stopped=True)
            return
        if options.name == "stubborn":
            time.sleep(STEP_SECONDS)
        figures = {"speed": f"{step * 3} k/s"}
        yield events.Progress(step, steps, "steps", f"file {step}", figures)
        yield from _noise(options.name, step)
    if options.name == "silent":
        return
    yield events.Finished({"steps": steps, "loss": 1.234567}, path="made/it")


def _beginning(mode: str) -> Iterator[events.Event]:
    if mode == "refuse":
        raise RefusedError("They do not fit.", found="a and b", remedy="python main.py mend")
    if mode == "crash":
        raise ZeroDivisionError("our mistake")
    if mode == "missing":
        Path("no/such/file").read_bytes()
    if mode == "die":
        os.write(1, b"last words\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "stream":
        for piece in ("Once ", "upon", EVIL):
            yield events.Delta(piece, source="run_a")
            yield events.Delta("other", source="run_b")
        yield events.Sample(
            "Once upon" + EVIL, source="run_a", statistics={"new_tokens": 3, "seconds": 1.0}
        )
        yield events.Sample("other", source="run_b", statistics={"speed": 12.5})
    if mode == "evil":
        yield events.Warned(EVIL, EVIL)
        yield events.Rejected(EVIL, EVIL, EVIL)
        yield events.Saved(EVIL, EVIL, {EVIL: EVIL})
        yield events.Progress(1, 2, EVIL, EVIL, {EVIL: EVIL})
        yield events.Sample(EVIL, step=1)
        yield events.Finished({EVIL: EVIL, "lines": f"a\n{EVIL}"}, path=EVIL)


def _noise(mode: str, step: int) -> Iterator[events.Event]:
    if mode == "noisy" and step % 10 == 0:
        yield events.Metric(step, {"val_loss": 4.2 / step, "bits_per_byte": 1.6})
        yield events.Rejected("too_short", f"a.jsonl:{step}", "3 words")
        yield events.Saved("checkpoint", f"checkpoint_step_{step:06d}", {"bytes": 12345})
    if mode == "noisy" and step % 25 == 0:
        yield events.Warned("Gradient norm is high.", "lower --learning-rate")
        yield events.Sample("def main():\n    return 'hello'", step=step)


def main() -> None:
    """The ordinary command line, with the fake stage only."""
    from app.cli import main as cli
    from app.jobs import lifecycle
    from pipeline import stages

    stages.STAGES = (FAKE,)
    lifecycle.PROGRAM = (sys.executable, __file__)
    cli.main()


if __name__ == "__main__":
    main()
