"""The device that a training would run on, found out without loading torch."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pipeline.options.data import Device, Precision
from pipeline.planning.activations import Kind
from pipeline.train.fitting import usual_speed
from utils.gpu import APPLE, Gpu, amd_gpus, is_apple, torch_built_for, visible_devices
from utils.hardware import Machine, machine, multiplies_bf16, parse_device

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
    gpu = _gpu(index or 0, here) if kind in ("auto", "cuda") else None
    if gpu is not None:
        name, total, free, half = gpu
        return Target("cuda", name, total, free, here.disk_free, half)
    if kind == "mps" or (kind == "auto" and is_apple()):
        return Target("mps", APPLE, here.memory, here.memory_available, here.disk_free, False)
    name, half = f"CPU, {here.cores} cores", multiplies_bf16()
    return Target("cpu", name, here.memory, here.memory_available, here.disk_free, half)


def guessed_speed(device: Device) -> float:
    """Operations per second that training may reach here, before anybody has measured it."""
    here = Path()
    return usual_speed(find_target(device, here).kind, machine(here).cores)


def in_half(precision: Precision, target: Target) -> bool:
    """Whether matrix products would take 16-bit numbers."""
    return target.fast_half if precision == "auto" else precision != "fp32"


def _gpu(index: int, here: Machine) -> tuple[str, int, int, bool] | None:
    """Name, memory, free memory and bfloat16 units of a GPU that torch can use, None where there is
    none; one without memory of its own has that of the machine."""
    built = torch_built_for()
    if built == "rocm":
        cards = _visible_amd(amd_gpus())
        if index >= len(cards) or cards[index].total is None:
            return None
        name, used, total = cards[index][:3]
        return name, total or 0, (total or 0) - (used or 0), True  # torch says so of every AMD GPU
    return _nvidia(index, here) if built == "cuda" else None


def _visible_amd(cards: list[Gpu]) -> list[Gpu]:
    seen = visible_devices("rocm")
    if seen is None:
        return cards
    return [cards[int(word)] for word in seen if word.isdecimal() and int(word) < len(cards)]


def _nvidia(index: int, here: Machine) -> tuple[str, int, int, bool] | None:
    import pynvml  # 20 ms where there is a driver

    total, free = here.memory, here.memory_available
    try:
        pynvml.nvmlInit()
        handle = _visible_nvidia(index)
        if handle is None:
            return None
        with suppress(pynvml.NVMLError_NotSupported):  # as on a GB10, which shares the machine's
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            total, free = int(memory.total), int(memory.free)
        major = _HALF_SINCE  # of a part of a GPU, which it does not tell: only newer ones divide
        with suppress(pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            major, _ = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        name = str(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return None
    return name, total, free, major >= _HALF_SINCE


def _visible_nvidia(index: int) -> Any:
    """NVML's handle of torch's device `index`, None where the environment hides it.

    Raises:
        pynvml.NVMLError: there is no such GPU.
    """
    import pynvml

    seen = visible_devices("cuda")
    if seen is None:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    if index >= len(seen):
        return None
    word = seen[index]
    if word.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(word))
    if word.startswith("MIG-"):
        return pynvml.nvmlDeviceGetHandleByUUID(word)
    handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
    return next((h for h in handles if str(pynvml.nvmlDeviceGetUUID(h)).startswith(word)), None)
