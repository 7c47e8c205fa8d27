"""Scores are those of lm-evaluation-harness (0.4.13), but for its known faults.

The reference below computes as the harness does with its hf backend, one request at a time with
transformers: how it encodes a pair, where it cuts, how it windows a document.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.checkpoint import load_weights
from pipeline.evaluation.scoring import ItemScore, Judge
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Item
from pipeline.runs.text_bounds import text_bounds
from pipeline.tokenizer.load import tokenizer_of
from tests.support import models_of_others as others

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "llama3": others.llama3,
    "gpt2": others.gpt2,
    "qwen": others.qwen,
}
CONTEXT = 128
PAGE = " = Hens = \n \n A hen , ( Gallus ) , lays 1 @,@ 000 eggs . \n" + " She sits still . \n" * 20
ROWS: dict[str, list[dict[str, Any]]] = {
    "arc_easy": [
        {"query": "Question: What lays eggs?", "choices": ["hen", "a hen", "egg", "é"], "gold": 0},
        {"query": "Question: " + "why? " * 40, "choices": ["no", "yes"], "gold": 1},
    ],
    "piqa": [{"query": "To boil an egg", "choices": ["use ice ", "use water"], "gold": 1}],
    "hellaswag": [
        {
            "activity_label": "Baking",
            "ctx_a": "A man [header] holds  an egg.",
            "ctx_b": "he",
            "endings": ["breaks it.", "breaks it. [title] Then", "eats  it.", "flies."],
            "label": "2",
        }
    ],
    "winogrande": [
        {"context_options": ["The hen saw Ann", "The hen saw it"], "continuation": "was big.",
         "gold": 1}
    ],
    "lambada_openai": [{"context": "It was a red", "continuation": "hen"}],
    "blimp": [{"good": "She sings.", "bad": "She sing.", "phenomenon": "agreement"}],
    "wikitext": [{"page": PAGE}, {"page": " = Eggs = \n Short . \n"}],
}  # fmt: skip


class Harness:
    """The harness's hf backend: `lm_eval/models/huggingface.py` and `api/model.py`."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @property
    def prefix(self) -> int:
        bos: int | None = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    def loglikelihood(self, context: str, continuation: str) -> float:
        if not context:
            ids = self.tokenizer.encode(continuation, add_special_tokens=False)
            return self._sum([self.prefix], ids)
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        whole, alone = self.tokenizer.encode(context + continuation), self.encode(context)
        return self._sum(alone, whole[len(alone) :])

    def rolling(self, text: str, *, own_bos: bool) -> float:
        """Of a document; with `own_bos` the tokenizer's own BOS is scored behind the prefix."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=own_bos)
        total = self._sum([self.prefix], ids[:CONTEXT])
        for begin in range(CONTEXT, len(ids), CONTEXT):
            end = min(begin + CONTEXT, len(ids))
            first = max(0, end - CONTEXT - 1)
            total += self._sum(ids[first:begin], ids[begin:end])
        return total

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text))

    def _sum(self, context: Sequence[int], continuation: Sequence[int]) -> float:
        inputs = [*context, *continuation][-(CONTEXT + 1) :][:-1]
        with torch.inference_mode():
            rows = self.model(torch.tensor([inputs])).logits[0].float().log_softmax(-1)
        wanted = torch.tensor(continuation)
        return float(rows[-len(wanted) :].gather(1, wanted[:, None]).sum())


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FOLDERS[request.param](tmp_path_factory.mktemp(request.param))


def judge(folder: Path, **options: Any) -> Judge:
    tokenizer = tokenizer_of(folder, None, folder)
    model = load_weights(folder, torch.device("cpu"), torch.float32).eval()
    return Judge("a", model, tokenizer, text_bounds(folder, tokenizer).before, **options)


def scored(judge: Judge, task: str, items: Sequence[Item]) -> list[ItemScore]:
    found = sorted(judge.scores(TASKS[task], items, StopSignal()), key=lambda pair: pair[0])
    return [score for _, score in found]


@pytest.mark.parametrize("task", ROWS)
def test_every_score_is_that_of_the_harness(folder: Path, task: str) -> None:
    harness = Harness(folder)
    items = [TASKS[task].item(row) for row in ROWS[task]]
    for item, score in zip(items, scored(judge(folder), task, items), strict=True):
        if task == "wikitext":
            sums = [harness.rolling(item.requests[0][1], own_bos=False)]
        else:
            sums = [harness.loglikelihood(*request) for request in item.requests]
        for metric, expected in as_the_harness(task, item, sums).items():
            found = score.ratios[metric]
            assert found.numerator == pytest.approx(expected[0], rel=1e-5), metric
            assert found.denominator == expected[1], metric


def as_the_harness(task: str, item: Item, sums: list[float]) -> dict[str, tuple[float, float]]:
    """What an item adds to metrics: `lm_eval/api/task.py` and the tasks' own files."""
    if task == "wikitext":
        words, size = len(re.split(r"\s+", item.text)), len(item.text.encode())
        return {"word_perplexity": (sums[0], words), "byte_perplexity": (sums[0], size),
                "bits_per_byte": (sums[0], size)}  # fmt: skip
    if task == "lambada_openai":
        return {"perplexity": (sums[0], 1)}
    by_characters = [total / len(answer) for total, answer in zip(sums, item.answers, strict=True)]
    by_bytes = [
        total / len(answer.encode()) for total, answer in zip(sums, item.answers, strict=True)
    ]
    found = {"acc": sums, "acc_norm": by_characters, "acc_bytes": by_bytes}
    if task in ("blimp", "winogrande"):
        del found["acc_norm"], found["acc_bytes"]
    return {
        name: (float(values.index(max(values)) == item.gold), 1) for name, values in found.items()
    }


