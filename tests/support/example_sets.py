"""Small sets of encoded conversations, and a small model to tune on them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.gpt import GPT
from model.optimizer import build_optimizer, optimizer_state
from pipeline.chat.encoder import ChatEncoder
from pipeline.conversations.conversation import Conversation, Preference, Turn
from pipeline.conversations.example_set import (
    KIND,
    Example,
    ExampleMetadata,
    Item,
    held_out,
    write_examples,
)
from pipeline.runs import folders
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.metadata import TokenizerRecord
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from utils.artefacts import build_folder

BASE = Path("checkpoints/run_2026_01_01_10_00_base")
SET = Path("data/post-training/talk")


def conversations(count: int, longest: int = 40) -> list[Conversation]:
    """Questions and answers of many lengths; every third has a second question."""
    found = []
    for number in range(count):
        word = f"{number}" * (1 + number * longest // (4 * count))
        turns = [Turn("user", f"say {word}"), Turn("assistant", word)]
        turns += [Turn("user", "again"), Turn("assistant", word[::-1])] if number % 3 == 2 else []
        found.append(Conversation(tuple(turns), f"file:{number}"))
    return found


def example_set(
    folder: Path,
    items: Sequence[Conversation],
    tokenizer: Tokenizer | None = None,
    *,
    unlearned: Sequence[int] = (),
    stored: Sequence[Item] | None = None,
    **changes: Any,
) -> Path:
    """A set of `items` in `folder`, encoded as the stage does, but that nothing is learned of the
    numbers in `unlearned`. `stored` are the texts, where they are not `items`."""
    by = tokenizer or byte_tokenizer()
    encoder = ChatEncoder(by)
    examples = []
    for number, item in enumerate(items):
        ids, mask = encoder.encode_example(item.turns)
        learned = np.asarray(mask, np.uint8) * (number not in unlearned)
        examples.append(Example(np.asarray(ids), learned))
    values: dict[str, Any] = {
        "name": folder.name,
        "kind": "conversations",
        "sources": ["file"],
        "tokenizer": TokenizerRecord(
            by.name, "tokenizers/bytes", by.fingerprint, by.vocab_size, by.bos_id, by.eos_id
        ),
        "template_sha256": hashlib.sha256(by.chat_template.encode()).hexdigest(),
        "max_length": 512,
        "read": len(items),
        "kept": len(items),
        "rejected": {},
        "shapes": {},
        "rules": {},
        "turns": sum(len(item.turns) for item in items),
        "tokens": sum(len(example.ids) for example in examples),
        "learned_tokens": sum(int(example.learned.sum()) for example in examples),
        "lengths": {},
        "longer": {},
        "held_out": held_out(items, 0.2),
    }
    metadata = ExampleMetadata(**(values | changes))
    options = {"input": ["talk.jsonl"], "tokenizer": "tokenizers/bytes", "name": folder.name}
    with build_folder(folder, kind=KIND, command="lima", options=options) as builder:
        write_examples(builder, metadata, stored or items, examples)
    return folder


def preferences(count: int) -> list[Preference]:
    """Pairs of answers: the number that was asked for, and another."""
    return [
        Preference((Turn("user", f"say {n}"),), f"{n}" * (1 + n % 3), f"{n + 1}", f"file:{n}")
        for n in range(count)
    ]


def preference_set(folder: Path, items: Sequence[Preference], **changes: Any) -> Path:
    """A set of pairs in `folder`, encoded as the stage does."""
    answers = [
        Conversation((*item.prompt, Turn("assistant", answer)), item.where)
        for item in items
        for answer in (item.chosen, item.rejected)
    ]
    pairs = {"kind": "preferences", "kept": len(items), "held_out": held_out(items, 0.2)}
    return example_set(folder, answers, stored=items, **(pairs | changes))


def base_run(kind: str = "muon", **changes: Any) -> Path:
    """checkpoints/ of the working directory with a pretrained run, its optimizer among it."""
    sizes: dict[str, Any] = {"initializer_range": 0.05, "max_position_embeddings": 128}
    model: GPT = lively_model(**(sizes | changes))
    optimizer = build_optimizer(model, kind=kind, learning_rate=1e-3)  # type: ignore[arg-type]
    tokens = byte_tokenizer().encode("some text to learn from, once")
    ids = torch.tensor([tokens])
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    save_step(
        BASE, 4, model, byte_tokenizer(),
        options={"optimizer": kind}, optimizer_state=optimizer_state(optimizer, model),
    )  # fmt: skip
    folders.point(BASE, "best", folders.step_folder(BASE, 4))
    return BASE
