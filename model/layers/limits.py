"""Sizes at which the arithmetic changes its way. Never imports torch, so that a plan can ask."""

MATH_UP_TO = 256
"""Positions up to which matmul + softmax trains faster than SDPA on a CPU."""

SMALL_MODEL = 16_000_000
"""Parameters up to which one thread reads faster than several on a CPU, where every product is a
call of its own: they are shorter than waking a thread."""

_SLICE_ELEMENTS = 1 << 23
"""Logits held at once: 32 MiB in float32."""


def slice_length(vocab_size: int) -> int:
    """Tokens whose logits are held at once."""
    return max(64, _SLICE_ELEMENTS // vocab_size)
