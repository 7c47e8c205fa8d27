"""How far a run got, and that a checkpoint never shows the loss of another step."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.events import Event, Finished, Metric, Saved, Started, to_json
from pipeline.runs.inventory import checkpoints_in, val_loss_of
from pipeline.runs.lineage import facts_of
from pipeline.runs.progress import is_being_written, progress_of, steps_to_go_on_to
from pipeline.survey import survey
from tests.support.stage_runner import finished, run_stage, settings

MODEL = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2}
TRAIN: dict[str, Any] = {"batch_size": 2, "tensorboard": False}


def _run(*events: Event, last_step: int = 15) -> Path:
    """A run with these events, whose newest checkpoint is of `last_step`."""
    run = Path("checkpoints/run_2026_11_21_10_00_x")
    checkpoint = run / f"checkpoint_step_{last_step:06d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    (run / "events.jsonl").write_bytes(b"".join(to_json(event) + b"\n" for event in events))
    return run


def _began(total: int | None = 80) -> Started:
    return Started("train", "Train x", total, "steps")


STOPPED, ENDED = Finished({"steps": 15}, stopped=True), Finished({"steps": 80})


@pytest.mark.parametrize(
    ("events", "step", "planned"),
    [
        ([_began(), STOPPED], 15, 80),
        ([_began()], 15, 80),  # killed
        ([_began(), STOPPED, _began(), STOPPED], 30, 80),
        ([_began(), STOPPED, _began(200)], 90, 200),  # killed after it was to go on for longer
        ([_began(), ENDED], 80, None),
        ([_began(), ENDED], 24, None),  # early stopping
        ([_began(), STOPPED, _began(), ENDED], 80, None),
        ([_began()], 80, None),  # killed after its last checkpoint
        ([_began(None), STOPPED], 15, None),
        ([], 15, None),
    ],
)
def test_a_run_that_stopped_before_its_end_says_how_far_it_was_to_go(
    workspace: Path, events: list[Event], step: int, planned: int | None
) -> None:
    assert steps_to_go_on_to(_run(*events, last_step=step)) == planned


def test_a_run_without_events_or_folder_does_not_say(workspace: Path) -> None:
    run = _run()
    (run / "events.jsonl").unlink()
    assert steps_to_go_on_to(run) is None
    assert steps_to_go_on_to(Path("nowhere")) is None


def test_a_run_that_somebody_trains_has_not_stopped(workspace: Path) -> None:
    run = _run(_began())
    (run / ".lock").write_text(f"{os.getpid()} here")
    assert is_being_written(run)
    assert steps_to_go_on_to(run) is None
    (run / ".lock").write_text("999999999 here")
    assert steps_to_go_on_to(run) == 80
    (run / ".lock").write_text(f"{os.getpid()} here")
    with (run / "events.jsonl").open("ab") as log:
        log.write(to_json(STOPPED) + b"\n")
    assert steps_to_go_on_to(run) == 80  # whoever that process is, it has stopped training


def test_what_is_added_is_read_on_and_another_file_anew(workspace: Path) -> None:
    run = _run(_began(), Metric(5, {"val_loss": 3.0}))
    log = run / "events.jsonl"
    first = progress_of(run)
    assert first is not None
    assert (first.total, first.validated) == (80, {5})
    with log.open("ab") as handle:
        handle.write(to_json(Metric(10, {"val_loss": 2.0})) + b"\n" + to_json(ENDED)[:20])
    assert progress_of(run) is first
    assert (first.validated, first.ended) == ({5, 10}, False)
    log.write_bytes(to_json(_began(7)) + b"\n")
    again = progress_of(run)
    assert again is not None
    assert (again.total, again.validated, again.ended) == (7, set(), False)


def _stop_at(step: int) -> Any:
    return lambda event: isinstance(event, Metric) and event.step >= step


@pytest.mark.slow
def test_a_stopped_training_is_not_done_and_its_last_checkpoint_not_measured(
    prepared: Path,
) -> None:
    train = TRAIN | {"max_steps": 40, "name": "shake", "eval_every": 8, "log_every": 1}
    events = run_stage("train", train=train, model=MODEL, stop_when=_stop_at(11))
    assert finished(events).stopped
    saved = [event for event in events if isinstance(event, Saved)]
    assert [isinstance(event.facts["val_loss"], float) for event in saved] == [True, False]
    run = Path(str(finished(events).path))
    newest, validated = checkpoints_in(run)
    assert (newest.val_loss, validated.step) == (None, 8)
    assert validated.val_loss == saved[0].facts["val_loss"]
    product = survey(settings())["train"]
    assert (product.state, product.figure) == ("stopped", f"stopped at {newest.step} of 40")
    assert product.usable
    assert facts_of(run, run.parent).planned == 40
    run_stage("train", train={"resume": "auto", "max_steps": 16, "tensorboard": False})
    product = survey(settings())["train"]
    assert (product.state, product.title) == ("fresh", "shake")
    assert product.figure.startswith("step 16, val ")


def _checkpoint(step: int, state: dict[str, Any], *validated: int) -> Path:
    run = Path("checkpoints/run_2026_11_21_10_00_x")
    folder = run / f"checkpoint_step_{step:06d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"step": step} | state))
    lines = [to_json(Metric(at, {"val_loss": 3.0})) + b"\n" for at in validated]
    (run / "events.jsonl").write_bytes(b"".join(lines))
    return folder


@pytest.mark.parametrize(
    ("state", "validated", "loss"),
    [
        ({"val_loss": 3.5, "val_step": 16}, [16], 3.5),
        ({"val_loss": 3.5, "val_step": 8}, [8], None),
        ({"val_loss": 3.5}, [8, 16], 3.5),  # of a version that did not record the step
        ({"val_loss": 3.5}, [8], None),
        ({"val_loss": 3.5, "best_step": 8, "best_loss": 3.5}, [8], None),
        ({"val_loss": 3.5, "best_step": 16, "best_loss": 3.5}, [], 3.5),
        ({"best_step": 16, "best_loss": 3.5}, [16], 3.5),
        ({"val_loss": 3.5}, [], 3.5),  # nothing says when
        ({}, [8], None),
        ({"val_loss": None, "val_step": 16}, [16], None),  # it was not finite
    ],
)
def test_a_checkpoint_shows_no_loss_of_another_step(
    workspace: Path, state: dict[str, Any], validated: list[int], loss: float | None
) -> None:
    assert val_loss_of(_checkpoint(16, state, *validated)) == loss


@pytest.mark.slow
def test_a_best_loss_is_shown_with_its_own_step(prepared: Path) -> None:
    train = TRAIN | {"max_steps": 12, "name": "x", "eval_every": 4, "checkpoint_every": 4}
    run_stage("train", train=train | {"learning_rate": 5.0, "optimizer": "adamw"}, model=MODEL)
    best = min(checkpoints_in(next(Path("checkpoints").iterdir())), key=lambda c: c.val_loss or 99)
    product = survey(settings())["train"]
    at = "" if best.step == 12 else f" at {best.step}"
    assert product.figure == f"step 12, val {best.val_loss:.3f}{at}"


def test_a_run_read_by_several_threads_is_read_once(workspace: Path) -> None:
    run = _run(_began(), *(Metric(step, {"val_loss": 3.0}) for step in range(1, 200)))
    threads = [threading.Thread(target=progress_of, args=(run,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = progress_of(run)
    assert found is not None
    assert found.validated == set(range(1, 200))
