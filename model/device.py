"""The device to compute on, the precision it is fast in, its memory and its speed, as measured."""

import resource
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UsageError
from utils.hardware import DEVICE_NAMES, parse_device

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """The device for a name such as `utils.hardware.parse_device` reads. "auto" takes the CPU only
    where there is nothing faster, of which the caller warns.

    Raises:
        UsageError: there is no such device; says which there are.
    """
    try:
        kind, index = parse_device(name)
    except ValueError as error:
        raise UsageError(
            f"{name!r} is not a device.", remedy=f"valid names: {DEVICE_NAMES}"
        ) from error
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if kind == "auto":
        kind = "cuda" if gpus else "mps" if has_mps else "cpu"
    if (kind == "cuda" and gpus <= (index or 0)) or (kind == "mps" and not has_mps):
        cards = [f"cuda:{number} ({torch.cuda.get_device_name(number)})" for number in range(gpus)]
        raise UsageError(
            f"The device {name} is not there.",
            found=", ".join(["cpu", *cards, *["mps"] * has_mps]),
            remedy="use --device auto, or --device cpu",
        )
    return torch.device(kind) if index is None else torch.device(kind, index)


def fast_half(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    On a CPU that takes AMX or AVX512-BF16 units; without them bfloat16 is about 4 x slower.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):  # it answers for the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        checks = (
            getattr(torch.cpu, name, None)
            for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
        return any(check() for check in checks if check is not None)
    return False


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in for "auto", "fp32", "bf16" or "fp16".

    Raises:
        UsageError: an unknown name, or fp16 on a CPU, where it is neither fast nor complete.
    """
    if precision == "auto":
        return torch.bfloat16 if fast_half(device) else torch.float32
    if precision not in _PRECISIONS:
        raise UsageError(
            f"{precision!r} is not a precision.", remedy="valid names: auto, fp32, bf16, fp16"
        )
    if precision == "fp16" and device.type == "cpu":
        raise UsageError(
            "Precision fp16 needs a GPU.", found="device cpu", remedy="use --precision auto"
        )
    return _PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Compute matrix products in `dtype` with float32 weights; nothing to do for float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def dtype_on(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """`dtype`, and float32 in place of float64 on Apple GPUs, which have none."""
    return torch.float32 if device.type == "mps" and dtype == torch.float64 else dtype


def float64_sum(values: Tensor) -> float:
    """The sum of all values in float64, which for Apple GPUs the CPU computes."""
    return float((values.cpu() if values.device.type == "mps" else values).double().sum())


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was queued, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: tensors on CUDA, the whole process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return _peak_of_process()


def _peak_of_process() -> int:
    """Largest resident size of this process; Linux's own count, since getrusage's begins with
    that of the process which started this one."""
    try:
        status = Path("/proc/self/status").read_bytes()
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def measured_matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, measured here in about a
    second: the 100 % of model flops utilisation on a machine without a data sheet."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)
    best = float("inf")
    deadline = time.perf_counter() + 0.5
    while time.perf_counter() < deadline:
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, a, out=out)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)
