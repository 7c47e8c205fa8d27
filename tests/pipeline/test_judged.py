"""Benchmarks as they lie on the disk: newest first, damaged ones counted, steps put together."""

import json
from pathlib import Path

import pytest

from pipeline.runs.judged import Reader, history
from pipeline.runs.results import BENCHMARKS
from tests.support.benchmarks import RUN, report, write

GRAMMAR, TEXT = "embedded_grammar", "embedded_python_text"
FEW, MOST = [1.0] * 2 + [0.0] * 8, [1.0] * 8 + [0.0] * 2


def test_the_newest_comes_first_and_single_items_are_left_on_the_disk(workspace: Path) -> None:
    old, new = report({"step 10": {GRAMMAR: FEW}}), report({"step 20": {GRAMMAR: MOST}})
    new["made_by"]["time"] = "2026-11-21T12:58:00Z"
    write(new, "a")
    write(old, "b")
    found = Reader().reports(BENCHMARKS)
    assert [list(one.results) for one in found.reports] == [[f"{RUN} step 20"], [f"{RUN} step 10"]]
    assert "items" not in found.reports[0].results[f"{RUN} step 20"][GRAMMAR]
    assert found.reports[0].best_accuracy == (0.8, 1)
    assert found.reports[0].runs == {RUN}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"main": "acc"', '"main": "bleu"'),
        lambda text: text.replace('"results"', '"scores"'),
        lambda text: text.replace('"metrics"', '"metric"'),
        lambda text: text.replace('"of"', '"from"'),
        lambda text: text.replace('"groups": {}', '"groups": {"a": {"acc": 0.5, "n": 3}}'),
        lambda text: text.replace(
            '"groups": {}', '"groups": {"a": {"acc": "x", "n": 3, "interval": [0, 1]}}'
        ),
        lambda text: '{"results": {}}',
        lambda text: "[]",
        lambda text: "\udcff",
    ],
)
def test_a_damaged_file_is_counted_and_hides_no_other(workspace: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = write(report({"step 10": {GRAMMAR: FEW}, "step 20": {GRAMMAR: MOST}}), "good")
    damaged = damage(path.read_text())
    path.with_name("benchmark_bad.json").write_bytes(damaged.encode(errors="surrogateescape"))
    found = Reader().reports(BENCHMARKS)
    assert [one.path for one in found.reports] == [path]
    assert found.unreadable == 1


def test_a_file_that_was_deleted_or_made_anew_is_seen(workspace: Path) -> None:
    reader, path = Reader(), write(report({"step 10": {GRAMMAR: FEW}}))
    assert reader.reports(BENCHMARKS).reports[0].best_accuracy == (0.2, 1)
    path.write_text(json.dumps(report({"step 10": {GRAMMAR: MOST}}), indent=1))
    assert reader.reports(BENCHMARKS).reports[0].best_accuracy == (0.8, 1)
    path.unlink()
    assert reader.reports(BENCHMARKS) == ((), 0)


def test_the_steps_of_a_run_come_from_all_benchmarks_that_asked_the_same(workspace: Path) -> None:
    write(report({"step 30": {GRAMMAR: MOST}, "step 10": {GRAMMAR: FEW}}), "a")
    write(report({"step 20": {GRAMMAR: FEW, TEXT: [-200.0, -190.0]}}), "b")
    write(report({"step 40": {GRAMMAR: [*FEW, 1.0]}}), "more_items")
    write(report({"step 50": {GRAMMAR: FEW}}, run="run_2026_11_22_11_20_other"), "other_run")
    found = Reader().reports(BENCHMARKS).reports
    shown = next(one for one in found if "_a.json" in one.path.name)
    [points] = history(found, shown, GRAMMAR).values()
    assert [(point.step, point.value) for point in points] == [(10, 0.2), (20, 0.2), (30, 0.8)]
    assert points[0].low is not None
    assert points[0].low < 0.2
    assert history(found, shown, TEXT) == {}
