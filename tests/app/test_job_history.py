"""What belongs to a step of a training is written once, in the run, and read with the job."""

import shlex
import time
from itertools import count
from pathlib import Path

import pytest

from app.jobs import folder as job_folder
from app.jobs import lifecycle, states
from app.jobs.folder import Record, record_exit, trained_run, write_record
from app.jobs.history import EventReader, last_event
from app.jobs.job import Job
from app.jobs.retry import run_folder
from app.jobs.runner import JobRenderer
from app.tui.watch.follower import Follower, job_of
from pipeline import events
from pipeline.events import Event, from_json, to_json
from pipeline.runs.deletion import delete
from utils.files import AppendLog, DiskFullError

RUN = Path("checkpoints/run_x")
LOGS = Path("logs")


def _job(own: str) -> Path:
    folder = LOGS / "jobs" / f"2026-train-{own}"
    folder.mkdir(parents=True)
    argv = ["python", "main.py", "train"]
    record = Record(argv, "train", None, 0, "?", "elsewhere", str(Path.cwd()), 0.0, {})
    write_record(folder, record)
    return folder


def _checkpoint(step: int, time: float = 0.0) -> events.Saved:
    folder = RUN / f"checkpoint_step_{step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    return events.Saved("checkpoint", str(folder), {"step": step, "val_loss": 2.0}, time=time)


def _train(folder: Path, first: int, *, renderer: JobRenderer | None = None) -> list[Event]:
    """Three steps as the training stage reports them, to the run and then to its job."""
    clock = (100.0 * first + second for second in count())
    title = "Train run_x"
    told: list[Event] = [events.Started("train", title, 9, "steps", run=str(RUN), time=next(clock))]
    for step in range(first, first + 3):
        told += [
            events.Metric(step, {"loss": 1.0, "memory": 1e9}, time=next(clock)),
            events.Progress(step, 9, time=next(clock)),
        ]
    told += [
        events.Metric(step, {"val_loss": 2.0}, time=next(clock)),
        events.Sample("text", step=step, time=next(clock)),
        _checkpoint(step, next(clock)),
        events.Finished({"steps": step}, str(RUN), time=next(clock)),
    ]
    log = AppendLog(RUN / "events.jsonl")
    with renderer or JobRenderer(folder) as job:
        for event in told:
            if not isinstance(event, events.Progress):
                log.write(to_json(event))
            job.show(event)
    log.close()
    return told


def _written(path: Path) -> list[Event]:
    return [from_json(line) for line in path.read_bytes().splitlines()]


def test_a_step_is_written_once_and_the_job_reads_as_if_it_had_written_it(workspace: Path) -> None:
    folder = _job("0001")
    told = _train(folder, 1)
    own, run = _written(folder / "events.jsonl"), _written(RUN / "events.jsonl")
    steps = [e for e in told if isinstance(e, events.Metric | events.Sample | events.Saved)]
    assert [event for event in run if event in steps] == steps
    assert [event for event in own if event in steps] == []
    assert EventReader(folder).read() == told
    assert last_event(folder, events.Metric) == steps[-3]
    reader = EventReader(folder)
    kept, left_out = reader.replay()
    assert (kept[0], kept[-1], left_out) == (told[0], told[-1], 0)
    assert reader.read() == []


def test_each_job_that_goes_on_with_a_run_reads_its_own_part(workspace: Path) -> None:
    first, second = _job("0001"), _job("0002")
    early, late = _train(first, 1), _train(second, 4)
    assert EventReader(first).read() == early
    assert EventReader(second).read() == late
    newest = last_event(first, events.Metric)
    assert newest is not None
    assert newest.step == 3
    assert [event.step for event in _metrics(EventReader(first).replay()[0])] == [3]
    assert run_folder(states.look(second)) == RUN


def _metrics(found: list[Event]) -> list[events.Metric]:
    return [event for event in found if isinstance(event, events.Metric)]


def test_a_reader_that_was_there_first_sees_steps_as_they_come(workspace: Path) -> None:
    folder = _job("0001")
    reader = EventReader(folder)
    assert reader.read() == []
    seen: list[Event] = []

    class ReadAlong(JobRenderer):
        def show(self, event: Event) -> None:
            super().show(event)
            seen.extend(reader.read())

    assert _train(folder, 1, renderer=ReadAlong(folder)) == seen


