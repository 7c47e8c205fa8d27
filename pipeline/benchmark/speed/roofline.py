"""How fast a model could run at most on a machine of known arithmetic and memory, and how near a
measured speed comes. Never imports torch.

The roofline of Williams et al. 2009: work takes at least as long as its arithmetic at full speed,
and at least as long as its bytes take to arrive.
"""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from model.config import ModelConfig, flops_per_token, matrix_parameters


class Work(NamedTuple):
    """Tokens of one unit of work, its floating-point operations, and the bytes it must read."""

    tokens: int
    flops: float
    bytes: float


class Ceilings(NamedTuple):
    """What the machine does at most, per second; measured."""

    flops: float
    bytes: float


def prefill_work(config: ModelConfig, prompt: int, weights: float) -> Work:
    """Reading a prompt of so many tokens, with logits after its last only. `weights` are the
    bytes of all matrices that are multiplied."""
    products = 2 * (prompt * matrix_parameters(config) + config.vocab_size * config.hidden_size)
    return Work(prompt, products + prompt * _attention(config, prompt), weights)


def decode_work(
    config: ModelConfig, texts: int, context: int, weights: float, number_bytes: int
) -> Work:
    """One more token of `texts` texts that are `context` tokens long; keys and values take
    `number_bytes` each."""
    products = 2 * (matrix_parameters(config) + config.vocab_size * config.hidden_size)
    kept = 2 * config.num_layers * config.kv_heads * config.head_size * context * number_bytes
    flops = texts * (products + _attention(config, context))
    return Work(texts, flops, weights + texts * kept)


def training_work(config: ModelConfig, windows: int, window: int) -> Work:
    """One optimizer step; its bytes are not counted, so that the share is the model flops
    utilisation."""
    tokens = windows * window
    return Work(tokens, tokens * flops_per_token(config, window), 0)


def _attention(config: ModelConfig, context: int) -> int:
    """Operations of one token that looks at `context` others, as `flops_per_token` counts them."""
    return 4 * config.num_layers * config.num_heads * config.head_size * context


def most_tokens_per_second(work: Work, ceilings: Ceilings) -> float:
    """The roofline."""
    return work.tokens / max(work.flops / ceilings.flops, work.bytes / ceilings.bytes)


def row(
    name: str, form: str, work: Work, seconds: Sequence[float], ceilings: Ceilings
) -> dict[str, Any]:
    """A measured speed beside its ceiling, in tokens per second.

    `seconds` are those of single units of work, one entry per round: `median`, `low` and `high`
    come from them. `percent` is the median's share in the ceiling, which `limit` sets.
    """
    median, most = work.tokens / statistics.median(seconds), most_tokens_per_second(work, ceilings)
    arithmetic = work.flops / ceilings.flops >= work.bytes / ceilings.bytes
    return {
        "tokens_per_second": name,
        "in": form,
        "median": _rounded(median),
        "low": _rounded(work.tokens / max(seconds)),
        "high": _rounded(work.tokens / min(seconds)),
        "ceiling": _rounded(most),
        "percent": round(100 * median / most, 1),
        "limit": "arithmetic" if arithmetic else "memory",
    }


def _rounded(speed: float) -> float:
    """Without digits that no measurement has."""
    return round(speed) if speed >= 100 else float(f"{speed:.3g}")
