"""The device that a training would run on, found out without loading torch."""

import importlib.util
import platform
import sys
from pathlib import Path

import msgspec

from pipeline.options.data import Device, Precision
from pipeline.planning.activations import Kind
from utils.hardware import machine, multiplies_bf16, parse_device

_HALF_SINCE = 8  # major compute capability with bfloat16 units: Ampere


class Target(msgspec.Struct, frozen=True):
    """Where a training would run: memory of the device and disk in bytes; `fast_half` says that
    it multiplies 16-bit matrices faster, which is what precision auto goes by."""

    kind: Kind
    name: str
    memory: int
    memory_free: int
    disk_free: int
    fast_half: bool


def find_target(device: Device, folder: Path) -> Target:
    """What `--device` means here; checkpoints would go to `folder`.

    A device that is not there is described as far as it can be; training refuses it.
    """
    here, (kind, index) = machine(folder), parse_device(device)
    gpu = _gpu(index or 0) if kind in ("auto", "cuda") and _torch_has_cuda() else None
    if gpu is not None:
        name, total, free, half = gpu
        return Target("cuda", name, total, free, here.disk_free, half)
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if kind == "mps" or (kind == "auto" and apple):
        name = "Apple GPU"
        return Target("mps", name, here.memory, here.memory_available, here.disk_free, False)
    name, half = f"CPU, {here.cores} cores", multiplies_bf16()
    return Target("cpu", name, here.memory, here.memory_available, here.disk_free, half)


def in_half(precision: Precision, target: Target) -> bool:
    """Whether matrix products would take 16-bit numbers."""
    return target.fast_half if precision == "auto" else precision != "fp32"


def _torch_has_cuda() -> bool:
    """Whether the torch that is installed was built for CUDA, by the library it then holds."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    return any((Path(found.origin).parent / "lib").glob("*torch_cuda.*"))


def _gpu(index: int) -> tuple[str, int, int, bool] | None:
    """Name, memory, free memory and bfloat16 units of a GPU, None where there is none."""
    import pynvml  # 20 ms where there is a driver

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        major, _ = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        name = str(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return None
    return name, int(memory.total), int(memory.free), major >= _HALF_SINCE