def test_a_tokenizer_that_adds_bos_by_itself_does_not_have_it_scored(tmp_path: Path) -> None:
    """The harness puts its prefix before it, and scores the tokenizer's own once a document."""
    folder = others.llama3(tmp_path / "a")
    harness, item = Harness(folder), TASKS["wikitext"].item({"page": PAGE})
    assert harness.encode("x")[0] == harness.prefix
    [score] = scored(judge(folder), "wikitext", [item])
    text, found = item.requests[0][1], score.ratios["token_perplexity"]
    assert found.numerator == pytest.approx(harness.rolling(text, own_bos=False), rel=1e-5)
    assert found.denominator == len(harness.encode(text)) - 1
    assert abs(harness.rolling(text, own_bos=True) - found.numerator) > 0.5


def test_the_name_of_a_special_token_in_a_document_is_text(folder: Path) -> None:
    """The harness reads such tokens out of the text, as <unk> in the form of WikiText-2 that is
    not raw: one token instead of a word."""
    judged, harness = judge(folder), Harness(folder)
    name = harness.tokenizer.eos_token
    text = f" = Hens = \n A {name} lays eggs . \n"
    ids = harness.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    [score] = scored(judged, "wikitext", [Item((("", text),), text=text)])
    found = score.ratios["token_perplexity"]
    assert harness.tokenizer.eos_token_id in harness.encode(text)
    assert harness.tokenizer.eos_token_id not in ids
    assert found.denominator == len(ids)
    expected = harness._sum([harness.prefix], ids)
    assert found.numerator == pytest.approx(expected, rel=1e-5)


def test_denominators_are_of_the_page_as_published(tmp_path: Path) -> None:
    """Of the raw page, and the empty texts at both of its ends count as words."""
    item = TASKS["wikitext"].item({"page": " a @-@ b . \n"})
    assert item.requests == (("", " a-b. \n".replace(" \n", "\n")),)
    [score] = scored(judge(others.gpt2(tmp_path / "a")), "wikitext", [item])
    assert score.ratios["word_perplexity"].denominator == len(["", "a", "@-@", "b", ".", ""])
    assert score.ratios["bits_per_byte"].denominator == len(" a @-@ b . \n")


@pytest.mark.parametrize("length", [1, 127, 128, 129, 300])
def test_every_token_of_a_document_is_scored_once_however_long_it_is(
    tmp_path: Path, length: int
) -> None:
    """Nothing is cut off and still divided by."""
    item = TASKS["wikitext"].item({"page": "x" * length})
    [score] = scored(judge(others.gpt2(tmp_path / "a")), "wikitext", [item])
    assert score.ratios["token_perplexity"].denominator == length
    assert score.ratios["byte_perplexity"].denominator == length


def test_a_window_of_ones_own_is_smaller_than_the_context_and_in_the_recipe(tmp_path: Path) -> None:
    folder = others.gpt2(tmp_path / "a")
    item = TASKS["wikitext"].item({"page": PAGE})
    wide, narrow = judge(folder), judge(folder, window=16)
    assert (wide.recipe["window"], narrow.recipe["window"]) == (CONTEXT, 16)
    tokens = [
        scored(one, "wikitext", [item])[0].ratios["token_perplexity"] for one in (wide, narrow)
    ]
    assert tokens[0].denominator == tokens[1].denominator
    assert tokens[0].numerator != tokens[1].numerator


def test_what_stands_before_a_context_changes_scores_and_the_recipe(tmp_path: Path) -> None:
    """So base and chat, or with and without BOS, are never taken for the same."""
    folder = others.llama3(tmp_path / "a")
    item = TASKS["lambada_openai"].item(ROWS["lambada_openai"][0])
    found = {}
    for bos in ("auto", "on", "off"):
        one = judge(folder, bos=bos)
        found[bos] = (
            one.recipe["bos"],
            scored(one, "lambada_openai", [item])[0].ratios["perplexity"],
        )
    assert found["auto"] == found["on"]
    assert found["off"][0] is False
    assert found["off"][1] != found["on"][1]


def test_words_bytes_and_tokens_are_metrics_of_their_own() -> None:
    """One name for two numbers is how the same model gets 8.79 and 5.47."""
    names = [metric.name for metric in TASKS["wikitext"].metrics]
    assert {"word_perplexity", "byte_perplexity", "token_perplexity", "bits_per_byte"} <= set(names)
    assert "perplexity" not in names


def test_a_model_that_says_nothing_is_no_better_than_chance(tmp_path: Path) -> None:
    """Where all is equally likely the first answer is not the right one: half a point each."""
    folder = others.gpt2(tmp_path / "a")
    one = judge(folder)
    with torch.no_grad():
        one.model.embedding.weight.zero_()
    items = [TASKS["blimp"].item({"good": "abc", "bad": "abd"})] * 2
    ratios = [score.ratios["acc"] for score in scored(one, "blimp", items)]
    assert [ratio.numerator for ratio in ratios] == [0.5, 0.5]
    assert math.isclose(TASKS["blimp"].chance or 0, 0.5)
