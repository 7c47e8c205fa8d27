"""Weights in 8 or 4 bits: a model that only reads, in a quarter of the memory or less.

Activations stay numbers of the model's dtype between products, in which torch's kernels round them
to bfloat16 and `model/native` to 16 bit integers. Decoding waits for memory, so fewer bytes
per weight are more tokens per second. int8 has one scale per output channel; int4 has a scale and a
zero per group of inputs (Dettmers & Zettlemoyer 2022, "The case for 4-bit precision", on why
groups). The token table and the head are int8 in both forms, and one table where they are tied.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.device import fast_half

Form: TypeAlias = Literal["int8", "int4"]

GROUP = 32
"""Inputs that share a scale and a zero in int4, which with both makes 5 bits a weight."""

_INT8_INPUTS = 16  # torch's kernel for CPUs reads past the end of rows that are no multiple of it
_INT4_OUTPUTS = 16  # rows that torch's int4 kernel packs together
_MANY_ROWS = 32  # from here on a product in bfloat16 with the weights in full is faster

_aten = torch.ops.aten


class Int8Linear(nn.Module):
    """y = x W^T + b with W in int8: (..., C) -> (..., F), in the dtype of x. It has no `weight`.

    |W - stored| <= scale / 2, the scale being a row's largest |weight| / 127 as a bfloat16.
    `shape` is (F, C), in every form.
    """

    quantized: Tensor  # (F, C) int8
    scales: Tensor  # (F,) bfloat16
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        weight = weight.float()
        self.shape = weight.shape
        scales = (weight.abs().amax(1) / 127).bfloat16()
        scales = torch.where(scales == 0, torch.ones_like(scales), scales)
        quantized = (weight / scales.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        _register(self, quantized=quantized, scales=scales, bias=bias)
        device = weight.device
        self.fast = weight.shape[1] % _INT8_INPUTS == 0 and _int8_works(device)
        self._half = device.type == "cpu" and fast_half(device)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.fast and not (self._half and len(rows) >= _MANY_ROWS):
            y = _aten._weight_int8pack_mm(rows.bfloat16(), self.quantized, self.scales)
        else:
            y = _int8_plain(rows.bfloat16() if self._half else rows, self.quantized, self.scales)
        return _finish(y, x, self.bias)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of W, as an embedding: ids (...) int64 -> (..., C) float32."""
        return self.quantized[ids].float() * self.scales[ids].float()[..., None]


