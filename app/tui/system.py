"""This machine: its load at one moment (processor, memory, disk, GPUs), and how fast it trained."""

from pathlib import Path
from typing import NamedTuple

from utils.gpu import Gpu, GpuReader
from utils.hardware import machine


class Reading(NamedTuple):
    """Sizes in bytes, loads as shares of 1. `gpus` is empty where none can be seen; `gpu_note` says
    why training does not use one, where that is not plain."""

    cores: int
    cpu: float
    memory_used: int
    memory_total: int
    disk_free: int
    disk_total: int
    gpus: tuple[Gpu, ...]
    gpu_note: str = ""


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
        self._gpus = GpuReader()
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
            gpus=self._gpus.read(),
            gpu_note=self._gpus.note,
        )

    def _load(self) -> float:
        """psutil's own percentage remembers a last call per thread, and each of ours is new."""
        before, now = self._before, self._times()
        self._before = now
        passed = sum(now) - sum(before)
        resting = sum(getattr(now, n, 0) - getattr(before, n, 0) for n in ("idle", "iowait"))
        return 1 - resting / passed if passed > 0 else 0.0
