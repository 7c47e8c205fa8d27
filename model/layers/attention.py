"""Causal attention by the kernel that suits the device.

Letters: B rows, T new positions, S positions seen so far, H query heads, K key and value heads,
D channels per head. Query head h reads key head h // (H / K) (Ainslie et al. 2023, "GQA").
"""

import math
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.layers.limits import math_up_to
from utils.errors import HatcheryError

Kernel = Literal["math", "sdpa", "flash"]


def choose_kernel(
    requested: str, device: torch.device, dtype: torch.dtype, length: int, *, training: bool
) -> Kernel:
    """The kernel for `length` new positions on `device`, products in `dtype`; an explicit one is
    taken.

    On CUDA training insists on flash, since any other kernel silently costs half of the speed;
    generation, which may run in float32, leaves the choice to SDPA.
    """
    if requested == "auto":
        if device.type == "cuda" and training:
            return "flash"
        short = length <= math_up_to(dtype.itemsize == 2)
        return "math" if device.type == "cpu" and short else "sdpa"
    return requested  # type: ignore[return-value]


def causal_mask(positions: Tensor, seen: int, dtype: torch.dtype) -> Tensor:
    """Zero where a position may look and -inf where not: (..., T) -> (..., T, S = seen)."""
    keys = torch.arange(seen, device=positions.device)
    hidden = keys > positions[..., None]
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(
        hidden, float("-inf")
    )


def block_causal_mask(documents: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask of rows that hold several texts: zero where a position may look, which is at those
    of its own document up to itself, and -inf elsewhere: (B, T) -> (B, T, T).

    Every position sees itself, filling too: no row of the softmax is empty.
    """
    T = documents.shape[1]
    own = documents[:, :, None] == documents[:, None, :]
    visible = own & torch.ones(T, T, dtype=torch.bool, device=documents.device).tril()
    mask = torch.zeros(visible.shape, dtype=dtype, device=documents.device)
    return mask.masked_fill_(~visible, float("-inf"))


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kernel: Kernel, dropout: float
) -> Tensor:
    """Weighted mean of the values: q (B, H, T, D), k and v (B, K, S, D) -> (B, T, H * D).

    `mask` is added to the scores, (T, S) or (B, T, S). None means causal over equal lengths, or no
    restriction for a single new position.

    Raises:
        HatcheryError: the flash kernel is required and cannot serve these tensors.
    """
    if kernel == "math":
        return _by_matmul(q, k, v, mask, dropout)
    if mask is not None and mask.dim() == 3:
        mask = mask[:, None]  # (B, 1, T, S)
    sdpa = partial(
        F.scaled_dot_product_attention,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None and q.shape[2] > 1,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    if kernel == "flash" and q.device.type == "cuda" and mask is None:
        _require_flash(q)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            mixed = sdpa(q, k, v)
    else:
        mixed = sdpa(q, k, v)
    return mixed.transpose(1, 2).flatten(2)


def _require_flash(q: Tensor) -> None:
    if q.dtype not in (torch.float16, torch.bfloat16) or q.shape[-1] > 256:
        raise HatcheryError(
            "The flash attention kernel cannot serve this model.",
            found=f"{q.dtype} with {q.shape[-1]} channels per head; flash takes float16 or "
            "bfloat16 and at most 256",
            remedy="use precision bf16, or choose another kernel: --model.attention sdpa",
        )


def _by_matmul(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Two matrix products and a softmax; the query heads of one key head are stacked."""
    B, H, T, D = q.shape
    K, S = k.shape[1], k.shape[2]
    if mask is None and T > 1:
        mask = causal_mask(torch.arange(T, device=q.device), S, q.dtype)
    rows = q.reshape(B * K, H // K * T, D)
    keys, values = k.reshape(B * K, S, D), v.reshape(B * K, S, D)
    if mask is None:
        scores = (rows @ keys.mT) / math.sqrt(D)
    else:  # the product is added to a copy of the mask: no pass of its own for scaling and adding
        heads = mask.to(q.dtype)[..., None, None, :, :].expand(B, K, H // K, T, S)
        start = heads.reshape(B * K, H // K * T, S)
        scores = torch.baddbmm(start, rows, keys.mT, alpha=1 / math.sqrt(D))
    weights = scores.softmax(dim=-1).to(v.dtype)  # (B * K, G * T, S)
    if dropout:
        weights = F.dropout(weights, dropout)
    mixed = (weights @ values).view(B, H, T, D)
    return mixed.transpose(1, 2).reshape(B, T, H * D)
