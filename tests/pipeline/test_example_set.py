"""Sets of encoded conversations: written, read back exactly, refused when they are not whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.conversations.conversation import Conversation, Preference, Turn
from pipeline.conversations.example_set import (
    KIND,
    Example,
    ExampleMetadata,
    Item,
    held_out,
    open_examples,
    write_examples,
)
from pipeline.tokens.metadata import TokenizerRecord
from tests.support.tiny_checkpoints import byte_tokenizer
from utils.artefacts import build_folder
from utils.errors import HatcheryError, RefusedError, UsageError

TEXTS = ["a", "bc", "d\u2028\n", "e" * 40]


def conversation(text: str) -> Conversation:
    turns = (Turn("user", text), Turn("assistant", text.upper()))
    return Conversation(turns, f"file:{len(text)}", "headings")


def preference(prompt: str, text: str) -> Preference:
    return Preference((Turn("user", prompt),), text, text.upper(), "votes")


def write(folder: Path, items: Sequence[Item], **changes: Any) -> Path:
    by = byte_tokenizer()
    paired = isinstance(items[0], Preference)
    lengths = [2 + n for n in range(len(items) * (1 + paired))]
    examples = [
        Example(np.full(n, n, dtype=np.uint16), np.arange(n, dtype=np.uint8) % 2) for n in lengths
    ]
    values: dict[str, Any] = {
        "name": folder.name,
        "kind": "preferences" if paired else "conversations",
        "sources": ["file"],
        "tokenizer": TokenizerRecord("bytes", "x", by.fingerprint, by.vocab_size, 256, 257),
        "template_sha256": "",
        "max_length": 512,
        "read": len(items),
        "kept": len(items),
        "rejected": {},
        "shapes": {},
        "rules": {},
        "turns": 0,
        "tokens": sum(lengths),
        "learned_tokens": 0,
        "lengths": {},
        "longer": {},
        "held_out": held_out(items, 0.25),
    }
    metadata = ExampleMetadata(**(values | changes))
    options = {"input": ["my file.jsonl"], "max_length": 512, "embedded": False}
    with build_folder(folder, kind=KIND, command="lima", options=options) as builder:
        write_examples(builder, metadata, items, examples)
    return folder


def test_a_set_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    items = [conversation(text) for text in TEXTS]
    found = open_examples(write(tmp_path / "set", items))
    assert len(found) == len(items)
    for i, item in enumerate(items):
        assert found.texts(i) == item
        assert found.ids(i).tolist() == [2 + i] * (2 + i)
        assert found.learned(i).tolist() == [bool(n % 2) for n in range(2 + i)]
    assert found.lengths.tolist() == [2, 3, 4, 5]
    assert sorted([*found.train, *found.val]) == [0, 1, 2, 3]
    assert 0 < len(found.val) < len(items)


def test_a_pair_is_two_examples(tmp_path: Path) -> None:
    items = [preference("a", "x"), preference("b", "y")]
    found = open_examples(write(tmp_path / "set", items))
    assert (len(found), len(found.train), len(found.val)) == (4, 1, 1)
    assert found.texts(1) == items[1]
    assert [found.ids(i)[0] for i in found.pair(1)] == [4, 5]


def test_what_is_held_out_depends_on_what_is_said_and_never_on_the_order() -> None:
    items = [conversation(str(n)) for n in range(200)]
    chosen = {items[i] for i in held_out(items, 0.1)}
    assert {items[::-1][i] for i in held_out(items[::-1], 0.1)} == chosen
    assert 5 < len(chosen) < 40
    assert len(held_out(items[:2], 1e-9)) == len(held_out(items[:2], 0.49999)) == 1
    assert held_out(items[:1], 0.4) == []


def test_answers_to_one_prompt_stay_on_one_side() -> None:
    items = [preference(str(n % 3), str(n)) for n in range(30)]
    chosen = set(held_out(items, 0.4))
    for prompt in range(3):
        assert len({n in chosen for n in range(30) if n % 3 == prompt}) == 1
    assert 0 < len(chosen) < 30


@pytest.mark.parametrize("name", ["tokenized_examples.npy", "loss_mask.npy", "conversations.jsonl"])
def test_a_changed_bit_is_refused_with_the_command_that_makes_the_set_again(
    tmp_path: Path, name: str
) -> None:
    folder = write(tmp_path / "set", [conversation(text) for text in TEXTS])
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(RefusedError) as refused:
        open_examples(folder)
    again = ("lima", "--input", "my file.jsonl", "--max-length", "512", "--force")
    assert refused.value.commands == (again,)
    open_examples(folder, check="sizes")  # which looks at sizes alone
    (folder / name).write_bytes(data[:-2])
    if name != "conversations.jsonl":
        with pytest.raises(RefusedError):
            open_examples(folder, check="sizes")


@pytest.mark.parametrize("changes", [{"tokens": 3}, {"kept": 3}, {"kind": "preferences"}])
def test_files_that_contradict_their_metadata_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write(tmp_path / "set", [conversation(text) for text in TEXTS], **changes)
    with pytest.raises(RefusedError, match="contradict"):
        open_examples(folder)


def test_no_folder_and_another_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no conversations"):
        open_examples(tmp_path / "nowhere")
    with pytest.raises(RefusedError, match="no set of conversations"):
        open_examples(tmp_path)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    found = open_examples(write(tmp_path / "set", [conversation(text) for text in TEXTS]))
    by = byte_tokenizer()
    found.check_tokenizer(by)
    by.fingerprint = "0" * 64  # type: ignore[misc]
    with pytest.raises(HatcheryError, match="another tokenizer") as refused:
        found.check_tokenizer(by)
    assert "TOKENIZER" in refused.value.commands[0]
