"""One shard of tokens on disk: a flat stream, and a table of the documents in it.

`tokens_*.npy` holds the ids, uint16 where the vocabulary allows it. `documents_*.npy` holds one
`DOCUMENT` row per document. With the document split the documents of a shard are stored in the
order of a hash of their id, so that whatever share is chosen for validation later, its documents
are one stretch at the front and the rest another behind it; and a document's side depends on
nothing but its id.
"""

import hashlib
import io
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.errors import RefusedError
from utils.files import Written, durable_file, require_space

SPLIT_SEED = 42
"""Seed of the document split, the same in every token set."""

DOCUMENT = np.dtype([("start", "<u8"), ("hash", "<u8"), ("bytes", "<u8")])
"""A document: its first token in the shard, its split hash, and its size as UTF-8 text."""

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
_WRITE_TOKENS = 1 << 20


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest unsigned type that holds every id of a vocabulary."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def split_hash(document_id: str) -> int:
    """A uniform 64-bit number; the document is validation where it is below val_split * 2^64."""
    data = document_id.encode(errors="surrogatepass")
    key = f"split {SPLIT_SEED}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "little")


class Shard:
    """A shard being filled, in memory: 2 or 4 bytes per token and 24 per document."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.tokens = 0
        self.text_bytes = 0
        self.largest_id = -1
        self._ids = np.empty(1 << 16, dtype=token_dtype(vocab_size))
        self._starts, self._hashes, self._sizes = array("Q"), array("Q"), array("Q")

    @property
    def documents(self) -> int:
        return len(self._starts)

    def add(self, ids: npt.NDArray[Any], document_id: str, text_bytes: int) -> None:
        """Append one document's ids (n,), of any integer type.

        Raises:
            RefusedError: an id is not in the vocabulary; narrowing it would wrap silently.
        """
        lowest, largest = int(ids.min()), int(ids.max())
        if lowest < 0 or largest >= self.vocab_size:
            raise RefusedError(
                f"The tokenizer gave an id outside its vocabulary of {self.vocab_size}.",
                found=f"ids from {lowest} to {largest} in document {document_id}",
                remedy="mend or replace the tokenizer: {}",
                commands=[("tokenize", "--load", "NAME")],
            )
        end = self.tokens + len(ids)
        if end > len(self._ids):
            self._ids.resize(max(end, 2 * len(self._ids)), refcheck=False)
        self._ids[self.tokens : end] = ids
        self._starts.append(self.tokens)
        self._hashes.append(split_hash(document_id))
        self._sizes.append(text_bytes)
        self.tokens, self.text_bytes = end, self.text_bytes + text_bytes
        self.largest_id = max(self.largest_id, largest)

    def write(self, folder: Path, name: str, *, by_hash: bool) -> dict[str, Written]:
        """Write `tokens_<name>.npy` and `documents_<name>.npy` durably.

        `by_hash` orders the documents by split hash, equal ones as they were added.

        Raises:
            DiskFullError: there is not enough room; nothing is left behind.
        """
        hashes = np.array(self._hashes, dtype=np.uint64)
        starts = np.array(self._starts, dtype=np.int64)
        lengths = np.diff(starts, append=self.tokens)
        order = np.argsort(hashes, kind="stable") if by_hash else np.arange(len(hashes))
        table = np.empty(len(order), dtype=DOCUMENT)
        table["start"] = np.cumsum(lengths[order]) - lengths[order]
        table["hash"], table["bytes"] = hashes[order], np.array(self._sizes, dtype=np.uint64)[order]
        width = self._ids.itemsize
        require_space(folder, self.tokens * width + table.nbytes + (1 << 20))
        files = {}
        with durable_file(folder / f"tokens_{name}.npy") as out:
            out.write(npy_header(self._ids.dtype, self.tokens))
            for block in _blocks(self._ids, starts[order], lengths[order]):
                out.write(block.data)
        files[f"tokens_{name}.npy"] = out.written
        with durable_file(folder / f"documents_{name}.npy") as out:
            out.write(npy_header(DOCUMENT, len(table)))
            out.write(table.tobytes())
        files[f"documents_{name}.npy"] = out.written
        return files


def _blocks(
    ids: npt.NDArray[Any], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[Any]]:
    """The documents at `starts` joined in that order, about a million tokens at a time."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(starts):
        before = ends[first] - lengths[first]
        last = max(first + 1, int(np.searchsorted(ends, before + _WRITE_TOKENS)))
        if last == first + 1:  # a document of any length, without an index as long
            yield ids[int(starts[first]) : int(starts[first] + lengths[first])]
            first = last
            continue
        # Position of each output token: its document's start plus its place in that document.
        shift = starts[first:last] - (ends[first:last] - lengths[first:last] - before)
        size = int(ends[last - 1] - before)
        where = np.repeat(shift, lengths[first:last]) + np.arange(size)
        yield ids[where]
        first = last


def npy_header(dtype: np.dtype[Any], count: int) -> bytes:
    """The header of a one-dimensional .npy file, version 1.0 of the format."""
    header = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        header, {"descr": description, "fortran_order": False, "shape": (count,)}
    )
    return header.getvalue()
