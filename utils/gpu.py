"""This machine's GPUs: NVIDIA's through NVML (the library of the driver), AMD's through the files
of Linux's amdgpu driver, Apple's by the platform. Never loads torch.

A GPU that cannot be read costs only itself: it stays in the list with the reason in `Gpu.fault`.
"""

import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

_AMD = "0x1002"  # PCI vendor, https://docs.kernel.org/gpu/amdgpu/driver-misc.html
_CARD = re.compile(r"card\d+")  # not its connectors, such as card0-DP-1
_CARDS = Path("/sys/class/drm")
APPLE, _UNNAMED = "Apple GPU", "NVIDIA GPU"
_LOST = "lost: restart the machine"
# By the number of an NVML error, since `nvmlReturn_t` is all that every release agrees on.
_FAULTS = {
    4: "no permission to read it",
    8: "its power cables are not connected",
    9: "its driver is not loaded",
    15: _LOST,
    16: "needs a reset: restart the machine",
    18: "driver and its library differ: restart",
}
_NEEDED = {"cuda": "NVIDIA", "rocm": "AMD"}
_VISIBLE = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "rocm": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
_NO_GPU = (6, 12)  # not found; no such library
_GONE = (15, 16)

Value = TypeVar("Value")
Built = Literal["cuda", "rocm", "cpu"]


class Gpu(NamedTuple):
    """One GPU, or one MIG instance of a GPU, at one moment. Memory in bytes, None where it has none
    of its own; load as a share of 1 and temperature in degrees Celsius, None where the driver does
    not tell. With a `fault` nothing else is known of it."""

    name: str
    used: int | None
    total: int | None
    load: float | None = None
    temperature: int | None = None
    fault: str = ""


