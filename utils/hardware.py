"""What this machine has, how its devices are named, and the one allocator setting that training
on a CPU needs."""

import ctypes
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec

from utils.files import existing_parent

# glibc mallopt parameter numbers (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


DEVICE_NAMES = "auto, cpu, cuda, cuda:N, mps"
_DEVICE = re.compile(r"(auto|cpu|cuda|mps)|(cuda):([0-9]{1,4})")


class DeviceName(NamedTuple):
    """A device as users name it; `number` counts from 0 the GPUs that CUDA sees, None where the
    name leaves it open."""

    kind: Literal["auto", "cpu", "cuda", "mps"]
    number: int | None = None


def parse_device(name: str) -> DeviceName:
    """What "auto", "cpu", "cuda", "cuda:N" or "mps" stands for; whether it is there, torch knows.

    Raises:
        ValueError: no such name.
    """
    match = _DEVICE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a device: valid names are {DEVICE_NAMES}")
    number = None if match[3] is None else int(match[3])
    return DeviceName(cast(Literal["auto", "cpu", "cuda", "mps"], match[1] or match[2]), number)


class Machine(msgspec.Struct, frozen=True):
    """Processor cores this process may use, memory and disk in bytes, and the platform."""

    cores: int
    memory: int
    memory_available: int
    disk_free: int
    disk_total: int
    system: str
    python: str


def machine(folder: Path = Path()) -> Machine:
    """Measure this machine; the disk is the one that holds `folder`, which need not exist yet."""
    import psutil  # 10 ms that `--help` need not pay

    memory = psutil.virtual_memory()
    limit = int(min(memory.total, _container_memory()))
    disk = shutil.disk_usage(existing_parent(folder))
    return Machine(
        cores=usable_cores(),
        memory=limit,
        memory_available=min(memory.available, limit),
        disk_free=disk.free,
        disk_total=disk.total,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def usable_cores() -> int:
    """Cores this process may run on, which in a container is fewer than the machine has."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _control_group("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, -(-int(quota) // int(period)))
    return max(1, cores)


def _container_memory() -> float:
    """Bytes this process's container may use; infinity where nothing limits it."""
    limit = _control_group("memory.max")
    return int(limit) if limit.isdigit() else float("inf")


def _control_group(name: str) -> str:
    """A limit of the Linux control group (version 2) that a container sees as its root."""
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""


def multiplies_bf16() -> bool:
    """Whether the processor has units for bfloat16 products (AMX or AVX512-BF16), asked of Linux;
    `model.device.fast_half` asks torch."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in described.splitlines() if line.startswith("flags")), "")
    return not {"amx_tile", "avx512_bf16"}.isdisjoint(flags.split())


def has_compiler() -> bool:
    """Whether a C++ compiler is there, which torch.compile needs on a CPU."""
    return any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))


def keep_heap() -> bool:
    """Make glibc keep freed memory instead of returning it to the system; True where it applies.

    Fresh output tensors otherwise page-fault at every operation: worth 1.2 to 1.5 x in training
    on a CPU. Call it before torch is imported. Elsewhere than on glibc nothing happens.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)


def release_heap() -> None:
    """Give memory that was freed back to the system, also where `keep_heap` holds on to it."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
