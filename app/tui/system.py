"""This machine: its load at one moment (processor, memory, disk, GPUs through NVML), and how fast
it trained."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from utils.hardware import machine


class Gpu(NamedTuple):
    """One GPU: memory in bytes, load as a share of 1, temperature in degrees Celsius."""

    name: str
    used: int
    total: int
    load: float
    temperature: int | None


class Reading(NamedTuple):
    """Sizes in bytes, loads as shares of 1; `gpus` is empty where there is none."""

    cores: int
    cpu: float
    memory_used: int
    memory_total: int
    disk_free: int
    disk_total: int
    gpus: tuple[Gpu, ...]


class MeasuredSpeed(NamedTuple):
    """What a probe of training found: tokens and floating-point operations per second, the most
    bytes in use, the steps it timed, and the settings it was made with."""

    tokens_per_second: float
    flops_per_second: float
    memory: int
    steps: int
    settings: tuple[object, ...]


class SystemReader:
    """Reads the machine again and again. `folder` is on the disk that matters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles = _open_gpus()
        import psutil  # 10 ms that the first frame need not wait for

        self._times = psutil.cpu_times
        self._before = self._times()

    def read(self) -> Reading:
        """The machine now; load is the mean since the last call."""
        now = machine(self._folder)
        return Reading(
            cores=now.cores,
            cpu=self._load(),
            memory_used=now.memory - now.memory_available,
            memory_total=now.memory,
            disk_free=now.disk_free,
            disk_total=now.disk_total,
            gpus=tuple(gpu for handle in self._handles if (gpu := _gpu(handle)) is not None),
        )

    def _load(self) -> float:
        """psutil's own percentage remembers a last call per thread, and each of ours is new."""
        before, now = self._before, self._times()
        self._before = now
        passed = sum(now) - sum(before)
        resting = sum(getattr(now, n, 0) - getattr(before, n, 0) for n in ("idle", "iowait"))
        return 1 - resting / passed if passed > 0 else 0.0


def _open_gpus() -> list[Any]:
    """NVML handles of all GPUs, none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _gpu(handle: Any) -> Gpu | None:
    """A GPU's reading; None when it has fallen off the bus."""
    import pynvml

    temperature = None
    try:
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        load = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        with suppress(pynvml.NVMLError):
            temperature = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    except pynvml.NVMLError:
        return None
    return Gpu(str(name), int(memory.used), int(memory.total), load, temperature)
