"""Tensors in files: the safetensors format, written durably and hashed on the way.

Layout (huggingface/safetensors, README): the length of the header as 8 bytes, little endian; the
header, JSON with dtype, shape and byte range of each tensor; the bytes of all tensors.
"""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from utils.errors import RefusedError
from utils.files import Written, durable_file

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_FORBIDDEN = re.compile(r"[Uu]nsupported (?:GLOBAL|global: GLOBAL) ([\w.]+)")


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> Written:
    """Durably write a safetensors file, one tensor at a time: no second copy in memory.

    `dtype` converts every tensor on the way; None keeps each as it is.

    Raises:
        DiskFullError: the disk is full; whatever was at `path` is untouched.
    """
    kinds = {name: dtype or tensor.dtype for name, tensor in tensors.items()}
    # Wide types first, so that every tensor begins at a multiple of its element size.
    names = sorted(tensors, key=lambda name: (-kinds[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * kinds[name].itemsize
        header[name] = {
            "dtype": _NAMES[kinds[name]],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with durable_file(path) as out:
        out.write(len(text).to_bytes(8, "little"))
        out.write(text)
        for name in names:
            flat = tensors[name].detach().cpu().to(kinds[name]).contiguous().reshape(-1)
            out.write(flat.view(torch.uint8).numpy().data)
    return out.written


def tensor_count(path: Path) -> int:
    """How many tensors a safetensors file holds, by its header alone.

    Raises:
        RefusedError: the file is missing or is not a whole safetensors file.
    """
    try:
        with safe_open(path, "pt") as opened:
            return len(opened.keys())
    except (OSError, SafetensorError) as error:
        raise RefusedError(f"{path} cannot be read: {error}.") from error


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        RefusedError: the file is missing or is not a whole safetensors file.
    """
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise RefusedError(f"{path} cannot be read: {error}.") from error


def read_pickled(path: Path) -> dict[str, Any]:
    """The dictionary in a `.pt` or `.bin` file; nothing in it is ever executed.

    Raises:
        RefusedError: unreadable, not a dictionary, or holding more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():  # of a pickle protocol that most such files have
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and OS errors alike
        raise RefusedError(
            f"{path} cannot be read as plain tensors.",
            found=_why_unreadable(error),
            remedy="save it again as safetensors with the program that made it",
        ) from error
    if not isinstance(found, dict):
        raise RefusedError(f"{path} holds no dictionary.", found=type(found).__name__)
    return found


def _why_unreadable(error: Exception) -> str:
    """What torch found, without its advice to load the file in a way that runs its code."""
    text = str(error)
    if forbidden := _FORBIDDEN.search(text):
        return f"it wants to call {forbidden[1]}, which may run any code"
    if isinstance(error, UnpicklingError):
        return "a pickle of something else than tensors"
    return text.split("\n", 1)[0]
