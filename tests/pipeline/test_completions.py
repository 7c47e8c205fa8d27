"""Completions of prompts: what is written, and BLEU and ROUGE as the reference programs have it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from model.language_model import greedy
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.completions import CompletionTask, words
from pipeline.evaluation.tasks.task import Item, RowError
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, counting_model, lively_model, save_step
from utils.errors import HatcheryError, RefusedError

TASK = TASKS["completions"]
PAIRS = [
    ("The small hen lays an egg.", "The small hen lays one egg a day."),
    ("A fox ran.", "An old fox looked at it, and then it ran away."),
    ("", "Nothing was written here."),
    ("the the the the the the", "The end of the day."),
    ("An old fox looks at it, and runs.", "An old fox looks at it, and runs."),
]


def item(reference: str) -> Item:
    return TASK.item({"prompt": "Once", "reference": reference})


def compared(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    assert isinstance(TASK, CompletionTask)
    return [dict(TASK.compared(item(reference), text)) for text, reference in pairs]


@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[:1], PAIRS[2:4], PAIRS[2:3], PAIRS[4:]])
def test_bleu_is_that_of_sacrebleu_over_the_whole_set(pairs: list[tuple[str, str]]) -> None:
    [metric] = TASK.corpus_metrics
    own = metric.of(compared(pairs))
    texts, references = [text for text, _ in pairs], [reference for _, reference in pairs]
    assert own == BLEU().corpus_score(texts, [references]).score


def test_rouge_is_that_of_rouge_score() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for (text, reference), found in zip(PAIRS, compared(PAIRS), strict=True):
        theirs = scorer.score(reference, text)
        for ours, name in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
            assert found[ours] == (theirs[name].fmeasure, 1.0)


LATIN = [
    ("Zażółć gęślą jaźń, 5 \N{MICRO SIGN}m!", "zażółć tę jaźń: 5 \N{MICRO SIGN}m"),
    ("1\N{MASCULINE ORDINAL INDICATOR} façade", "the façade"),
    (
        "Cafe\N{COMBINING ACUTE ACCENT} \N{FULLWIDTH LATIN CAPITAL LETTER A}",
        "Das Café… \N{EM DASH}",
    ),
]


@pytest.mark.parametrize(("text", "reference"), LATIN)
def test_rouge_of_latin_letters_with_marks_is_that_of_rouge_score(
    text: str, reference: str
) -> None:
    theirs = RougeScorer(["rouge1"]).score(reference, text)["rouge1"]
    assert compared([(text, reference)])[0]["rouge_1"] == (theirs.fmeasure, 1.0)


@pytest.mark.parametrize(
    ("text", "reference", "one", "two"),
    [
        ("Кошка спит.", "кошка спит", 1, 1),
        ("Кошка ест", "Кошка спит", 1 / 2, 0),
        ("η γάτα κοιμάται", "Η γάτα τρώει", 2 / 3, 1 / 2),
        ("بيت كبير", "بيت صغير", 1 / 2, 0),
        ("हिन्दी भाषा", "हिन्दी", 2 / 3, 0),
        ("猫吃鱼", "猫吃肉", 2 / 3, 1 / 2),
        ("ネコです", "ネコだ。", 4 / 7, 2 / 5),
        ("กินข้าว", "กินข้าว", 1, 1),
        ("кошка 12 cats", "кошка 12 cats", 1, 1),
        ("cats", "кошка", 0, 0),
        ("", "кошка", 0, 0),
    ],
)
def test_rouge_counts_the_words_of_any_script(
    text: str, reference: str, one: float, two: float
) -> None:
    [found] = compared([(text, reference)])
    assert found["rouge_1"] == (pytest.approx(one), 1.0)
    assert found["rouge_2"] == (pytest.approx(two), 1.0)


def test_the_words_of_a_script_without_blanks_are_its_letters_with_their_marks() -> None:
    assert words("猫Cat2、ネ") == ["猫", "cat2", "ネ"]
    assert words("\N{THAI CHARACTER NO NU}\N{THAI CHARACTER SARA II}ก") == [
        "\N{THAI CHARACTER NO NU}\N{THAI CHARACTER SARA II}",
        "ก",
    ]
    assert words("\N{COMBINING ACUTE ACCENT}x") == ["x"]


def test_the_recipe_says_how_they_are_taken_and_nobody_warns(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    compared(PAIRS)
    recipe = TASK.recipe
    assert (caplog.records, *capfd.readouterr()) == ([], "", "")
    assert "eff:no" in recipe["bleu"]
    assert "nrefs:1" in recipe["bleu"]
    assert "smooth:exp" in recipe["bleu"]
    assert "without stemming" in recipe["rouge"]
    assert "not in Latin letters" in recipe["rouge"]


def test_an_interval_of_bleu_holds_it_and_shrinks_with_more_items() -> None:
    [metric] = TASK.corpus_metrics
    found = compared(PAIRS)
    few, many = metric.interval(found), metric.interval(found * 20)
    for interval in (few, many):
        assert interval.low < metric.of(found) < interval.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert metric.interval(found) == few


@pytest.mark.parametrize("pairs", [[], PAIRS[:1], PAIRS[2:3] * 9, [*PAIRS[2:3] * 9, PAIRS[0]]])
def test_where_nothing_tells_how_sure_bleu_is_its_interval_is_all_there_is(
    pairs: list[tuple[str, str]],
) -> None:
    [metric] = TASK.corpus_metrics
    assert metric.interval(compared(pairs)) == (0.0, 100.0)


@pytest.mark.parametrize(
    "row",
    [{"prompt": "Once"}, {"reference": "x"}, {"prompt": "", "reference": "x"}, {"prompt": 1}],
)
def test_a_row_without_prompt_and_reference_is_none(row: dict[str, Any]) -> None:
    with pytest.raises(RowError):
        TASK.item(row)


# What is written.


def test_greedy_text_is_the_likeliest_token_each_time_whoever_stands_beside(
    workspace: Path,
) -> None:
    model, tokenizer = lively_model(), byte_tokenizer()
    prompts = [(tokenizer.encode("ab" * n), n) for n in range(1, 20)]
    found = {n: (ids, total) for n, ids, total in greedy(model, prompts, ends=frozenset(),
                                                          vocabulary=256)}  # fmt: skip
    assert sorted(found) == list(range(19))
    for number, (ids, limit) in enumerate(prompts):
        ids, total = list(ids), 0.0
        for _ in range(limit):
            with torch.inference_mode():
                logits = model.logits(model.hidden(torch.tensor([ids])))[0, -1].double()
            ids.append(int(logits[:256].argmax()))
            total += float(logits.log_softmax(-1)[ids[-1]])
        assert found[number][0] == ids[-limit:]
        assert len(found[number][0]) == limit


def test_writing_ends_before_an_end_and_at_the_length_of_the_reference(workspace: Path) -> None:
    tokenizer = byte_tokenizer()
    save_step(Path("checkpoints/a"), 1, counting_model(), tokenizer)
    Path("completions.jsonl").write_text(
        json.dumps({"prompt": "count: 0", "reference": "123456"}) + "\n"
    )
    result = judged(data=[Path("completions.jsonl")])
    [written] = result["completions"]
    assert written == {"prompt": "count: 0", "reference": "123456", "written": "1234567"}
    [five] = tokenizer.encode("5")
    [(_, ids, _)] = greedy(
        counting_model(), [(tokenizer.encode("0"), 9)], ends=frozenset([five]), vocabulary=256
    )
    assert tokenizer.decode(ids) == "1234"


def judged(**options: Any) -> dict[str, Any]:
    chosen = {"checkpoint": ["a"], "samples": "all"} | options
    end = finished(run_stage("benchmark", benchmark=chosen))
    [result] = json.loads(Path(end.path or "").read_text())["results"]["a"].values()
    found: dict[str, Any] = result
    return found


def test_completions_have_scores_recipe_and_interval(workspace: Path) -> None:
    save_step(Path("checkpoints/a"), 1, lively_model(), byte_tokenizer())
    rows = [{"prompt": f"Prompt {n}", "reference": "the small hen lays"} for n in range(4)]
    Path("completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = judged(data=[Path("completions.jsonl")])
    assert result["n"] == 4
    assert result["main"] == "rouge_l"
    assert [*result["metrics"]] == ["rouge_l", "rouge_1", "rouge_2", "bleu"]
    assert result["intervals"]["bleu"][0] <= result["metrics"]["bleu"]
    assert "tok:13a" in result["recipe"]["bleu"]
    assert result["recipe"]["metrics"]["bleu"] == "BLEU of the whole set"
    assert len(result["completions"]) == 4
    again = judged(data=[Path("completions.jsonl")])  # from what was kept, written texts too
    assert again == result
    assert "ROUGE-L" in sorted(Path("benchmark_results").glob("*.txt"))[-1].read_text()


def test_a_model_that_computes_nan_writes_nothing_that_is_scored(workspace: Path) -> None:
    model = lively_model()
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    save_step(Path("checkpoints/a"), 1, model, byte_tokenizer())
    Path("completions.jsonl").write_text(json.dumps({"prompt": "Once", "reference": "a time"}))
    with pytest.raises(HatcheryError, match="computes nan"):
        judged(data=[Path("completions.jsonl")])


def test_a_prompt_and_reference_longer_than_the_context_are_cut_and_left_out(
    workspace: Path,
) -> None:
    save_step(Path("checkpoints/a"), 1, lively_model(), byte_tokenizer())
    rows = [
        {"prompt": "x" * 200, "reference": "y" * 10},
        {"prompt": "x", "reference": "y" * 200},
        {"prompt": "x", "reference": "y" * 62},
    ]
    Path("completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = judged(data=[Path("completions.jsonl")])
    assert (result["n"], result["cut"], sum(result["left_out"].values())) == (2, 1, 1)
    Path("completions.jsonl").write_text('{"text": "no prompt"}\n')
    with pytest.raises(RefusedError, match="does not hold the items of completions"):
        judged(data=[Path("completions.jsonl")])
