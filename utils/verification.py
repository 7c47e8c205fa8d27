"""Files compared with the manifest of the artefact that they belong to: whole, or while read."""

import hashlib
import io
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from utils.artefacts import MANIFEST, Manifest, aside, read_manifest
from utils.errors import RefusedError
from utils.files import Written, hash_file

_READ_BYTES = 1 << 18
_DEEPEST = 4  # folders above a file that may be the artefact that holds it


def verify(folder: Path, only: Sequence[str] | None = None) -> Manifest:
    """Check every file (or those named in `only`) against the manifest and return it.

    Raises:
        RefusedError: no manifest, or a file is missing, cut, or differs in a single bit.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise RefusedError(
            f"{folder} is not complete: it has no {MANIFEST}.",
            found="an interrupted write, or a folder of another program",
            remedy="run the stage that makes it again, it goes on where it stopped",
        )
    again = f"{aside(folder)}; or copy it again from where it came"
    for name in manifest.files if only is None else only:
        expected, path = manifest.files.get(name), folder / name
        if expected is None:
            raise RefusedError(
                f"{folder} has no {name}.",
                found=f"its manifest lists {', '.join(sorted(manifest.files)[:8])}",
                remedy=again,
            )
        if not path.is_file():
            raise RefusedError(f"{path} is missing.", found="its manifest lists it", remedy=again)
        found = hash_file(path)
        if found != expected:
            raise DamagedFileError(path, manifest, expected, found, remedy=again)
    return manifest


class DamagedFileError(RefusedError):
    """A file of an artefact is not what the manifest of its folder says."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        expected: Written,
        found: Written,
        remedy: str,
        commands: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self.path, self.manifest = path, manifest
        self.expected, self.read = expected, found
        super().__init__(
            f"{path} is damaged.",
            found=f"{found.bytes} bytes with SHA-256 {found.sha256[:16]}…, where the manifest "
            f"says {expected.bytes} bytes with {expected.sha256[:16]}…",
            remedy=remedy,
            commands=commands,
        )

    def __reduce__(self) -> Any:
        """Workers send their errors through a pipe; the remedy is then a finished text."""
        made = (self.path, self.manifest, self.expected, self.read, self.remedy)
        return type(self), made, self.__dict__


class _Listed(NamedTuple):
    """A file of an artefact and what the manifest says of it."""

    folder: Path
    manifest: Manifest
    expected: Written


def _listed(path: Path) -> _Listed | None:
    """What the artefact that holds `path` says of it; None where none does.

    Raises:
        RefusedError: the manifest is damaged.
    """
    for folder in path.absolute().parents[:_DEEPEST]:
        try:
            stat = (folder / MANIFEST).stat()
        except OSError:
            continue
        manifest = _manifest_of(folder, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
        name = path.absolute().relative_to(folder).as_posix()
        if manifest is not None and name in manifest.files:
            return _Listed(folder, manifest, manifest.files[name])
    return None


@lru_cache(maxsize=8)
def _manifest_of(folder: Path, state: tuple[int, int, int]) -> Manifest | None:
    """The manifest of `folder`, None for a file of that name of another program; `state` is its
    place, size and time, so that a changed one is read again."""
    try:
        return read_manifest(folder)
    except RefusedError:
        content = (folder / MANIFEST).read_bytes()
        if any(key in content for key in (b'"made_by"', b'"fingerprint"')):
            raise
        return None


def open_checked(path: Path) -> IO[bytes]:
    """Open a file for reading. Where the manifest of its folder lists it, the bytes are hashed
    as they are read, and the end of the file is not reached before they are compared.

    A reader that jumps, or stops before the end, has no check: see `verify`.

    Raises:
        OSError: it cannot be opened.
        RefusedError: the manifest is damaged; from a read, a DamagedFileError.
    """
    listed = _listed(path)
    handle = path.open("rb", buffering=0)
    if listed is None:
        return io.BufferedReader(handle, _READ_BYTES)
    return io.BufferedReader(_Checked(handle, path, listed), _READ_BYTES)


def check_file(path: Path) -> None:
    """Compare a file with the manifest that lists it, for readers that jump or stop early.

    Raises:
        DamagedFileError: they differ.
    """
    listed = _listed(path)
    if listed is not None and (found := hash_file(path)) != listed.expected:
        raise _damaged(path, listed, found)


def _damaged(path: Path, listed: _Listed, found: Written) -> DamagedFileError:
    remedy = aside(listed.folder)
    return DamagedFileError(path, listed.manifest, listed.expected, found, remedy)


class _Checked(io.RawIOBase):
    """The bytes of a file of an artefact, compared with its manifest when the last is read."""

    def __init__(self, handle: io.FileIO, path: Path, listed: _Listed) -> None:
        self._handle, self._path, self._listed = handle, path, listed
        self._sha = hashlib.sha256()
        self._hashed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def readinto(self, buffer: Any) -> int:
        at = self._handle.tell()
        size = self._handle.readinto(buffer) or 0
        if at == self._hashed:  # else a reader that jumps
            self._sha.update(memoryview(buffer)[:size])
            self._hashed += size
            if not size:
                self._compare()
        return size

    def _compare(self) -> None:
        found = Written(self._hashed, self._sha.hexdigest())
        if found != self._listed.expected:
            raise _damaged(self._path, self._listed, found)

    def close(self) -> None:
        self._handle.close()
        super().close()
