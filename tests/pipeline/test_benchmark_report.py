"""What a report says in words: tables, who is better, what cannot be told apart."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.benchmark.report import format_benchmark_results, names_of, tables
from pipeline.benchmark.results import ranking
from pipeline.runs.judged import Reader
from tests.support.benchmarks import RUN, report, write

FEW, SOME, MOST = [1.0] * 20 + [0.0] * 80, [1.0] * 24 + [0.0] * 76, [1.0] * 90 + [0.0] * 10
GRAMMAR, TEXT = "embedded_grammar", "embedded_python_text"


def test_the_first_of_a_task_is_starred_only_where_it_beats_every_other() -> None:
    made = report(
        {"step 10": {GRAMMAR: FEW}, "step 20": {GRAMMAR: SOME}, "step 30": {GRAMMAR: MOST}}
    )
    [table] = tables(made)
    assert [(score.name, score.best) for score in table.scores] == [
        ("first step 30", True), ("first step 20", False), ("first step 10", False),
    ]  # fmt: skip
    [sentence] = table.verdict
    assert sentence.startswith("first step 30 is better than all others; than the next, first step")
    assert "by 66.0 points (" in sentence
    assert "p < 0.001" in sentence


def test_what_cannot_be_told_apart_is_said_with_what_could_be() -> None:
    made = report({"step 10": {GRAMMAR: FEW}, "step 20": {GRAMMAR: SOME}})
    [table] = tables(made)
    assert not any(score.best for score in table.scores)
    [sentence] = table.verdict
    smallest = made["comparisons"][0]["smallest"]
    assert sentence == (
        "No significant difference between first step 20 and first step 10: 100 items can show "
        f"differences from about {100 * smallest:.1f} points."
    )


def test_one_that_beats_only_some_has_no_star() -> None:
    made = report(
        {"step 10": {GRAMMAR: FEW}, "step 20": {GRAMMAR: MOST[::-1]}, "step 30": {GRAMMAR: MOST}}
    )
    [table] = tables(made)
    assert not any(score.best for score in table.scores)
    assert [sentence.split(":")[0] for sentence in table.verdict] == [
        "No significant difference between first step 20 and first step 30",
        "first step 20 is better than first step 10.",
    ]


def test_of_bits_and_perplexities_the_least_is_first() -> None:
    made = report(
        {"step 10": {TEXT: [-200.0, -210.0] * 20}, "step 20": {TEXT: [-100.0, -105.0] * 20}}
    )
    [table] = tables(made)
    assert [score.name for score in table.scores] == ["first step 20", "first step 10"]
    assert table.scores[0].value == pytest.approx(102.5 / 100 / 0.6931471805599453)
    assert "less is better" in table.asked


def test_a_checkpoint_without_a_score_is_named_with_its_reason() -> None:
    made = report({"step 10": {GRAMMAR: FEW}, "step 20": {GRAMMAR: SOME}})
    name = next(iter(made["results"]))
    made["results"][name] = {GRAMMAR: {"error": "it computes nan"}}
    made["comparisons"], made["ranking"] = [], []
    text = format_benchmark_results(made)
    assert "✕ first step 10: no score: it computes nan" in text
    assert "first step 20" in text
    assert "No significant" not in text
    made["results"] = {name: made["results"][name]}
    assert "no score" in format_benchmark_results(made)


def test_names_are_short_unless_two_would_be_alike() -> None:
    made = report({"step 10": {GRAMMAR: FEW}})
    assert list(names_of(made).values()) == ["first step 10"]
    twin = copy.deepcopy(made["results"])
    other = "run_2026_11_22_11_20_first step 10"
    made["results"][other] = next(iter(twin.values()))
    made["checkpoints"][other] = {"run": "run_2026_11_22_11_20_first", "name": "step 10"}
    assert list(names_of(made).values()) == list(made["results"])


@pytest.mark.parametrize("width", [40, 78, 118])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = "run_2026_11_21_11_20_" + "a-very-long-name-of-a-run" * 3
    made = report({"step 10": {"arc_easy": FEW}, "step 20": {"arc_easy": MOST}}, run=long)
    made["ranking"] = []
    lines = format_benchmark_results(made, width).splitlines()
    rows = [line for line in lines if re.search(r"step [12]0 +\d+\.\d %", line)]
    assert len(rows) == 2
    assert max(map(len, rows)) <= width
    told = [line for line in lines if "runa-very" not in line]  # a name is not divided
    assert max(map(len, told)) <= width


def test_a_file_holds_all_that_a_narrow_terminal_leaves_out() -> None:
    made = report({"step 10": {"arc_easy": FEW}, "step 20": {"arc_easy": MOST}}, of=100)
    whole, narrow = format_benchmark_results(made), format_benchmark_results(made, 60)
    for words in ("bits/byte of answer", "recipe: with BOS", "data 0123456789abcdef", "Every comp"):
        assert words in whole
        assert words not in narrow
    assert "all 100 items · real sets" in narrow


def test_the_ranking_has_intervals_and_a_star_only_for_a_lead() -> None:
    tasks = ("arc_easy", "piqa")
    made = report({
        "step 10": dict.fromkeys(tasks, FEW),
        "step 20": dict.fromkeys(tasks, MOST),
        "step 30": dict.fromkeys(tasks, MOST[::-1]),
    })  # fmt: skip
    rows = made["ranking"]
    assert [row["best"] for row in rows] == [False] * 3
    for row in rows:
        low, high = row["interval"]
        assert low < row["centred_mean"] < high
    told = " ".join(format_benchmark_results(made, 60).split())
    assert "No significant difference between the first and the others over 2 tasks." in told
    made = report({"step 10": dict.fromkeys(tasks, FEW), "step 20": dict.fromkeys(tasks, MOST)})
    assert [row["best"] for row in made["ranking"]] == [True, False]
    mean = (0.9 - 0.25) / 0.75 / 2 + (0.9 - 0.5) / 0.5 / 2
    assert made["ranking"][0]["centred_mean"] == pytest.approx(mean)
    text = format_benchmark_results(made, 80)
    assert "★ first step 20" in text
    assert f"{100 * mean:.1f}" in text


@pytest.mark.slow
@pytest.mark.parametrize("items", [50, 100])
def test_the_interval_of_a_ranking_holds_the_truth_and_equal_models_rarely_lead(items: int) -> None:
    """400 pairs of models that are equally good at three tasks and share half of their luck."""
    rng = np.random.default_rng(items)
    chances = {"arc_easy": 0.25, "piqa": 0.5, "lambada_openai": 0.0}
    held = leads = 0
    for _ in range(400):
        centred = {task: rng.uniform(0.05, 0.7) for task in chances}
        answers: dict[str, dict[str, Any]] = {"step 1": {}, "step 2": {}}
        for task, chance in chances.items():
            luck = rng.uniform(size=(2, items))
            luck[1] = np.where(rng.uniform(size=items) < 0.5, luck[0], luck[1])
            right = luck < chance + centred[task] * (1 - chance)
            for of_model, values in zip(answers.values(), right, strict=True):
                of_model[task] = [*values.astype(float)]
        rows = report(answers)["ranking"]
        truth = sum(centred.values()) / 3
        held += sum(row["interval"][0] <= truth <= row["interval"][1] for row in rows)
        leads += rows[0]["best"]
    assert 0.93 <= held / 800 <= 0.97
    assert 0.02 <= leads / 400 <= 0.07


def test_of_what_was_not_compared_nothing_is_claimed() -> None:
    """Of the many steps of a run each is compared with the last alone."""
    answers = {"step 10": MOST, "step 20": FEW, "step 30": SOME}
    made = report({name: {GRAMMAR: values} for name, values in answers.items()})
    last = f"{RUN} step 30"
    made["comparisons"] = [
        row for row in made["comparisons"] if last in (row["first"], row["second"])
    ]
    made["ranking"] = ranking(made["results"], made["comparisons"])
    [table] = tables(made)
    assert not any(score.best for score in table.scores)
    assert not table.tied
    [sentence] = table.verdict
    assert sentence.startswith("first step 10 is better than first step 30 by 66.0 points")
    assert made["ranking"][0]["best"] is None
    told = format_benchmark_results(made, 80)
    assert "No significant" not in told
    assert "★" not in told


def test_the_parts_of_a_task_stand_in_the_file(workspace: Path) -> None:
    made = report({"step 10": {"blimp": [1.0, 0.0] * 20}, "step 20": {"blimp": [0.0, 1.0] * 20}})
    [line] = [line for line in format_benchmark_results(made).splitlines() if "island" in line]
    assert line.startswith(
        "  island effects, 20 items: first step 10 100.0 % (83.9 to 100.0), first"
    )
    assert "island" not in format_benchmark_results(made, 80)
    for by_task in made["results"].values():
        by_task["blimp"]["groups"]["island_effects"]["interval"] = [None, None]
    [line] = [line for line in format_benchmark_results(made).splitlines() if "island" in line]
    assert line.startswith("  island effects, 20 items: first step 10 100.0 %, first")
    path = write(made)
    [table] = tables(Reader().reports(path.parent).reports[0].data)
    assert len(table.parts) == 2