class GpuReader:
    """Reads the GPUs again and again. `note` says why none can be seen although there may be one,
    or why training will not use them."""

    def __init__(self, cards: Path = _CARDS) -> None:
        self.note = ""
        self._names: dict[int, str] = {}
        self._nvidia = self._open_nvidia()
        self._amd = [] if self._nvidia else _amd_cards(cards)
        needed = "cuda" if self._nvidia else "rocm" if self._amd else None
        if needed is not None and torch_built_for() not in (needed, None):
            self.note = f"not used: this torch is not for {_NEEDED[needed]}"

    def read(self) -> tuple[Gpu, ...]:
        """All GPUs, in the order of the driver."""
        found = [gpu for index in range(self._nvidia) for gpu in self._nvidia_gpu(index)]
        found += [_amd_gpu(card) for card in self._amd]
        if not found and is_apple():
            found.append(Gpu(APPLE, None, None))
        return tuple(found)

    def _open_nvidia(self) -> int:
        """How many GPUs NVML counts."""
        import pynvml  # 20 ms where there is a driver

        try:
            pynvml.nvmlInit()
            return int(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError as error:
            if error.value not in _NO_GPU:
                self.note = f"NVIDIA GPU: {_reason(error)}"
            return 0

    def _nvidia_gpu(self, index: int) -> list[Gpu]:
        """A GPU, or the MIG instances that it is divided into."""
        import pynvml

        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = _told(pynvml.nvmlDeviceGetName, handle)
            self._names[index] = str(name) if name else _UNNAMED
            instances = _mig_instances(handle)
        except pynvml.NVMLError as error:
            return [self._faulty(index, error)]
        if instances is None:
            instances = [handle]
        elif not instances:
            return [Gpu(self._names[index], None, None, fault="MIG is on, with no instance")]
        measured = []
        for one in instances:
            try:
                measured.append(_measured(one, self._names[index]))
            except pynvml.NVMLError as error:
                measured.append(self._faulty(index, error))
        return measured

    def _faulty(self, index: int, error: Any) -> Gpu:
        name = self._names.get(index, _UNNAMED)
        return Gpu(name, None, None, fault=_reason(error))


def is_apple() -> bool:
    """Whether this is a Mac whose GPU shares the memory of its processor."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def torch_built_for() -> Built | None:
    """What the torch that is installed computes on beside the CPU, by the libraries it holds; None
    where there is no torch."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    libraries = Path(found.origin).parent / "lib"
    if any(libraries.glob("*torch_cuda.*")):
        return "cuda"
    return "rocm" if any(libraries.glob("*torch_hip.*")) else "cpu"


def visible_devices(built: Built) -> list[str] | None:
    """The GPUs that the environment lets a program use, in the order of its device numbers: numbers
    of the driver, or the beginnings of UUIDs (`GPU-...`, `MIG-...`). None where all are.

    As CUDA reads it (CUDA C++ Programming Guide, environment variables): what follows a word that
    is none of these is hidden, and so is everything where one is named twice.
    """
    given = [os.environ[name] for name in _VISIBLE.get(built, ()) if name in os.environ]
    if not given:
        return None
    seen: list[str] = []
    for word in map(str.strip, given[0].split(",")):
        if not (word.isdecimal() or word.startswith(("GPU-", "MIG-"))):
            break
        if word in seen:
            return []
        seen.append(word)
    return seen


def amd_gpus(cards: Path = _CARDS) -> list[Gpu]:
    """The GPUs that Linux's amdgpu driver runs."""
    return [_amd_gpu(card) for card in _amd_cards(cards)]


def _reason(error: Any) -> str:
    return _FAULTS.get(error.value) or f"NVML says {error}"


def _told(ask: Callable[..., Value], *about: Any) -> Value | None:
    """An answer of NVML, None where there is none for this GPU.

    Raises:
        pynvml.NVMLError: the GPU is gone.
    """
    import pynvml

    try:
        return ask(*about)
    except pynvml.NVMLError as error:
        if error.value in _GONE:
            raise
        return None


def _mig_instances(handle: Any) -> list[Any] | None:
    """The MIG instances of a GPU, None where it is not divided."""
    import pynvml

    mode = _told(pynvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    most = _told(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    instances = (
        _told(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number) for number in range(most)
    )
    return [one for one in instances if one is not None]


def _measured(handle: Any, parent: str) -> Gpu:
    """What NVML knows of a GPU or an instance of the GPU named `parent`.

    Raises:
        pynvml.NVMLError: its memory may not be read, or it is gone.
    """
    import pynvml

    name = _told(pynvml.nvmlDeviceGetName, handle) or parent
    used = total = None
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        used, total = int(memory.used), int(memory.total)
    except pynvml.NVMLError_NotSupported:
        pass  # of the machine, as in a GB10
    rates = _told(pynvml.nvmlDeviceGetUtilizationRates, handle)
    heat = _told(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    load = None if rates is None else rates.gpu / 100
    return Gpu(str(name), used, total, load, heat)


def _amd_cards(cards: Path) -> list[Path]:
    """The folders of AMD's GPUs, each with the files of its driver."""
    found = sorted(card / "device" for card in cards.glob("card*") if _CARD.fullmatch(card.name))
    return [
        card
        for card in found
        if _line(card / "vendor") == _AMD and _number(card / "mem_info_vram_total")
    ]


def _amd_gpu(card: Path) -> Gpu:
    total, used = _number(card / "mem_info_vram_total"), _number(card / "mem_info_vram_used")
    name = _line(card / "product_name") or "AMD GPU"
    if total is None or used is None:
        return Gpu(name, None, None, fault=_LOST)
    load = _number(card / "gpu_busy_percent")
    sensors = (_number(sensor) for sensor in sorted(card.glob("hwmon/hwmon*/temp1_input")))
    heat = next((value for value in sensors if value is not None), None)  # thousandths of a degree
    return Gpu(
        name,
        used,
        total,
        None if load is None else load / 100,
        None if heat is None else round(heat / 1000),
    )


def _line(file: Path) -> str:
    """What a file of the kernel says, empty where it cannot be read."""
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _line(file)
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() else None
