"""Where the texts of a model begin and end: the ids before each, and those that end it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.huggingface.config import is_of_others
from model.huggingface.generation_config import read_generation_config
from pipeline.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextBounds:
    """`before` are ids that nobody types and that every text begins with, `ends` those that end
    one, in the order in which the model's files have them."""

    before: tuple[int, ...]
    ends: tuple[int, ...]


def bounds_in_training(tokenizer: Tokenizer, ends: Sequence[int] = ()) -> TextBounds:
    """The bounds that our own training teaches: BOS, or EOS where there is none, stands before
    every document, and EOS ends it."""
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    return TextBounds(() if start is None else (start,), _with_end(ends, tokenizer.eos_id))


def text_bounds(path: Path, tokenizer: Tokenizer) -> TextBounds:
    """The bounds of the model at `path`, a folder or a `.pt` file: weights of others read what
    their tokenizer puts before a text, which may be nothing.

    Raises:
        UsageError: a file of the folder is no JSON object.
    """
    ends = read_generation_config(path).ends
    if not is_of_others(path):
        return bounds_in_training(tokenizer, ends)
    return TextBounds(tuple(tokenizer.prefix), _with_end(ends, tokenizer.eos_id))


def _with_end(ends: Sequence[int], eos: int | None) -> tuple[int, ...]:
    return tuple(ends) if eos is None or eos in ends else (*ends, eos)
