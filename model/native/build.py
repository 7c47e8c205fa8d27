"""Compiles C code of this package for the processor at hand, and loads it."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path

from utils.files import home_path

DECODE = Path(__file__).with_name("decode.c")

# Sums may be reordered only where the source says so: NaN and infinities keep their meaning.
_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_PROCESSOR = ("-march=native", "-mcpu=native")  # the second for compilers that have no first on ARM
_THREADING = ("-fopenmp", "-fopenmp-simd")  # the second where there is no OpenMP: one thread
_TIMEOUT = 60  # seconds; two are usual


@cache
def load(source: Path) -> ctypes.CDLL | None:
    """The library made of `source` and the headers beside it, None where there is no C compiler or
    it fails.

    It is kept in the user's cache folder under a name that says source and processor; where that
    folder cannot be written, every process compiles for itself.
    """
    try:
        cached = _cache_folder() / f"{source.stem}-{_fingerprint(source)}.so"
        if cached.is_absolute() and cached.is_file():
            return ctypes.CDLL(str(cached))
        folder = _building_folder(cached.parent)
        with folder as name:
            built = Path(name, cached.name)
            if not _compile(source, built):
                return None
            library = ctypes.CDLL(str(built))
            if Path(name).parent == cached.parent:
                built.replace(cached)
            return library
    except OSError:
        return None


def _building_folder(cache: Path) -> tempfile.TemporaryDirectory[str]:
    """A new folder in `cache`; elsewhere where that is not to be written or cannot be told."""
    if cache.is_absolute():  # else it is ~ of a user without a home, or relative by mistake
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            return tempfile.TemporaryDirectory(dir=cache)
    return tempfile.TemporaryDirectory()


def _compile(source: Path, target: Path) -> bool:
    names = (os.environ.get("CC", "cc"), "gcc", "clang")
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        return False
    for threading, processor in product(_THREADING, _PROCESSOR):
        flags = (*_FLAGS, processor, threading)
        command = [compiler, *flags, str(source), "-o", str(target), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode == 0:
            return True
    return False


def _cache_folder() -> Path:
    chosen = os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen else home_path("~/.cache")) / "hatchery"


def _fingerprint(source: Path) -> str:
    """Of the source, the flags and the processor: a home folder may be shared by machines."""
    digest = hashlib.sha256()
    for file in sorted(source.parent.glob("*.[ch]")):
        digest.update(file.read_bytes())
    digest.update(" ".join((*_FLAGS, platform.system(), platform.machine())).encode())
    try:
        lines = set(Path("/proc/cpuinfo").read_text().splitlines())
        identifying = sorted(line for line in lines if line.startswith(("flags", "model name")))
        digest.update("".join(identifying).encode())
    except OSError:
        digest.update(platform.processor().encode())
    return digest.hexdigest()[:16]
