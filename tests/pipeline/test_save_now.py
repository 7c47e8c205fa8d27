"""A checkpoint at the moment somebody asks for one."""

from pathlib import Path
from typing import Any

import pytest

from model import checkpoint
from pipeline.events import Event, Finished, Metric, Saved, Started, Warned
from pipeline.runs import folders
from pipeline.train import session
from tests.support.stage_runner import run_stage
from utils.files import DiskFullError

TRAIN: dict[str, Any] = {
    "max_steps": 8,
    "batch_size": 4,
    "log_every": 1,
    "eval_every": 8,
    "eval_batches": 1,
    "sample_every": 1000,
    "tensorboard": False,
    "device": "cpu",
}
MODEL = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "dropout": 0.1}


def trained(ask_at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Train with requests for a checkpoint during these steps, looked for at each step."""
    monkeypatch.setattr(session, "_SAVE_REQUEST_INTERVAL", 0.0)
    name: list[str] = []

    def ask(event: Event) -> bool:
        if isinstance(event, Started):
            name.append(event.run)
        if isinstance(event, Metric) and event.step in ask_at:
            folders.request_save(Path(name[0]))
        return False

    return run_stage("train", stop_when=ask, train=TRAIN, model=MODEL)


def saves(events: list[Event]) -> list[int]:
    return [event.facts["step"] for event in events if isinstance(event, Saved)]


def losses(events: list[Event]) -> list[tuple[int, dict[str, float | None]]]:
    exact = ("loss", "grad_norm", "val_loss")
    return [
        (e.step, {name: e.values[name] for name in exact if name in e.values})
        for e in events
        if isinstance(e, Metric)
    ]


@pytest.mark.slow
def test_a_request_adds_one_checkpoint_and_changes_nothing_else(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trained((), monkeypatch)
    asked = trained((3, 5), monkeypatch)
    assert saves(undisturbed) == [8]
    assert saves(asked) == [3, 5, 8]
    assert losses(asked) == losses(undisturbed)
    assert isinstance(asked[-1], Finished)
    run = Path(str(asked[-1].path))
    assert [folders.step_of(p) for p in folders.step_folders(run)] == [3, 5, 8]
    assert not folders.take_save_request(run)


@pytest.mark.slow
def test_requested_saves_that_fail_are_told_and_do_not_end_the_run(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.save_checkpoint

    def full(folder: Path, *rest: Any, **more: Any) -> None:
        if folder.name != "checkpoint_step_000008":
            raise DiskFullError("The disk is full.")
        real(folder, *rest, **more)

    monkeypatch.setattr(session, "save_checkpoint", full)
    events = trained((2, 3, 4, 5), monkeypatch)
    failed = [e for e in events if isinstance(e, Warned) and "Not saved" in e.message]
    assert len(failed) == 4
    assert saves(events) == [8]


def test_a_request_for_a_run_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folders.request_save(tmp_path / "gone")
    assert not folders.take_save_request(tmp_path / "gone")
