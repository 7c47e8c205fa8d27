"""Which tokens of a set are learned from, and which are held out for validation.

The ordinary rule looks at no document but its own: one is held out where the hash of its id falls
below the share (or, with `--split tail`, the end of every shard is). In a corpus of few documents
that may leave one side empty; the rules that follow it then give both sides something.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.tokens.metadata import Metadata
from pipeline.tokens.windows import Stretch

Table: TypeAlias = npt.NDArray[Any]
"""Rows of `pipeline.tokens.shards.DOCUMENT`, one a document, in the order of its shard."""

_LEAST = 2  # tokens of a stretch in which something can be predicted
_MOST = 0.5  # share of all tokens that documents held out whole may take


class Split(NamedTuple):
    """The stretches to learn from and those held out; `sentence` says what was done where it was
    not the ordinary rule."""

    train: list[Stretch]
    val: list[Stretch]
    sentence: str = ""

    @property
    def longest_window(self) -> int:
        """The longest window that training fills, in tokens; 0 where a side has nothing."""
        validated = any(stretch.end - stretch.begin >= _LEAST for stretch in self.val)
        return max(0, count_tokens(self.train) - 1) if validated else 0


def count_tokens(stretches: Sequence[Stretch]) -> int:
    return sum(stretch.end - stretch.begin for stretch in stretches)


def split_tokens(
    metadata: Metadata, tables: Sequence[Table], val_split: float, window: int
) -> Split:
    """The first rule under which training fills a window of `window` tokens and validation has
    something; where there is none, the one that leaves the most to learn from.

    In this order: the ordinary rule; whole documents by smallest hash until the share `val_split`
    is reached, at least one, passing over what would take more than half of all tokens; where
    that does not reach it, or the corpus is one document, the end of the text.
    """
    best: Split | None = None
    for split in _by_each_rule(metadata, tables, val_split):
        if split.longest_window >= window:
            return split
        if best is None or split.longest_window > best.longest_window:
            best = split
    assert best is not None
    return best


def _by_each_rule(metadata: Metadata, tables: Sequence[Table], val_split: float) -> Iterator[Split]:
    if metadata.split == "tail":
        yield _shard_ends(metadata, val_split)
    else:
        yield _below_share(metadata, tables, val_split)
        if metadata.documents > 1:
            whole = _smallest_hashes(metadata, tables, val_split)
            if count_tokens(whole.val) >= val_split * metadata.tokens:
                yield whole
    yield _end_of_text(metadata, val_split)


def _shard_ends(metadata: Metadata, val_split: float) -> Split:
    return _cut_back(metadata, [round(record.tokens * val_split) for record in metadata.shards])


def _cut_back(metadata: Metadata, held_out: Sequence[int]) -> Split:
    """The last `held_out` tokens of each shard for validation."""
    ends = [record.tokens for record in metadata.shards]
    borders = [max(0, end - size) for end, size in zip(ends, held_out, strict=True)]
    return Split(
        [Stretch(i, 0, border) for i, border in enumerate(borders)],
        [Stretch(i, border, ends[i]) for i, border in enumerate(borders)],
    )


def _below_share(metadata: Metadata, tables: Sequence[Table], val_split: float) -> Split:
    """The documents whose hash falls below the share: those at the front of each shard."""
    train, val = [], []
    for shard, (record, table) in enumerate(zip(metadata.shards, tables, strict=True)):
        held_out = int(np.searchsorted(table["hash"], np.uint64(int(val_split * 2.0**64))))
        border = int(table["start"][held_out]) if held_out < len(table) else record.tokens
        train.append(Stretch(shard, border, record.tokens))
        val.append(Stretch(shard, 0, border))
    return Split(train, val)


def _smallest_hashes(metadata: Metadata, tables: Sequence[Table], val_split: float) -> Split:
    """Whole documents in the order of their hashes, equal ones as they lie."""
    sizes = [_sizes(t, r.tokens) for t, r in zip(tables, metadata.shards, strict=True)]
    of_all = np.concatenate(sizes)
    held_out = np.zeros(len(of_all), dtype=bool)
    taken = 0
    for row in np.argsort(np.concatenate([t["hash"] for t in tables]), kind="stable"):
        size = int(of_all[row])
        if taken + size > _MOST * metadata.tokens:
            continue
        held_out[row] = True
        taken += size
        if taken >= max(_LEAST, val_split * metadata.tokens):
            break
    train: list[Stretch] = []
    val: list[Stretch] = []
    of_shards = np.split(held_out, np.cumsum([len(size) for size in sizes])[:-1])
    for shard, (table, chosen) in enumerate(zip(tables, of_shards, strict=True)):
        for is_held_out, stretch in _runs(shard, table, metadata.shards[shard].tokens, chosen):
            (val if is_held_out else train).append(stretch)
    count = int(held_out.sum())
    which = "1 whole document" if count == 1 else f"{count:,} whole documents"
    return Split(
        train,
        val,
        f"Held out for validation: {which} of {metadata.documents:,}, {taken:,} of "
        f"{metadata.tokens:,} tokens.",
    )


def _sizes(table: Table, tokens: int) -> npt.NDArray[np.int64]:
    """Tokens of each document of a shard of `tokens`."""
    starts = table["start"].astype(np.int64)
    return np.append(starts[1:], tokens) - starts


def _runs(
    shard: int, table: Table, tokens: int, chosen: npt.NDArray[np.bool_]
) -> Iterator[tuple[bool, Stretch]]:
    """Neighbouring documents on the same side as one stretch each."""
    first = [0, *(np.flatnonzero(np.diff(chosen)) + 1).tolist()]
    borders = [*(int(table["start"][row]) for row in first), tokens]
    for row, begin, end in zip(first, borders, borders[1:], strict=False):
        yield bool(chosen[row]), Stretch(shard, begin, end)


def _end_of_text(metadata: Metadata, val_split: float) -> Split:
    """The end of each shard, whatever documents lie there, and not less than can be scored."""
    tokens = [record.tokens for record in metadata.shards]
    sizes = [round(size * val_split) for size in tokens]
    if max(sizes) < _LEAST:
        sizes[tokens.index(max(tokens))] = _LEAST
    split = _cut_back(metadata, sizes)
    sentence = (
        f"Held out for validation: the last {count_tokens(split.val):,} of {metadata.tokens:,} "
        "tokens"
    )
    if metadata.documents == 1:
        return split._replace(sentence=f"{sentence}, because the corpus is one document.")
    return split._replace(sentence=f"{sentence}, because few documents hold it.")
