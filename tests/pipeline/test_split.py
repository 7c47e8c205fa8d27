"""What is held out of a corpus of few documents, and that others are divided as ever."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.events import Saved, Warned
from pipeline.tokens.shards import split_hash
from pipeline.tokens.token_set import TokenSet, open_tokens
from pipeline.tokens.windows import Windows
from tests.support.token_sets import numbered, prepare, save_tokenizer, token_set, write_documents
from utils.errors import UsageError


def ids_of(windows: Windows) -> set[int]:
    shards = windows.shards
    return {i for s in windows.stretches for i in shards[s.shard][s.begin : s.end].tolist()}


def opened(folder: Path, share: float = 0.05, window: int = 8) -> TokenSet:
    return open_tokens(folder, window=window, val_split=share)


def documents_of(sizes: Sequence[int]) -> list[list[int]]:
    """Documents of these many tokens, all different."""
    ends = np.cumsum(sizes).tolist()
    return [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def test_one_document_gives_its_tail(tmp_path: Path) -> None:
    assert split_hash("0/0") < 0.05 * 2**64, "the ordinary rule would hold all of it out"
    data = opened(token_set(tmp_path / "set", [numbered(1, 400)]))
    assert ids_of(data.val) == set(range(380, 400))
    assert ids_of(data.train) == set(range(380))
    assert data.held_out == (
        "Held out for validation: the last 20 of 400 tokens, because the corpus is one document."
    )


def test_a_share_too_small_for_one_token_holds_out_two(tmp_path: Path) -> None:
    data = opened(token_set(tmp_path / "set", [numbered(1, 100)]), share=0.01)
    assert (data.train.tokens, data.val.tokens, len(data.val)) == (98, 2, 1)


@pytest.mark.parametrize(
    "sizes",
    [[200, 200], [900, 100], [100, 900], [60, 70, 80], [30] * 15, [9] * 40 + [4000], [500, 40, 2]],
    ids=str,
)
@pytest.mark.parametrize("share", [0.0005, 0.02])
def test_few_documents_give_whole_ones(tmp_path: Path, sizes: list[int], share: float) -> None:
    documents = documents_of(sizes)
    folder = token_set(tmp_path / "set", [documents[::2], documents[1::2]])
    hashes = [split_hash(f"{j % 2}/{j // 2}") for j in range(len(sizes))]
    assert min(hashes) >= share * 2**64, "the ordinary rule would hold one out"
    data = opened(folder, share=share)
    train, val = ids_of(data.train), ids_of(data.val)
    assert not train & val
    assert train | val == set(range(sum(sizes)))
    held_out = [set(ids) <= val for ids in documents]
    assert [set(ids) & val == (set(ids) if held else set()) for ids, held in
            zip(documents, held_out, strict=True)] == [True] * len(sizes)  # fmt: skip
    assert max(2, share * sum(sizes)) <= len(val) <= sum(sizes) / 2
    left_out = [h for h, held, size in zip(hashes, held_out, sizes, strict=True)
                if not held and len(val) + size <= sum(sizes) / 2]  # fmt: skip
    assert not left_out or max(h for h, held in zip(hashes, held_out, strict=True) if held) < min(
        left_out
    ), "they are those of the smallest hashes"
    assert f"{sum(held_out)} whole document" in data.held_out


def test_documents_that_share_one_id_are_divided_too(workspace: Path) -> None:
    save_tokenizer("t")
    texts = "".join(json.dumps({"id": "x", "title": "", "text": f"{i} word"}) + "\n"
                    for i in range(400))  # fmt: skip
    (workspace / "cleaned_0.jsonl").write_text(texts)
    prepare(input=[Path("cleaned_0.jsonl")], output=Path("set"), tokenizer="t", window=16)
    data = opened(Path("set"), window=16)
    assert (
        len(data.val.stretches[0]) >= 0.05 * 400 or data.val.tokens >= 0.05 * data.metadata.tokens
    )
    assert data.val.tokens < 0.06 * data.metadata.tokens
    assert "whole documents of 400" in data.held_out


@pytest.mark.parametrize("sizes", [[2000, 20], [20, 2000], [10, 2000, 10], [3, 900, 2, 4]], ids=str)
def test_beside_one_that_holds_nearly_all_the_end_is_held_out(
    tmp_path: Path, sizes: list[int]
) -> None:
    data = opened(token_set(tmp_path / "set", [documents_of(sizes)]), share=0.02)
    assert data.val.tokens == round(0.02 * sum(sizes))
    assert len(ids_of(data.train)) == sum(sizes) - data.val.tokens


def test_two_documents_that_fill_a_window_only_together_give_their_end(tmp_path: Path) -> None:
    data = opened(token_set(tmp_path / "set", [numbered(2, 300)]), window=512)
    assert (data.train.tokens, data.val.tokens) == (570, 30)
    assert data.held_out.endswith(", because few documents hold it.")


@pytest.mark.parametrize("documents", [60, 200, 1000])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_where_the_hash_gives_both_sides_nothing_else_decides(
    tmp_path: Path, documents: int, share: float
) -> None:
    parts = numbered(documents, 7)
    data = opened(token_set(tmp_path / "set", [parts]), share=share)
    below = {j for j in range(documents) if split_hash(f"0/{j}") < int(share * 2.0**64)}
    assert ids_of(data.val) == {i for j in below for i in parts[j]}
    assert len(data.val.stretches) == len(data.train.stretches) == 1
    assert data.held_out == ""


def test_prepare_says_what_is_held_out_and_keeps_it(workspace: Path) -> None:
    save_tokenizer("t")
    write_documents(workspace / "one" / "cleaned_0.jsonl", ["some words " * 90])
    write_documents(workspace / "many" / "cleaned_0.jsonl", ["some words " * 9] * 300)
    said: dict[str, list[str]] = {}
    for name in ("one", "many"):
        events = prepare(input=[Path(name)], output=Path("of", name), tokenizer="t", window=64)
        assert isinstance(events[-2], Saved)
        said[name] = [event.message for event in events if isinstance(event, Warned)]
    [sentence] = said["one"]
    assert "because the corpus is one document" in sentence
    assert json.loads(Path("of/one/metadata.json").read_bytes())["held_out"] == sentence
    assert said["many"] == []
    assert "held_out" not in json.loads(Path("of/many/metadata.json").read_bytes())


def test_prepare_says_how_to_train_on_a_text_shorter_than_its_window(workspace: Path) -> None:
    save_tokenizer("t")
    write_documents(workspace / "short" / "cleaned_0.jsonl", ["some words " * 9])
    events = prepare(input=[Path("short")], tokenizer="t", window=512)
    warned = [event for event in events if isinstance(event, Warned)]
    assert warned[0].message.startswith("The text fills no window of 512 tokens")
    assert "train --source short --window 64" in warned[0].remedy
    folder = Path("data/tokenized_datasets/short_full_dataset")
    assert len(opened(folder, window=64).train) >= 1


def test_a_text_of_which_nothing_can_be_learned_is_refused(workspace: Path) -> None:
    save_tokenizer("t")
    write_documents(workspace / "no" / "cleaned_0.jsonl", ["a"])
    with pytest.raises(UsageError, match="too short to learn from") as refused:
        prepare(input=[Path("no")], tokenizer="t")
    assert "1 document" in refused.value.found
    assert not Path("data/tokenized_datasets/no_full_dataset").exists()
