"""The temporary folder of a rehearsal: beside the data, gone afterwards, never in anyone's way."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import HatcheryError, RefusedError
from utils.files import FolderLock, existing_parent, raise_disk_error
from utils.units import human_bytes

_PREFIX = ".rehearsal-"


class Room:
    """A folder to rehearse in; it outlives the rehearsal only when `kept`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = False

    @property
    def described(self) -> str:
        """Where it is and how large."""
        size = sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
        return f"{self.path} ({human_bytes(size)})"


@contextmanager
def rehearsal_room(data_dir: Path) -> Iterator[Room]:
    """A new folder on the disk of `data_dir`; those that ended rehearsals left are removed.

    Raises:
        HatcheryError: nothing can be written there.
    """
    place = existing_parent(data_dir)
    for abandoned in {*data_dir.glob(f"{_PREFIX}*"), *place.glob(f"{_PREFIX}*")}:
        _remove_unless_used(abandoned)
    try:
        room = Room(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)))
    except OSError as error:
        raise_disk_error(error, place)
        raise HatcheryError(
            f"{place.absolute()} cannot be written: {error.strerror}.",
            found="a rehearsal needs a temporary folder where the data is, or will be",
            remedy="check its rights, or set paths.data_dir to a folder of yours",
        ) from error
    with FolderLock(room.path):
        try:
            yield room
        finally:
            if not room.kept:
                shutil.rmtree(room.path, ignore_errors=True)


def _remove_unless_used(folder: Path) -> None:
    """Remove what a kill, or a rehearsal that failed, has left; a living one holds its lock."""
    with suppress(RefusedError, OSError):
        folder.rmdir()  # killed before it was locked
        return
    if (folder / ".lock").is_file():
        with suppress(HatcheryError), FolderLock(folder):
            shutil.rmtree(folder, ignore_errors=True)
