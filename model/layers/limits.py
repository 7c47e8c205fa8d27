"""Sizes at which the arithmetic changes its way. Never imports torch, so that a plan can ask."""

MATH_UP_TO, MATH_UP_TO_IN_HALF = 256, 512
"""Positions up to which matmul + softmax trains faster than SDPA on a CPU, in float32 and in 16
bits: SDPA's kernel hardly gains from bfloat16, the products take half the time."""

SMALL_MODEL = 16_000_000
"""Parameters up to which one thread reads faster than several on a CPU, where every product is a
call of its own: they are shorter than waking a thread."""

_SLICE_ELEMENTS = 1 << 23
"""Logits held at once: 32 MiB in float32."""


def math_up_to(half: bool) -> int:
    """Positions up to which attention is by matmul + softmax on a CPU, in 16 bits or in 32."""
    return MATH_UP_TO_IN_HALF if half else MATH_UP_TO


def slice_length(vocab_size: int) -> int:
    """Tokens whose logits are held at once."""
    return max(64, _SLICE_ELEMENTS // vocab_size)
