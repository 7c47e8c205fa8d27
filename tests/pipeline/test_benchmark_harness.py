"""Tasks of lm-evaluation-harness on our engine: it gets the model's likelihoods and texts, and what
it makes of them stands in the report."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.gpt import GPT
from pipeline.events import Event
from tests.support import fake_harness
from tests.support.fake_harness import CHOICES, DOCUMENTS, PROMPTS, UNTIL
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from utils.errors import HatcheryError, UsageError

BOS = 256


@pytest.fixture
def model(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> GPT:
    """That of the checkpoint `a`, with the harness installed."""
    fake_harness.install(monkeypatch)
    return saved("a", 0)


def saved(name: str, seed: int) -> GPT:
    made = lively_model(seed, vocab_size=258)
    save_step(Path("checkpoints") / name, 1, made, byte_tokenizer())
    return made


def judge(*tasks: str, **options: Any) -> list[Event]:
    asked: dict[str, Any] = {"checkpoint": ["a"], "harness": [*tasks], "samples": "all"}
    return run_stage("benchmark", benchmark=asked | options)


def results(events: list[Event], checkpoint: str = "a") -> dict[str, Any]:
    report = json.loads(Path(finished(events).path or "").read_text())
    found: dict[str, Any] = report["results"][checkpoint]
    return found


def logprobs(model: GPT, ids: list[int]) -> list[float]:
    """Of every id but the first, read alone."""
    with torch.inference_mode():
        rows = model.logits(model.hidden(torch.tensor([ids[:-1]])))[0].double().log_softmax(-1)
    return [float(row[wanted]) for row, wanted in zip(rows, ids[1:], strict=True)]


def test_a_choice_is_scored_by_the_likelihoods_of_our_engine(model: GPT) -> None:
    result = results(judge("choices"))["harness:choices"]
    right = []
    for context, answers, gold in CHOICES:
        sums = []
        for answer in answers:
            ids = [BOS, *byte_tokenizer().encode(context + answer)]
            sums.append(sum(logprobs(model, ids)[-len(answer) :]))
        right.append(float(sums.index(max(sums)) == gold))
    assert [item["acc"] for item in result["items"].values()] == [[one, 1.0] for one in right]
    assert result["metrics"] == {"acc": pytest.approx(sum(right) / 3)}
    assert result["interval"][0] <= result["metrics"]["acc"] <= result["interval"][1]


def test_a_document_is_read_in_windows_behind_one_bos(model: GPT) -> None:
    result = results(judge("documents"))["harness:documents"]
    total = 0.0
    for text in DOCUMENTS:
        ids = [BOS, *byte_tokenizer().encode(text)]
        for begin in range(0, len(ids) - 1, 64):
            end = min(begin + 64, len(ids) - 1)
            first = max(0, end - 64) if begin else 0
            total += sum(logprobs(model, ids[first : end + 1])[begin - end :])
    size = sum(len(text) for text in DOCUMENTS)
    found = [item["bits_per_byte"] for item in result["items"].values()]
    assert sum(one[0] for one in found) == pytest.approx(total, rel=1e-6)
    assert sum(one[1] for one in found) == size
    assert result["lower"] is True
    assert result["main"] == "word_perplexity"


def test_a_text_is_written_until_its_end(model: GPT) -> None:
    judge("stories")
    [log] = [
        folder for folder in Path("benchmark_results/items").iterdir()
        if "generate_until" in (folder / "recipe.json").read_text()
    ]  # fmt: skip
    lines = [json.loads(line) for line in (log / "scores.jsonl").read_text().splitlines()]
    expected = []
    for prompt in PROMPTS:
        ids, text = [BOS, *byte_tokenizer().encode(prompt)], ""
        for _ in range(12):
            with torch.inference_mode():
                ids.append(int(model.logits(model.hidden(torch.tensor([ids])))[0, -1].argmax()))
            if ids[-1] == 257:
                break
        text = byte_tokenizer().decode(ids[1 + len(prompt) :])
        cut = min((at for at in map(text.find, UNTIL) if at >= 0), default=len(text))
        expected.append(text[:cut])
    assert sorted(line.get("text", "") for line in lines) == sorted(expected)


def test_a_number_that_items_do_not_add_up_to_stands_without_an_interval(model: GPT) -> None:
    result = results(judge("stories"))["harness:stories"]
    assert result["metrics"] == {"median_length": -7.25}
    assert (result["interval"], result["items"]) == ([None, None], {})


def test_the_recipe_names_the_harness_and_a_sample_is_told_from_the_whole(model: GPT) -> None:
    found = results(judge("choices,documents", samples=1))
    recipe = found["harness:choices"]["recipe"]
    assert recipe["harness"] == "0.4.99"
    assert (recipe["items"], recipe["of"], recipe["bos"]) == (1, 3, True)
    assert recipe["task"] == "harness:choices"
    assert {result["origin"] for result in found.values()} == {"harness"}


def test_checkpoints_are_compared_item_by_item(model: GPT) -> None:
    saved("b", 1)
    found = finished(judge("documents", checkpoint=["a", "b"])).summary
    [row] = found["comparisons"]
    assert (row["task"], row["metric"], row["n"]) == ("harness:documents", "word_perplexity", 2)
    text = next(Path("benchmark_results").glob("*.txt")).read_text()
    assert "documents (lm-evaluation-harness)" in text


def test_what_was_answered_is_not_asked_again(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    first = results(judge("choices", "documents", "stories"))

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(GPT, "hidden", read)
    again = results(judge("choices", "documents", "stories"))
    assert {name: r["items"] for name, r in again.items()} == {
        name: r["items"] for name, r in first.items()
    }


def test_own_tasks_stand_beside_those_of_the_harness(model: GPT) -> None:
    found = results(judge("choices", tasks=["embedded_grammar"], samples=2))
    assert list(found) == ["embedded_grammar", "harness:choices"]


def test_a_stop_leaves_no_half_of_a_task(model: GPT) -> None:
    events = run_stage(
        "benchmark",
        benchmark={"checkpoint": ["a"], "harness": ["choices"]},
        stop_when=lambda event: "loglikelihood" in getattr(event, "message", ""),
    )
    assert events[-1].stopped  # type: ignore[union-attr]
    assert not list(Path("benchmark_results").glob("*.json"))


def test_a_folder_of_task_files_is_given_with_data(model: GPT) -> None:
    Path("mine").mkdir()
    with pytest.raises(UsageError, match="no task mime") as error:
        judge("mime", data=[Path("mine")])
    assert "--harness mine" in error.value.remedy


def test_an_error_of_the_harness_is_told(model: GPT) -> None:
    Path("broken").mkdir()
    with pytest.raises(HatcheryError, match="lm-evaluation-harness ended") as error:
        judge("broken", data=[Path("broken")])
    assert "FileNotFoundError: no such data set" in error.value.found


def test_what_cannot_be_scored_is_refused(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_harness, "CHOICES", [("Ice is", (" c" * 99, " hot"), 0)])
    with pytest.raises(HatcheryError, match="asks what has no score") as error:
        judge("choices")
    assert "do not fit into 64" in error.value.found or "more tokens" in error.value.found


def test_without_the_package_it_says_what_to_install(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("a", 0)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match="needs the package lm-eval") as error:
        judge("choices")
    assert 'pip install -e ".[eval]"' in error.value.remedy
