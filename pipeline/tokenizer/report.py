"""How well a tokenizer compresses a sample of real documents, and whether they come back."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.documents import read_cleaned
from pipeline.tokenizer.tokenizer import Tokenizer

SAMPLE_BYTES = 1 << 20
_FILES = 64


def sample(files: Sequence[Path], limit: int = SAMPLE_BYTES) -> list[str]:
    """The beginnings of up to 64 files spread over `files`, `limit` bytes in all."""
    chosen = files[:: -(-len(files) // _FILES)]
    each = limit // len(chosen)
    return [text for file in chosen for text in _beginning(file, each)]


def _beginning(file: Path, limit: int) -> Iterator[str]:
    left = limit
    for document in read_cleaned(file):
        if left <= 0:
            return
        text = document.text.encode()[:left].decode(errors="ignore")
        left -= len(document.text.encode())
        if text:
            yield text


def measure(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    other: Tokenizer | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Figures over `texts`; empty when there are none.

    `bytes_per_token` counts UTF-8, `compression` is its size over that of the ids as stored,
    `tokens_vs_gpt2` the number of tokens over that of `other`.
    """
    started = clock()
    encoded = tokenizer.encode_batch(texts)
    seconds = clock() - started
    tokens = sum(ids.size for ids in encoded)
    if not tokens:
        return {}
    size = sum(len(text.encode()) for text in texts)
    stored = sum(ids.nbytes for ids in encoded)
    came_back = (tokenizer.decode(i.tolist()) == t for i, t in zip(encoded, texts, strict=True))
    figures = {
        "sample_documents": len(texts),
        "sample_bytes": size,
        "sample_tokens": tokens,
        "bytes_per_token": _round(size / tokens),
        "characters_per_token": _round(sum(map(len, texts)) / tokens),
        "compression": _round(size / stored),
        "tokens_per_second": round(tokens / max(seconds, 1e-9)),
        "exact_round_trips": sum(came_back),
    }
    if other is not None and other.fingerprint != tokenizer.fingerprint:
        theirs = sum(ids.size for ids in other.encode_batch(texts))
        figures["tokens_vs_gpt2"] = _round(tokens / theirs)
    return figures


def _round(value: float) -> float:
    return round(value, 4)
