"""What is advised where an earlier stage has not been done, and the vocabulary that fits a text."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline import missing
from pipeline.options.config import Config
from pipeline.vocabulary import LARGEST, fitting_size, text_bytes_of
from tests.support.stage_runner import run_stage


@pytest.mark.parametrize(
    ("text_bytes", "ids"),
    [(0, 512), (453_500 // 2, 512), (464_000, 1024), (2_000_000, 4096), (9_000_000, LARGEST)],
)
def test_a_vocabulary_is_as_large_as_its_text_feeds(text_bytes: int, ids: int) -> None:
    assert fitting_size(text_bytes) == ids


def _done(*commands: str) -> list[tuple[str, ...]]:
    """What is advised for a first model once the stages of `commands` have been done."""
    Path("poems").mkdir(exist_ok=True)
    Path("poems/a.txt").write_text("Word after word goes on and on. " * 200)
    given: dict[str, dict[str, object]] = {
        "cleanup": {"input": ["poems"]},
        "tokenize": {"train": "bpe", "vocab_size": 300, "source": "poems"},
        "prepare": {"source": "poems", "window": 16},
    }
    for command in commands:
        run_stage(command, **{command: given[command]})
    return missing.model(Config())


@pytest.mark.parametrize(
    ("done", "advised"),
    [
        ((), [("quickstart",)]),
        (
            ("cleanup",),
            [
                ("tokenize", "--train", "bpe", "--source", "poems", "--vocab-size", "512"),
                ("prepare", "--source", "poems"),
                ("train", "--source", "poems"),
            ],
        ),
        (
            ("cleanup", "tokenize"),
            [("prepare", "--source", "poems"), ("train", "--source", "poems")],
        ),
        (("cleanup", "tokenize", "prepare"), [("train", "--source", "poems")]),
    ],
)
def test_a_first_model_is_led_to_from_the_first_step_that_is_not_done(
    workspace: Path, done: Sequence[str], advised: list[tuple[str, ...]]
) -> None:
    assert _done(*done) == advised


def test_the_size_of_a_text_is_that_of_its_clean_documents(workspace: Path) -> None:
    assert text_bytes_of(Config(), "poems") is None
    _done("cleanup")
    assert text_bytes_of(Config(), "poems") == len(
        ("Word after word goes on and on. " * 200).strip()
    )
