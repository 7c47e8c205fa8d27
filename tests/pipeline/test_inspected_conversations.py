"""A set of examples looked at: what a model learns of each is marked as it was encoded."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.conversations.example_set import open_examples
from pipeline.corpora import example_sets
from pipeline.inspection.conversations import InspectedSet
from pipeline.tokenizer.load import load_tokenizer
from tests.support.stage_runner import run_stage
from tests.support.tiny_checkpoints import byte_tokenizer
from utils.errors import HatcheryError, RefusedError

SETS, TOKENIZERS = Path("data/post-training"), Path("tokenizers")
ROWS: list[Any] = [
    {"conversations": ["What is a hen?", "A bird [b]\x1b[2J.", "And an ox?", "An animal."]},
    {"prompt": "Who lays eggs?", "completion": "A hen."},
    {"prompt": "Nothing", "completion": ""},
    {"prompt": "Who lays eggs?", "completion": "A hen."},
    *({"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(5)),
]


def lima(rows: list[Any], name: str) -> Path:
    """A set of `rows` in data/post-training."""
    if not (TOKENIZERS / "bytes").is_dir():
        byte_tokenizer().save(TOKENIZERS / "bytes")
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_stage("lima", lima={"input": [f"{name}.jsonl"], "tokenizer": "bytes"})
    return SETS / name


def test_learned_stretches_are_those_of_the_mask_and_spell_the_ids(workspace: Path) -> None:
    folder = lima(ROWS, "hens")
    found, examples = InspectedSet(folder, TOKENIZERS), open_examples(folder)
    for number in range(examples.metadata.kept):
        item = found.item(number)
        [(_, parts)] = item.examples
        learned = [part.learned for part in parts for _ in range(part.tokens)]
        assert learned == examples.learned(number).tolist()
        text = load_tokenizer("bytes", TOKENIZERS).decode(examples.ids(number).tolist())
        said = "".join(part.text for part in parts)
        assert said.replace("<s>", "").replace("</s>", "") == text
        assert item.held_out == (number in examples.metadata.held_out)
        assert found.line(number).tokens == item.tokens == len(learned)
    first = found.item(0)
    assert [part.learned for part in first.examples[0][1]] == [False, True, False, True]
    assert (first.turns, first.where) == (4, "hens.jsonl:1")
    assert found.line(1).opening == "Who lays eggs?"


def test_what_was_left_out_shows_the_row_as_it_stands(workspace: Path) -> None:
    found = InspectedSet(lima(ROWS, "hens"), TOKENIZERS)
    left_out = {one.where: one for reason in found.left_out() for one in reason.examples}
    assert left_out.keys() == {"hens.jsonl:3", "hens.jsonl:4"}
    row = found.row_of(left_out["hens.jsonl:3"], lambda: True)
    assert json.loads(row) == ROWS[2]
    assert found.row_of(left_out["hens.jsonl:3"], lambda: False) == ""
    Path("hens.jsonl").unlink()
    assert found.row_of(left_out["hens.jsonl:3"], lambda: True) == ""


def test_both_answers_of_a_pair_are_shown_and_only_answers_are_learned(workspace: Path) -> None:
    pairs = [{"prompt": f"Q{n}?", "chosen": f"Good {n}", "rejected": "Bad"} for n in range(3)]
    item = InspectedSet(lima(pairs, "pairs"), TOKENIZERS).item(1)
    assert [name for name, _ in item.examples] == ["chosen", "not chosen"]
    learned = ["".join(p.text for p in parts if p.learned) for _, parts in item.examples]
    assert [text.strip() for text in learned] == ["Good 1</s>", "Bad</s>"]


def test_another_tokenizer_of_the_same_name_is_refused(workspace: Path) -> None:
    from tests.support.token_sets import save_tokenizer

    folder = lima(ROWS, "hens")
    save_tokenizer("other", [("a", "b")]).rename(TOKENIZERS / "renamed")
    for file in (TOKENIZERS / "bytes").iterdir():
        file.unlink()
    (TOKENIZERS / "bytes").rmdir()
    with pytest.raises(HatcheryError):
        InspectedSet(folder, TOKENIZERS)
    (TOKENIZERS / "renamed").rename(TOKENIZERS / "bytes")
    with pytest.raises(RefusedError, match="another tokenizer"):
        InspectedSet(folder, TOKENIZERS)


def test_sets_are_listed_newest_first_and_damaged_ones_are_none(workspace: Path) -> None:
    assert example_sets(Path("data")) == []
    folder = lima(ROWS, "hens")
    pairs = [{"prompt": "Q?", "chosen": "Good", "rejected": "Bad"}]
    lima(pairs, "pairs")
    assert {folder.name for folder, _ in example_sets(Path("data"))} == {"hens", "pairs"}
    (folder / "manifest.json").write_text("{")
    (SETS / "nothing").mkdir()
    assert [folder.name for folder, _ in example_sets(Path("data"))] == ["pairs"]
