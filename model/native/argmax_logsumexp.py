"""What every drawn token needs of its scores, in one pass where a C compiler is at hand."""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from model.native.build import DECODE, load

_pointer, _int, _long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class Summary(NamedTuple):
    """Of each row of scores: where the largest is (int64), and the logarithm of the sum of all
    exponentials (float32), both (rows,)."""

    places: Tensor
    totals: Tensor


def summary(scores: Tensor) -> Summary:
    """Of scores (rows, n) float32, on any device; a NaN makes its row's total NaN."""
    library = load(DECODE) if scores.device.type == "cpu" and scores.stride(1) == 1 else None
    if library is None:
        return Summary(scores.argmax(dim=-1), scores.logsumexp(dim=-1))
    rows, count = scores.shape
    found = Summary(torch.empty(rows, dtype=torch.int64), torch.empty(rows))
    library.summarise(
        _pointer(scores.data_ptr()),
        _long(scores.stride(0)),
        _int(rows),
        _int(count),
        *(_pointer(tensor.data_ptr()) for tensor in found),
    )
    return found
