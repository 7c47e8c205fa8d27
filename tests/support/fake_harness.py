"""A stand-in for lm-evaluation-harness with three small tasks, one of each kind of request.

It keeps to the parts of its interface (0.4.13) that the bridge uses, and to its formulas.
"""

import hashlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CHOICES = [
    ("Ice is", (" cold", " hot", " cold"), 0),
    ("Fire is", (" cold", " hot"), 1),
    ("", (" It rains.", " It rain."), 0),
]
DOCUMENTS = ["The hen lays an egg.\n" * 9, "An old fox looks at it."]
PROMPTS = ["Once upon a time", "The end"]
UNTIL = ["e", "\n"]


class LM:
    """`lm_eval.api.model.LM`."""


class TaskManager:
    """`lm_eval.tasks.TaskManager`: `include_path` are folders of further tasks."""

    def __init__(self, include_path: Sequence[str] | None = None) -> None:
        self.all_tasks = ["choices", "documents", "stories"]
        self.all_tasks += [path.rpartition("/")[2] for path in include_path or ()]


def _ask(method: Callable[[list[Any]], list[Any]], *arguments: tuple[Any, ...]) -> list[Any]:
    return method([SimpleNamespace(args=one) for one in arguments])


def _choices(model: Any, most: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    samples = []
    for context, answers, gold in CHOICES[:most]:
        found = _ask(model.loglikelihood, *((context, answer) for answer in answers))
        sums = [total for total, _ in found]
        samples.append({"acc": float(sums.index(max(sums)) == gold), "resps": found})
    mean = sum(sample["acc"] for sample in samples) / len(samples)
    return {"acc,none": mean, "acc_stderr,none": "N/A"}, samples


def _documents(model: Any, most: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    texts = DOCUMENTS[:most]
    sums = _ask(model.loglikelihood_rolling, *((text,) for text in texts))
    words = [len(re.split(r"\s+", text)) for text in texts]
    samples = [
        {"word_perplexity": pair, "bits_per_byte": (pair[0], len(text.encode()))}
        for text, pair in zip(texts, zip(sums, words, strict=True), strict=True)
    ]
    size = sum(len(text.encode()) for text in texts)
    return {
        "word_perplexity,none": math.exp(-sum(sums) / sum(words)),
        "bits_per_byte,none": -sum(sums) / size / math.log(2),
    }, samples


def _stories(model: Any, most: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    settings = {"until": UNTIL, "max_gen_toks": 12, "do_sample": False}
    texts = _ask(model.generate_until, *((prompt, settings) for prompt in PROMPTS[:most]))
    samples = [{"median_length": len(text), "resps": [[text]]} for text in texts]
    return {"median_length,none": -7.25}, samples  # no mean of what the samples hold


def simple_evaluate(
    model: Any, tasks: Sequence[str], limit: int | None, task_manager: TaskManager, **_: Any
) -> dict[str, Any]:
    """`lm_eval.simple_evaluate`, as far as it is asked."""
    kinds = {"choices": _choices, "documents": _documents, "stories": _stories}
    if "broken" in tasks:
        raise FileNotFoundError("no such data set")
    found = {name: kinds[name](model, limit) for name in tasks}
    for _values, samples in found.values():
        for number, sample in enumerate(samples):
            content = hashlib.sha256(str(number).encode()).hexdigest()
            sample |= {"doc_id": number, "doc_hash": content, "filter": "none"}
    return {
        "results": {name: {"alias": name} | values for name, (values, _) in found.items()},
        "samples": {name: samples for name, (_, samples) in found.items()},
        "versions": dict.fromkeys(tasks, 1.0),
        "n-shot": dict.fromkeys(tasks, 0),
        "n-samples": {name: {"original": 3 if name == "choices" else 2} for name in tasks},
        "higher_is_better": {"choices": {"acc": True}, "documents": {"word_perplexity": False}},
    }


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it imported as lm_eval."""
    parts: dict[str, dict[str, Any]] = {
        "lm_eval": {"simple_evaluate": simple_evaluate, "__version__": "0.4.99"},
        "lm_eval.api": {},
        "lm_eval.api.model": {"LM": LM},
        "lm_eval.tasks": {"TaskManager": TaskManager},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
