"""A set of examples written into its folder, with what it says of itself."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.conversations.conversation import Preference
from pipeline.conversations.encoding import Encoded, marked_parts
from pipeline.conversations.example_set import (
    SHOWN,
    Example,
    ExampleMetadata,
    Item,
    held_out,
    write_examples,
)
from pipeline.conversations.shapes import Parsed
from pipeline.sources.rejection import Rejection
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.metadata import TokenizerRecord
from utils.artefacts import FolderBuilder
from utils.files import durable_file
from utils.json_text import encode_indented

WINDOWS = (1024, 2048, 4096)
"""Tokens that a longer window may have: what it would keep is said."""
_SHOWN_EXAMPLES = 5


class About(NamedTuple):
    """What a set is: its name and sources, the tokenizer and where it lies, and what was chosen."""

    name: str
    sources: list[str]
    tokenizer: Tokenizer
    where: Path
    max_length: int
    val_split: float


def publish(
    builder: FolderBuilder,
    about: About,
    kept: Sequence[Parsed],
    encoded: Sequence[Encoded],
    lengths: Sequence[int],
    rejected: Sequence[Rejection],
) -> None:
    """Write every file of a set, and its figures into the manifest. `lengths` are those of all
    that were encoded, in tokens."""
    items = [parsed.item for parsed in kept]
    examples = [example for one in encoded for example in one.examples]
    metadata = _metadata(about, kept, examples, lengths, rejected)
    write_examples(builder, metadata, items, examples)
    name = f"rejected_{about.name}.jsonl"
    with durable_file(builder.path / name) as out:
        for rejection in rejected:
            out.write(msgspec.json.encode(rejection) + b"\n")
    builder.commit(name, {name: out.written})
    each = len(encoded[0].examples)
    rows = [
        _shown(about.tokenizer, items[at // each], example)
        for at, example in enumerate(examples[: _SHOWN_EXAMPLES * each])
    ]
    builder.write(SHOWN, encode_indented(rows))
    shown = ("kept", "read", "turns", "tokens", "learned_tokens", "kind", "rejected", "shapes")
    builder.facts = {key: getattr(metadata, key) for key in shown}
    builder.facts |= {"held_out": len(metadata.held_out), "tokenizer": about.tokenizer.name}


def _metadata(
    about: About,
    kept: Sequence[Parsed],
    examples: Sequence[Example],
    lengths: Sequence[int],
    rejected: Sequence[Rejection],
) -> ExampleMetadata:
    items = [parsed.item for parsed in kept]
    tokenizer, by_length = about.tokenizer, np.array(lengths)
    percentiles = {f"p{at}": int(np.percentile(by_length, at)) for at in (50, 90, 99)}
    longer = kept_by_longer(lengths, about.max_length)
    paired = isinstance(items[0], Preference)
    return ExampleMetadata(
        name=about.name,
        kind="preferences" if paired else "conversations",
        sources=about.sources,
        tokenizer=TokenizerRecord(
            name=tokenizer.name,
            path=str(about.where),
            fingerprint=tokenizer.fingerprint,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
        ),
        template_sha256=template_sha256(tokenizer),
        max_length=about.max_length,
        read=len(items) + len(rejected),
        kept=len(items),
        rejected=reasons_of(rejected),
        shapes=dict(Counter(parsed.shape for parsed in kept)),
        rules=dict(Counter(rule for item in items if (rule := getattr(item, "rule", "")))),
        turns=sum(_turns(item) for item in items),
        tokens=sum(len(example.ids) for example in examples),
        learned_tokens=sum(int(example.learned.sum()) for example in examples),
        lengths=percentiles | {"longest": int(by_length.max())},
        longer={str(window): more for window, more in longer.items()},
        held_out=held_out(items, about.val_split),
    )


def _turns(item: Item) -> int:
    return len(item.prompt) + 1 if isinstance(item, Preference) else len(item.turns)


def _shown(tokenizer: Tokenizer, item: Item, example: Example) -> dict[str, Any]:
    """An example for people: its text in parts, learned or not, and its ids."""
    parts = marked_parts(tokenizer, example)
    return {
        "where": item.where,
        "tokens": len(example.ids),
        "learned_tokens": int(example.learned.sum()),
        "parts": [{"text": part.text, "learned": part.learned} for part in parts],
        "ids": example.ids.tolist(),
        "loss_mask": example.learned.tolist(),
    }


def reasons_of(rejected: Sequence[Rejection]) -> dict[str, int]:
    """How many were left out for which reason, the commonest first."""
    return dict(Counter(rejection.reason for rejection in rejected).most_common())


def template_sha256(tokenizer: Tokenizer) -> str:
    """What tells the chat template of a tokenizer from others."""
    return hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()


def kept_by_longer(lengths: Sequence[int], limit: int) -> dict[int, int]:
    """How many more conversations each longer window would keep, up to the one that keeps all."""
    kept: dict[int, int] = {}
    for window in WINDOWS:
        before = max(kept, default=limit)
        if window > limit and max(lengths) > before:
            kept[window] = sum(limit < length <= window for length in lengths)
    return kept