def test_a_job_from_before_holds_its_steps_itself(workspace: Path) -> None:
    folder = _job("0001")
    told: list[Event] = [events.Started("train", "Train run_x", 9, "steps")]
    told += [events.Metric(step, {"loss": 1.0}) for step in range(3)] + [_checkpoint(2)]
    for path in (folder / "events.jsonl", RUN / "events.jsonl"):
        path.write_bytes(b"".join(to_json(event) + b"\n" for event in told))
    assert trained_run(folder) is None
    assert EventReader(folder).read() == told
    assert job_of(RUN, [states.look(folder)]) == states.look(folder)
    assert run_folder(states.look(folder)) == RUN


def test_without_room_for_the_pointer_the_job_records_its_steps_itself(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        raise DiskFullError("The disk is full.")

    folder = _job("0001")
    monkeypatch.setattr(job_folder, "write_json", full)
    told = _train(folder, 1)
    assert _written(folder / "events.jsonl") == told
    assert EventReader(folder).read() == told


def test_a_deleted_run_leaves_what_the_job_itself_has_told(workspace: Path) -> None:
    folder = _job("0001")
    told = _train(folder, 1)
    delete(RUN, RUN.parent)
    assert EventReader(folder).replay()[0] == [told[0], told[-1]]
    assert last_event(folder, events.Metric) is None
    assert run_folder(states.look(folder)) is None
    follower = Follower(RUN.parent, folder)
    assert follower.read()
    assert follower.view().final == told[-1]


def test_a_deleted_job_leaves_the_run_whole(workspace: Path) -> None:
    folder = _job("0001")
    told = _train(folder, 1)
    record_exit(folder, 0)
    lifecycle.remove(states.look(folder), [])
    assert not folder.exists()
    assert _written(RUN / "events.jsonl") == [e for e in told if not isinstance(e, events.Progress)]


def test_a_line_torn_by_a_kill_is_passed_over_and_cut_by_the_next_training(
    workspace: Path,
) -> None:
    folder, again = _job("0001"), _job("0002")
    told = _train(folder, 1)
    with (RUN / "events.jsonl").open("ab") as log:
        log.write(b'{"event":"metric","step":4,"val')
    assert EventReader(folder).read() == told
    late = _train(again, 4)
    assert EventReader(folder).read() == told
    assert EventReader(again).read() == late


def test_the_view_of_a_job_holds_its_checkpoints_and_none_of_a_later_training(
    workspace: Path,
) -> None:
    first, second = _job("0001"), _job("0002")
    _train(first, 1)
    _train(second, 4)
    for folder, step in ((first, 3), (second, 6)):
        follower = Follower(RUN.parent, folder)
        while follower.read():
            pass
        notes = [note.text for note in follower.view().notes]
        assert notes == ["Train run_x", f"checkpoint at step {step}, val loss 2.000"]
        assert follower.run == RUN
        assert follower.view().step == 6  # the curves are those of the whole run
    jobs = [states.look(folder) for folder in (second, first)]
    assert job_of(RUN, jobs) == jobs[0]


@pytest.mark.slow
def test_a_real_training_is_attached_to_whole_and_resumed_in_its_own_part(prepared: Path) -> None:
    typed = shlex.split(
        "train --name a --max-steps 3 --log-every 1 --batch-size 2 --device cpu --threads 1 "
        "--no-tensorboard --model.hidden-size 64 --model.num-layers 1 --model.num-heads 2"
    )
    first = _ended(lifecycle.start(LOGS, typed, "train", None))
    run = run_folder(first)
    assert run is not None
    more = ["train", "--resume", str(run), "--max-steps", "5"]
    second = _ended(lifecycle.start(LOGS, more, "train", None))
    steps = [_train_steps(EventReader(job.folder).read()) for job in (first, second)]
    assert steps == [[1, 2, 3], [4, 5]]
    assert _train_steps(_written(run / "events.jsonl")) == [1, 2, 3, 4, 5]
    assert [_train_steps(_written(job.folder / "events.jsonl")) for job in (first, second)] == [
        [],
        [],
    ]


def _ended(job: Job) -> Job:
    deadline = time.monotonic() + 120
    while states.look(job.folder).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = states.look(job.folder)
    assert ended.state == "done", job_folder.output_tail(job.folder)
    return ended


def _train_steps(found: list[Event]) -> list[int]:
    return [event.step for event in _metrics(found) if event.kind == "train"]
