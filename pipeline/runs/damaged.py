"""What is wrong with what lies in the folder of runs: half-written, cut, set aside, left over.

Compares names and sizes with manifests; nothing is hashed, which loading does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.runs import folders
from utils.artefacts import MANIFEST, read_manifest
from utils.errors import HatcheryError

_DELETED, _BUILDING = ".deleted_", ".building"


@dataclass(frozen=True)
class Fault:
    """Something that cannot be used as it is, `why` in a few words; `run` is the run it lies in,
    None beside the runs. `size` is in bytes, `modified` in seconds since 1970."""

    path: Path
    run: str | None
    why: str
    size: int
    modified: float


def faults(checkpoints_dir: Path) -> list[Fault]:
    """Everything unusable, and runs without a checkpoint."""
    found: list[Fault] = []
    for entry in _entries(checkpoints_dir):
        if entry.is_symlink() or not entry.is_dir():
            continue
        if entry.name.startswith(_DELETED):
            found.append(_fault(entry, None, "left over from a deletion"))
        elif not entry.name.startswith(".") and not (entry / MANIFEST).exists():
            found += _in_run(entry)
    return found


def _in_run(run: Path) -> Iterator[Fault]:
    """The faults in a run folder; last, that it has no checkpoint at all."""
    usable = False
    for entry in _entries(run):
        if not entry.is_dir() or entry.is_symlink():
            usable = usable or entry.suffix == ".pt"
            continue
        why = _why(entry)
        usable = usable or not why
        if why:
            yield _fault(entry, run.name, why)
    record = (run / "run.json").exists()
    if not usable and (record or run.name.startswith(("run_", "sft_"))):
        yield _fault(run, None, "no checkpoint yet" if record else "no run.json and no checkpoint")


def _why(entry: Path) -> str:
    """What is wrong with an entry of a run folder; empty where nothing is."""
    if entry.name.startswith(_DELETED):
        return "left over from a deletion"
    if entry.name.startswith(".checkpoint_") and entry.name.endswith(_BUILDING):
        return "half-written: saving it was cut short, or goes on now"
    if entry.suffix == ".corrupt":
        return "damaged, and set aside"
    return incomplete(entry) if entry.name.startswith("checkpoint_step_") else ""


def incomplete(checkpoint: Path) -> str:
    """What a checkpoint of ours lacks by its manifest; empty where it is whole by name and size."""
    try:
        manifest = read_manifest(checkpoint)
    except HatcheryError:
        return f"damaged: {MANIFEST} cannot be trusted"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if manifest is None:
        return f"half-written: no {MANIFEST}"
    for name, expected in manifest.files.items():
        try:
            size = (checkpoint / name).stat().st_size
        except OSError:
            return f"damaged: {name} is missing"
        if size != expected.bytes:
            return f"damaged: {name} has {size:,} bytes of {expected.bytes:,}"
    return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _fault(path: Path, run: str | None, why: str) -> Fault:
    try:
        modified = path.stat().st_mtime
    except OSError:
        modified = 0.0
    return Fault(path, run, why, folder_size(path), modified)


def folder_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() and not file.is_symlink() else 0
        except OSError:
            continue
    return total


def is_step(path: Path) -> bool:
    """Whether `path` is called like a step checkpoint."""
    try:
        folders.step_of(path)
    except ValueError:
        return False
    return True
