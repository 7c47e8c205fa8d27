"""The documents of Python's library that training does not learn from, and what it has seen.

A model of quickstart has learned from the library, but for the documents that the split by the
hash of their ids holds out (`pipeline.tokens.split`). Texts are often there twice, so that a text
of these documents may still stand in others: `Training.has_seen` tells.
"""

import functools
from collections.abc import Iterable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.options.config import TrainOptions
from pipeline.sources.documents import Document
from pipeline.sources.items import Item
from pipeline.sources.python_library import library_inputs
from pipeline.sources.raw import read_items
from pipeline.tokens.shards import split_hash

SEQUENCE = 12
"""Words in a row that a text must not share with what was learned from."""
SHORTEST = 4
"""Words of the shortest text of which it can be said whether it was seen."""

_VAL_SPLIT = float(TrainOptions.model_fields["val_split"].default)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying modulo 2^64 loses nothing
# Bytes of words in lower case; what divides words becomes a blank.
_WORD_BYTES = bytes(
    byte if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_") else ord(" ")
    for byte in bytes(range(256)).lower()
)

_Numbers = npt.NDArray[np.uint64]


class Library(NamedTuple):
    """The documents held out, by id, and what stands in all others."""

    documents: list[Document]
    training: "Training"


class Training:
    """The sequences of words in texts that were learned from, as hashes.

    Only words of `vocabulary` count: a text with any other word was not seen.
    """

    def __init__(self, texts: Iterable[bytes], vocabulary: Iterable[bytes]) -> None:
        self._number = {word: number for number, word in enumerate(vocabulary, 1)}
        numbers: list[int] = []
        for text in texts:
            numbers += map(self._number.get, _words(text), repeat(0))
            numbers.append(0)  # no sequence goes over the end of a document
        self._seen = _all_sequences(np.array(numbers, dtype=np.uint64))

    def has_seen(self, text: str) -> bool:
        """Whether 12 words in a row of `text`, or all of a shorter one, were learned from; so is
        anything of less than 4 words."""
        words = _words(text.encode())
        length = min(SEQUENCE, len(words))
        if length < SHORTEST:
            return True
        numbers = np.array([self._number.get(word, 0) for word in words], dtype=np.uint64)
        return not self._seen[length].isdisjoint(_all_sequences(numbers)[length])


@functools.cache
def held_out_library() -> Library:
    """The library of the running Python, as quickstart divides it.

    Raises:
        HatcheryError: this Python has no library as files.
    """
    held_out: list[Document] = []
    training: list[bytes] = []
    for source in library_inputs():
        if source.form == "code" and not is_held_out(source.name):
            training.append(source.path.read_bytes())  # one document, and of its words no one cares
            continue
        for item in read_items(source):
            if not isinstance(item, Item) or not isinstance(item.content, bytes):
                continue
            if is_held_out(item.id):
                held_out.append(Document(item.id, item.title, item.content.decode()))
            else:
                training.append(item.content)
    held_out.sort(key=lambda document: document.id)
    vocabulary = {word: None for document in held_out for word in _words(document.text.encode())}
    return Library(held_out, Training(training, vocabulary))


def is_held_out(document_id: str) -> bool:
    """Whether training with the shipped settings leaves a document to validation."""
    return split_hash(document_id) < int(_VAL_SPLIT * 2.0**64)


def _words(text: bytes) -> list[bytes]:
    return text.translate(_WORD_BYTES).split()


def _all_sequences(numbers: _Numbers) -> dict[int, set[Any]]:
    """Hashes of the sequences of each length, of such without a 0."""
    starts = np.flatnonzero(numbers)
    hashes = numbers[starts]
    found: dict[int, set[Any]] = {}
    for length in range(2, SEQUENCE + 1):
        starts, hashes = _with_next(numbers, starts, hashes, length - 1)
        if length >= SHORTEST:
            found[length] = set(hashes.tolist())
    return found


def _with_next(
    numbers: _Numbers, starts: npt.NDArray[np.intp], hashes: _Numbers, offset: int
) -> tuple[npt.NDArray[np.intp], _Numbers]:
    """The sequences that go on at `offset` from their start, one word longer."""
    inside = starts + offset < len(numbers)
    starts, hashes = starts[inside], hashes[inside]
    following = numbers[starts + offset]
    known = following != 0
    return starts[known], hashes[known] * _FACTOR + following[known]