class Int4Linear(nn.Module):
    """y = x W^T + b with W in 4 bits: (..., C) -> (..., F), in the dtype of x. It has no `weight`.

    In a group of `GROUP` inputs W is about (q - 8) * scale + zero with q in 0 ... 15: the error is
    at most scale / 2 and what the two lose as bfloat16.
    """

    quantized: Tensor  # (F, C / 2) uint8 as `_halves` packs it; on CUDA as its kernel wants it
    factors: Tensor  # (F, C / GROUP, 2) bfloat16: scale and zero; on CUDA (C / GROUP, F, 2)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.shape = weight.shape
        quantized, factors = to_int4(weight.float())
        self.fast = _int4_works(weight.device)
        self._multiply = _int4_cuda if self.fast else _int4_plain
        if self.fast:
            quantized, factors = _pack_cuda(quantized), factors.transpose(0, 1).contiguous()
        else:
            quantized = _halves(quantized)
        _register(self, quantized=quantized, factors=factors, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self._multiply(x.reshape(-1, x.shape[-1]), self.quantized, self.factors)
        return _finish(y, x, self.bias)


class Int8Table(nn.Module):
    """An embedding whose rows are those of an `Int8Linear`: ids (...) -> (..., C) in `dtype`."""

    def __init__(self, table: Int8Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.table, self.dtype = table, dtype

    def forward(self, ids: Tensor) -> Tensor:
        return self.table.rows(ids).to(self.dtype)


def quantized_linear(weight: Tensor, bias: Tensor | None, form: Form) -> Int8Linear | Int4Linear:
    """`weight` (F, C) in `form`; int8 where its sizes do not suit int4."""
    if form == "int4" and suits_int4(*weight.shape):
        return Int4Linear(weight, bias)
    return Int8Linear(weight, bias)


def suits_int4(outputs: int, inputs: int) -> bool:
    """Whether a matrix divides into whole groups and into what the kernels pack together."""
    return inputs % GROUP == 0 and outputs % _INT4_OUTPUTS == 0


def matrix_bytes(outputs: int, inputs: int, form: Form) -> int:
    """Bytes that `quantized_linear` stores for a matrix, without its bias."""
    if form == "int4" and suits_int4(outputs, inputs):
        return outputs * inputs // 2 + 4 * outputs * (inputs // GROUP)
    return outputs * inputs + 2 * outputs


def to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (F, C) float32 as (F, C) int32 in 0 ... 15 and factors (F, C / GROUP, 2) bfloat16.

    A group's smallest and largest weight are 0 and 15.
    """
    groups = weight.view(weight.shape[0], -1, GROUP)  # (F, C / GROUP, GROUP)
    low, high = groups.aminmax(dim=-1)
    scale = ((high - low) / 15).bfloat16()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (low + 8 * scale.float()).bfloat16()
    steps = (groups - zero.float()[..., None]) / scale.float()[..., None]
    quantized = (steps.round_() + 8).clamp_(0, 15).to(torch.int32).view(weight.shape)
    return quantized, torch.stack((scale, zero), dim=-1)


def from_int4(quantized: Tensor, factors: Tensor) -> Tensor:
    """The weights (F, C) float32 that `to_int4` stored."""
    scale, zero = factors.float().permute(2, 0, 1)[..., None]  # (F, C / GROUP, 1) each
    steps = quantized.view(quantized.shape[0], -1, GROUP).float() - 8
    weights: Tensor = steps * scale + zero
    return weights.view(quantized.shape)


def _register(module: nn.Module, **buffers: Tensor | None) -> None:
    """Keep tensors that `.to(device)` moves and that no checkpoint holds."""
    for name, tensor in buffers.items():
        module.register_buffer(name, tensor, persistent=False)


def _finish(y: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    y = y.to(x.dtype).view(*x.shape[:-1], y.shape[-1])
    return y if bias is None else y + bias


def _int8_plain(x: Tensor, quantized: Tensor, scales: Tensor) -> Tensor:
    return F.linear(x, quantized.to(x.dtype)) * scales.to(x.dtype)


def _int4_plain(x: Tensor, quantized: Tensor, factors: Tensor) -> Tensor:
    halves = quantized.view(len(quantized), -1, GROUP // 2)  # (F, C / GROUP, GROUP / 2)
    whole = torch.cat((halves & 15, halves >> 4), dim=-1).flatten(1)
    return F.linear(x, from_int4(whole, factors).to(x.dtype))


def _int4_cuda(x: Tensor, quantized: Tensor, factors: Tensor) -> Tensor:
    y: Tensor = _aten._weight_int4pack_mm(x.bfloat16(), quantized, GROUP, factors)
    return y


def _halves(quantized: Tensor) -> Tensor:
    """Two weights a byte, those of a group's first half low: (F, C) int32 -> (F, C / 2) uint8."""
    first, rest = quantized.view(len(quantized), -1, 2, GROUP // 2).unbind(2)
    return (first | rest << 4).to(torch.uint8).flatten(1)


def _pack_cuda(quantized: Tensor) -> Tensor:
    tiles = next(n for n in (8, 4, 2) if quantized.shape[1] % (16 * n) == 0)
    pairs = (quantized[:, ::2] << 4 | quantized[:, 1::2]).to(torch.uint8)
    packed: Tensor = _aten._convert_weight_to_int4pack(pairs.contiguous(), tiles)
    return packed


@cache
def _int8_works(device: torch.device) -> bool:
    """Whether torch multiplies int8 weights on `device`: tried once, on a small matrix."""
    x, quantized = _example(device)
    eight, scales = (quantized - 8).to(torch.int8), torch.full((64,), 0.125).bfloat16().to(device)
    return _agree(
        lambda: _aten._weight_int8pack_mm(x.bfloat16(), eight, scales),
        _int8_plain(x, eight, scales),
    )


@cache
def _int4_works(device: torch.device) -> bool:
    """The same for 4 bits, of which only CUDA's kernel is used: for CPUs `model/native` has a
    faster one."""
    if device.type != "cuda":
        return False
    x, quantized = _example(device)
    factors = torch.full((4, 64, 2), 0.125).bfloat16().to(device)
    expected = _int4_plain(x, _halves(quantized), factors.transpose(0, 1))
    return _agree(lambda: _int4_cuda(x, _pack_cuda(quantized), factors), expected)


def _example(device: torch.device) -> tuple[Tensor, Tensor]:
    """Activations (3, 128) and weights (64, 128) int32 in 0 ... 15, all exact in bfloat16."""
    numbers = torch.arange(64 * 128, device=device)
    x = (numbers[: 3 * 128] * 7 % 5 - 2).view(3, 128).float()
    return x, (numbers * 11 % 17 % 16).view(64, 128).to(torch.int32)


def _agree(kernel: Callable[[], Tensor], expected: Tensor) -> bool:
    try:
        found = kernel().float()
    except (RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found, expected.float(), rtol=2**-7, atol=2**-7)
