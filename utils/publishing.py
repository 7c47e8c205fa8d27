"""How a finished folder takes its name, and how a kill in the middle of that is mended.

The new folder lies beside its target under a hidden name, its manifest written last. A kill at
any instant leaves either the old artefact or a folder whose manifest says that it is complete.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from utils.errors import RefusedError
from utils.files import FolderLock, sync_folder

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
PLAN = "plan"


def beside(target: Path, role: str) -> Path:
    """The hidden folder next to `target` where it is built, or waits to be removed."""
    return target.with_name(f".{target.name}.{role}")


def publish(building: Path, target: Path) -> None:
    """Give the finished folder its name; the caller holds the lock of `building`."""
    old = beside(target, "old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    building.replace(target)
    _tidy(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(target: Path) -> None:
    for name in (JOURNAL, ".lock", PLAN):  # the plan goes last: it tells that this is to do
        (target / name).unlink(missing_ok=True)


def recover(target: Path) -> None:
    """Finish or undo a publication that was cut short by a kill; a living one is left alone."""
    building, old = beside(target, "building"), beside(target, "old")
    if (target / PLAN).is_file() and (target / MANIFEST).is_file():
        _tidy(target)
    if (building / MANIFEST).is_file():
        with suppress(RefusedError), FolderLock(building):  # refused: its builder is at work
            if (building / MANIFEST).is_file():
                publish(building, target)
            else:  # published by its builder while we took the lock, which made the folder again
                shutil.rmtree(building)
    elif old.exists():
        if not target.exists():
            with suppress(FileNotFoundError):  # another reader was faster
                old.replace(target)
        else:
            shutil.rmtree(old, ignore_errors=True)
