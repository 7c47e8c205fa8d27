"""Following the files of jobs and runs."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.jobs.job import Job
from app.tui.watch.event_summary import EventSummary
from app.tui.watch.follower import EventFile, Follower, LineTail, LogTail, glance, job_of
from pipeline import events
from pipeline.events import Event, to_json
from utils.files import write_file


def write(folder: Path, told: Sequence[Event], *, torn: bytes = b"") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("ab") as handle:
        handle.write(b"".join(to_json(event) + b"\n" for event in told) + torn)
    return folder


def metric(step: int, **values: float | None) -> events.Metric:
    return events.Metric(step, values, time=float(step))


def training(first: int, last: int, *, loss: float = 3.0, every: int = 1) -> list[Event]:
    return [metric(step, loss=loss, grad_norm=1.0) for step in range(first, last + 1, every)]


def started(run: str = "run_a", total: int = 100) -> events.Started:
    return events.Started("train", f"Train {run}", total, "steps", run, time=0.0)


def drained(file: EventFile) -> EventFile:
    while file.read():
        pass
    return file


def test_a_resumed_run_shows_one_curve_in_which_later_values_win(tmp_path: Path) -> None:
    told = [started(), *training(1, 60), metric(60, val_loss=4.0), started()]
    told += [*training(41, 60, loss=2.0), metric(60, val_loss=2.5), *training(61, 70, loss=2.0)]
    view = drained(EventFile(write(tmp_path, told) / "events.jsonl")).view()
    assert [p.step for p in view.curves["loss"]] == list(range(1, 71))
    assert [p.mean for p in view.curves["loss"]] == [3.0] * 40 + [2.0] * 30
    assert [(p.step, p.mean) for p in view.curves["val_loss"]] == [(60, 2.5)]


def test_going_back_voids_every_curve_after_that_step() -> None:
    story = EventSummary()
    for event in [*training(1, 60), metric(60, val_loss=9.0), *training(41, 45)]:
        story.take(event)
    view = story.view()
    assert view.curves["val_loss"] == []
    assert view.curves["loss"][-1].step == 45


def test_lines_still_being_written_wait_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    whole = to_json(metric(2, loss=1.0))
    folder = write(tmp_path, [metric(1, loss=2.0)], torn=b'{"event":"newer"}\n\xff\n' + whole[:20])
    file = drained(EventFile(folder / "events.jsonl"))
    assert file.view().step == 1
    with (folder / "events.jsonl").open("ab") as handle:
        handle.write(whole[20:] + b"\n")
    assert file.read()
    assert file.view().step == 2
    assert not file.read()


def test_a_file_that_comes_late_vanishes_or_is_made_anew_is_followed(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "job" / "events.jsonl")
    assert not file.read()
    path = write(tmp_path / "job", training(1, 5)) / "events.jsonl"
    assert drained(file).view().step == 5
    path.unlink()
    assert not file.read()
    write(tmp_path / "job", training(1, 3))
    assert drained(file).view().step == 3


def test_a_large_file_is_shown_at_once_and_then_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_LARGE": 1 << 20, "_SLICE": 1 << 18}.items():
        monkeypatch.setattr(f"app.tui.watch.follower.{name}", value)
    for name, value in {"_BLOCKS": 20, "_NEWEST": 1 << 14}.items():
        monkeypatch.setattr(f"app.tui.watch.follower.{name}", value)
    monkeypatch.setattr("pipeline.event_search._PIECE", 1 << 16)
    told: list[Event] = [started(total=20_000)]
    for step in range(1, 20_001):
        told.append(metric(step, loss=50.0 if step == 7_777 else 3.0, grad_norm=1.0))
        if step % 1000 == 0:
            told.append(metric(step, val_loss=step / 1000, bits_per_byte=1.0))
            told.append(events.Sample(f"hello {step}", step=step))
    told.insert(-3, events.Warned("careful"))
    file = EventFile(write(tmp_path, told) / "events.jsonl")
    assert file.read()
    first = file.view()
    assert not file.complete
    assert first.step == 20_000
    assert [p.mean for p in first.curves["val_loss"]] == list(range(1, 21))
    assert len(first.curves["loss"]) > 100
    assert first.curves["loss"][0].step < 100
    assert first.samples[-1].text == "hello 20000"
    assert [n.kind for n in first.notes] == ["started", "warned"]
    write(tmp_path, training(20_001, 20_010))
    shown = {file.view().step for _ in range(100) if file.read() or not file.complete}
    assert max(shown) == 20_010
    assert file.complete
    last = file.view()
    assert max(p.high for p in last.curves["loss"]) == 50.0
    assert sum(p.number for p in last.curves["loss"]) == 20_010


def test_a_glance_finds_every_validation_whatever_its_line_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_BLOCKS": 2, "_BLOCK": 256, "_NEWEST": 1 << 10}.items():
        monkeypatch.setattr(f"app.tui.watch.follower.{name}", value)
    ways = [
        '{"event":"metric","time":1.0,"step":%d,"values":{"val_loss":1.0}}',
        '{"event":"metric","time":1.0,"step":%d,"values":{"accuracy":0.5,"val_loss":1.0}}',
        '{"kind":"validation","values":{"accuracy":0.5},"event":"metric","step":%d}',
        '{"step": %d, "values": {"b": 2, "val_loss": 1.0, "a": 2}, "event": "metric"}',
    ]
    noise = b"".join(to_json(event) + b"\n" for event in training(1, 20))
    lines = [noise + (ways[step % 4] % step).encode() + b"\n" for step in range(1000, 1100)]
    write_file(tmp_path / "events.jsonl", b"".join(lines) + noise)
    found = [events.from_json(line) for line in glance(tmp_path / "events.jsonl")[0]]
    steps = [e.step for e in found if isinstance(e, events.Metric) and e.kind == "validation"]
    assert steps == list(range(1000, 1100))


def test_too_many_validations_are_thinned_and_saves_beside_them_take_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tui.watch.follower._MOST_VALIDATIONS", 10)
    monkeypatch.setattr("app.tui.watch.follower._BLOCKS", 1)
    monkeypatch.setattr("app.tui.watch.follower._NEWEST", 1 << 10)
    told: list[Event] = []
    for step in range(100):
        told += [metric(step, val_loss=1.0), events.Saved("checkpoint", "x", {"val_loss": 1.0})]
    lines, _ = glance(write(tmp_path, told) / "events.jsonl")
    found = [events.from_json(line) for line in lines]
    steps = [e.step for e in found if isinstance(e, events.Metric)]
    assert len([step for step in steps if 30 <= step < 80]) >= 3
    assert steps[-1] == 99


def test_a_glance_gives_lines_in_order_each_once(tmp_path: Path) -> None:
    folder = write(tmp_path, [started(), *training(1, 300)], torn=b'{"event":"met')
    lines, end = glance(folder / "events.jsonl")
    assert lines == (folder / "events.jsonl").read_bytes().splitlines(keepends=True)[:-1]
    assert end == sum(map(len, lines))
    assert glance(folder / "missing") == ([], 0)


def test_reading_lines_is_bounded_and_loses_none(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [b"x" * (n % 97) for n in range(2000)] + [b"y" * 5000, b"end"]
    write_file(path, b"\n".join(lines) + b"\n")
    tail, found = LineTail(path), []
    while tail.waiting():
        piece = tail.read(1024)
        assert sum(map(len, piece)) <= 8192
        found += piece
    assert found == lines


def test_of_a_flood_only_the_last_lines_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    log = LogTail(path)
    assert not log.read()
    write_file(path, b"".join(b"line %06d\n" % n for n in range(200_000)) + b"unfinished")
    assert log.read()
    shown = log.lines()
    assert len(shown) == 2001
    assert shown[-2:] == ("line 199999", "unfinished")
    assert not log.read()
    with path.open("ab") as handle:
        handle.write(b" line\nold\rnew\r\n\xff\ttab")
    assert log.read()
    assert log.lines()[-3:] == ("unfinished line", "new", "\ufffd       tab")


def test_a_log_made_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    write_file(path, b"a long first line\n")
    log = LogTail(path)
    log.read()
    write_file(path, b"short\n")
    assert log.read()
    assert log.lines()[-1] == "short"


def test_a_job_leads_to_its_run_and_shows_its_whole_past(tmp_path: Path) -> None:
    run = write(tmp_path / "checkpoints" / "run_a", [started(), *training(1, 80)])
    job = write(tmp_path / "job", [started(), *training(61, 80), events.Progress(80, 100, "steps")])
    follower = Follower(tmp_path / "checkpoints", job)
    while follower.read():
        pass
    view = follower.view()
    assert follower.run == run
    assert [p.step for p in view.curves["loss"]] == list(range(1, 81))
    assert view.progress is not None
    assert view.progress.done == 80


def job(folder: Path, told: Sequence[Event]) -> Job:
    return Job("ab12", write(folder, told), None, "done", 0, 0.0, 1.0, None)


def test_the_job_of_a_run_is_the_one_whose_events_name_it(tmp_path: Path) -> None:
    run = tmp_path / "checkpoints" / "run_a"
    by_title = events.Started("inference", "Train run_a")
    other = job(tmp_path / "1", [by_title, started("run_a_2"), events.Sample("run_a")])
    own = job(tmp_path / "2", [started("run_a")])
    saved = events.Saved("checkpoint", "checkpoints/run_a/checkpoint_step_000010")
    before = job(tmp_path / "3", [events.Started("train", "Train run_a"), saved])  # without a run
    assert job_of(run, [other, own, before]) == own
    assert job_of(run, [other, before]) == before
    assert job_of(run, [other]) is None


def test_a_run_cannot_lead_out_of_the_checkpoints_folder(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", training(1, 5))
    job = write(tmp_path / "job", [started("../elsewhere"), *training(1, 3)])
    (tmp_path / "checkpoints").mkdir()
    follower = Follower(tmp_path / "checkpoints", job)
    while follower.read():
        pass
    assert follower.run is None


def test_the_time_left_follows_the_recent_pace() -> None:
    story = EventSummary()
    story.take(started(total=1000))
    for step in range(1, 301):
        story.take(events.Progress(step, 1000, "steps", time=10.0 * step))
    for step in range(301, 401):
        story.take(events.Progress(step, 1000, "steps", time=3000 + 2.0 * (step - 300)))
    assert story.view().seconds_left == pytest.approx(1200)


def test_what_was_left_out_is_counted_by_rule_and_texts_grow() -> None:
    story = EventSummary()
    for rule in ("stub", "stub", "duplicate"):
        story.take(events.Rejected(rule, "a.jsonl:1"))
    for piece in ("", "Once ", "upon"):
        story.take(events.Delta(piece, prompt="def " if not piece else "", source="a"))
    view = story.view()
    assert view.rejected == (("stub", 2), ("duplicate", 1))
    assert [(t.prompt, t.text) for t in view.texts] == [("def ", "Once upon")]
    story.take(events.Sample("Once upon a time", source="a"))
    assert [(t.prompt, t.text) for t in story.view().texts] == [("def ", "Once upon a time")]
    story.take(events.Finished({"rejected": {"stub": 10, "duplicate": 4}}))
    assert story.view().rejected == (("stub", 10), ("duplicate", 4))


def test_a_story_stays_small_whatever_is_told() -> None:
    story = EventSummary()
    for number in range(3000):
        story.take(events.Rejected(f"rule {number}", "x"))
        story.take(events.Warned("w" * 50))
        story.take(events.Delta("piece " * 20, source=f"model {number}"))
        story.take(metric(number, **{f"metric {number % 50}": 1.0}))
    view = story.view()
    assert len(view.rejected) <= 100
    assert len(view.notes) <= 200
    assert len(view.texts) <= 16
    assert len(view.curves) <= 16


def test_a_run_that_is_started_again_for_nothing_has_ended_as_before() -> None:
    story = EventSummary()
    end = events.Finished({"steps": 100, "seconds": 60.0}, "checkpoints/run_a", time=100.0)
    for event in (started(), *training(1, 100), end, started()):
        story.take(event)
    assert story.view().final is None
    story.take(events.Finished({"steps": 100}, skipped=True, time=5000.0))
    assert story.view().final == end
    assert story.view().newest == 100.0
