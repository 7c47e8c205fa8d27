"""Results side by side: what is read, what compares, and what is written out."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from app.tui.runs.results_table import COLUMNS, fitting, ordered
from pipeline.events import Finished, Metric, Sample, Saved, to_json
from pipeline.runs.results import Reader, Result, best_of, caution, export
from pipeline.runs.validations import Curve, sparkline


def validation(step: int, loss: float | None, bits: float | None = None) -> bytes:
    return to_json(Metric(step, {"val_loss": loss, "bits_per_byte": bits})) + b"\n"


def result(name: str, **fields: Any) -> Result:
    return Result(name, Path(name), **fields)


def write_run(name: str, losses: list[float], **state: Any) -> Path:
    run = Path("checkpoints", name)
    (run / "checkpoint_step_000010").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    events = [validation(step, loss, loss / 2) for step, loss in enumerate(losses, 1)]
    (run / "events.jsonl").write_bytes(b"".join(events))
    (run / "checkpoint_step_000010/state.json").write_text(json.dumps({"step": 10} | state))
    return run


def test_the_curve_is_found_among_all_other_events(workspace: Path) -> None:
    file = Path("events.jsonl")
    lure = Sample('{"event":"metric","step":3,"values":{"val_loss":0.001}}\n"val_loss":0')
    noise = to_json(Metric(1, {"loss": 9.0})) + b"\n"
    file.write_bytes(noise * 500 + validation(10, 4.0, 2.0) + to_json(lure) + b"\n" + noise * 500
                     + validation(20, 3.0))  # fmt: skip
    points = Curve(file).points()
    assert [(p.step, p.loss, p.bits) for p in points] == [(10, 4.0, 2.0), (20, 3.0, None)]


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"metric","time":1.0,"step":10,"values":{"val_loss":4.0,"bits_per_byte":2.0}}',
        '{"event":"metric","values":{"bits_per_byte":2.0,"val_loss":4.0},"step":10,"time":1.0}',
        '{"kind": "validation", "values": {"accuracy": 0.5, "val_loss": 4.0, "bits_per_byte": 2.0,'
        ' "tokens": 7}, "step": 10, "event": "metric"}',
    ],
)
def test_a_validation_counts_whatever_the_order_of_its_keys(workspace: Path, line: str) -> None:
    file = Path("events.jsonl")
    saved = to_json(Saved("checkpoint", "x/checkpoint_step_000010", {"val_loss": 9.0})) + b"\n"
    file.write_bytes(saved + line.encode() + b"\n" + saved)
    assert Curve(file).points() == [(10, 4.0, 2.0)]


def test_a_line_far_longer_than_others_hides_no_validation(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.event_search._PIECE", 64)
    monkeypatch.setattr("pipeline.event_search._LONGEST_LINE", 1024)
    long = [to_json(Sample("x" * size)) + b"\n" for size in (500, 5000)]
    file = Path("events.jsonl")
    file.write_bytes(long[0] + validation(10, 4.0) + long[1] + validation(20, 3.0))
    assert [point.step for point in Curve(file).points()] == [10, 20]


def test_a_second_look_adds_what_was_written_since_and_waits_for_a_torn_line(
    workspace: Path,
) -> None:
    file = Path("events.jsonl")
    later = validation(20, 3.0)
    file.write_bytes(validation(10, 4.0) + later[:-5])
    curve = Curve(file)
    assert [point.step for point in curve.points()] == [10]
    with file.open("ab") as handle:
        handle.write(later[-5:])
    assert [point.step for point in curve.points()] == [10, 20]


def test_steps_done_again_after_a_resume_count_once(workspace: Path) -> None:
    file = Path("events.jsonl")
    file.write_bytes(validation(10, 4.0) + validation(20, 3.0) + validation(20, 2.9))
    assert [point.loss for point in Curve(file).points()] == [4.0, 2.9]


def test_a_loss_that_was_not_finite_is_no_point(workspace: Path) -> None:
    file = Path("events.jsonl")
    file.write_bytes(validation(10, None) + validation(20, 3.0))
    assert [point.step for point in Curve(file).points()] == [20]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'"val_loss":\n', b"{}"])
def test_a_file_that_is_no_log_has_no_points(workspace: Path, content: bytes) -> None:
    Path("events.jsonl").write_bytes(content)
    assert Curve(Path("events.jsonl")).points() == []
    assert Curve(Path("nowhere")).points() == []


@pytest.mark.parametrize(
    ("values", "shown"),
    [([], ""), ([1.0], "▁"), ([2.0, 2.0], "▁▁"), ([8.0, 4.0, 1.0], "█▄▁")],
)
def test_a_sparkline_falls_as_its_values_do(values: list[float], shown: str) -> None:
    assert sparkline(values, 8) == shown


def test_a_sparkline_of_many_values_ends_with_the_last(workspace: Path) -> None:
    shown = sparkline([float(n) for n in range(1000, 0, -1)], 12)
    assert (len(shown), shown[0], shown[-1]) == (12, "█", "▁")


def test_a_run_is_read_with_its_best_and_its_speed(workspace: Path) -> None:
    write_run("run_a", [4.0, 3.0, 3.5], tokens=1000, seconds=4.0)
    [found] = Reader().results(Path("checkpoints"))
    assert (found.val_loss, found.bits_per_byte, found.steps) == (3.0, 1.5, 10)
    assert found.tokens_per_second == 250.0


def test_a_run_whose_files_are_all_broken_is_listed_without_figures(workspace: Path) -> None:
    run = write_run("run_a", [])
    (run / "run.json").write_bytes(b"\xff")
    (run / "events.jsonl").write_bytes(b"\x00" * 100)
    (run / "checkpoint_step_000010/state.json").write_text("[1]")
    [found] = Reader().results(Path("checkpoints"))
    assert (found.name, found.val_loss, found.steps, found.parameters) == (
        "run_a",
        None,
        None,
        None,
    )


@pytest.mark.slow
def test_a_real_run_tells_its_parameters_data_and_tokenizer(prepared: Path) -> None:
    from tests.support.stage_runner import run_stage

    finished = run_stage(
        "train",
        model={"hidden_size": 16, "num_layers": 1, "num_heads": 2},
        dataset={"source": "files"},
        train={"max_steps": 2, "batch_size": 2, "tensorboard": False, "name": "tiny"},
    )[-1]
    assert isinstance(finished, Finished)
    [found] = Reader().results(Path("checkpoints"))
    assert (found.data, found.tokenizer, found.steps) == ("files_full", "chars", 2)
    assert found.val_loss == finished.summary["best_loss"]
    assert found.parameters
    assert found.bits_per_byte


def test_losses_of_different_tokenizers_are_not_ranked_together(workspace: Path) -> None:
    runs = [
        result("a", val_loss=3.0, bits_per_byte=1.4, text="t", vocabulary="v1"),
        result("b", val_loss=3.1, bits_per_byte=1.5, text="t", vocabulary="v1"),
        result("c", val_loss=1.0, bits_per_byte=1.3, text="t", vocabulary="v2"),
    ]
    bests = {(best.column, best.name, best.runs) for best in best_of(runs)}
    assert bests == {("val_loss", "a", 2), ("bits_per_byte", "c", 3)}
    assert "Bits per byte compares them all" in caution(runs)


def test_runs_on_different_texts_are_not_ranked_at_all(workspace: Path) -> None:
    runs = [
        result("a", val_loss=3.0, bits_per_byte=1.4, text="t1", vocabulary="v"),
        result("b", val_loss=2.0, bits_per_byte=1.0, text="t2", vocabulary="v"),
    ]
    assert best_of(runs) == []
    assert "2 different texts" in caution(runs)


def test_a_column_orders_best_first_and_what_has_no_value_last() -> None:
    runs = [result("a", val_loss=3.0, tokens=1), result("b"), result("c", val_loss=2.0, tokens=9)]
    columns = {column.title: column for column in COLUMNS}
    by_loss = ordered(runs, columns["val loss"], worst_first=False)
    by_tokens = ordered(runs, columns["tokens"], worst_first=False)
    worst = ordered(runs, columns["val loss"], worst_first=True)
    assert [r.name for r in by_loss] == ["c", "a", "b"]
    assert [r.name for r in by_tokens] == ["c", "a", "b"]
    assert [r.name for r in worst] == ["a", "c", "b"]


@pytest.mark.parametrize("width", [10, 40, 72, 112, 200])
def test_the_table_fits_whatever_the_width_and_keeps_the_name(width: int) -> None:
    shown = fitting(COLUMNS, width)
    assert shown[0].title == "run"
    taken = sum(column.width + 2 for column in shown) - 2
    assert taken <= max(width, COLUMNS[0].width)


def test_everything_is_written_out_as_csv_and_json(workspace: Path) -> None:
    write_run("run_a", [4.0, 3.0])
    write_run("run_\udcff", [2.0])  # a file name that was never text
    found = Reader().results(Path("checkpoints"))
    table, data = export(found, Path("benchmark_results"), "now")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["val_loss"] for row in rows} == {"3.0", "2.0"}
    [whole] = [row for row in json.loads(data.read_bytes()) if row["name"] == "run_a"]
    assert whole["curve"][1] == {"step": 2, "loss": 3.0, "bits": 1.5}
