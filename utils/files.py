"""The one durable writer: nothing half-written is ever found under its final name.

A file is written beside its target under a temporary name, hashed on the way, flushed to the
disk, renamed, and the folder entry flushed too. Logs, which grow, go through `AppendLog`.
Whole artefacts (folders with a manifest) are in `utils.artefacts`.
"""

import errno
import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from utils.errors import HatcheryError, RefusedError
from utils.json_text import encode_indented
from utils.units import human_bytes

try:
    import fcntl
except ImportError:  # Windows: locks are advisory help there, not a guarantee
    fcntl = None  # type: ignore[assignment]


TEMPORARY = ".tmp"
"""Ends the name of a file that is being written; a dot begins it."""

UNSUPPORTED = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system answers where it lacks a kind of link or flush: exFAT, network folders."""

_COPY_BYTES = 1 << 20


class Written(msgspec.Struct, frozen=True):
    """Size and checksum of a finished file."""

    bytes: int
    sha256: str


class DiskFullError(HatcheryError):
    """There is not enough room; whatever was there before is untouched."""


class DurableFile:
    """A binary file being written: counts and hashes what passes through it."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._sha = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._handle.write(data)
        self._sha.update(data)
        size = memoryview(data).nbytes
        self._bytes += size
        return size

    @property
    def written(self) -> Written:
        return Written(self._bytes, self._sha.hexdigest())


@contextmanager
def durable_file(path: Path, *, private: bool = False) -> Iterator[DurableFile]:
    """Write `path` all or nothing; on an error the old content stays and the temporary file goes.
    A `private` one nobody but its owner can read, from its first byte on.

    Raises:
        DiskFullError: the disk or quota is full.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if private:
            temporary.unlink(missing_ok=True)  # one that was left could be open to others
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with temporary.open("wb") as handle:
            durable = DurableFile(handle)
            yield durable
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):  # one that stays is overwritten next time
            temporary.unlink(missing_ok=True)
        raise_disk_error(error, path)
        raise


def write_file(path: Path, data: bytes | str, *, private: bool = False) -> Written:
    """Durably replace the content of `path`; see `durable_file`."""
    with durable_file(path, private=private) as out:
        out.write(data.encode() if isinstance(data, str) else data)
    return out.written


def write_json(path: Path, value: object) -> Written:
    """Durably write indented JSON; NaN and infinity are refused, they are not JSON."""
    return write_file(path, encode_indented(value))


def link_or_copy(source: Path, target: Path) -> None:
    """Give the file `source` the further name `target`, which must not exist; where the file
    system cannot, copy it durably.

    Raises:
        DiskFullError: there is no room for a copy.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EXDEV, errno.EMLINK}:
            raise
        require_space(target, source.stat().st_size)
        with source.open("rb") as data, durable_file(target) as out:
            while chunk := data.read(_COPY_BYTES):
                out.write(chunk)


def hash_file(path: Path, *, flush: bool = False) -> Written:
    """Checksum of a file on disk; `flush` first makes sure that it is durable."""
    with path.open("rb") as handle:
        if flush:
            os.fsync(handle.fileno())
        digest = hashlib.file_digest(handle, "sha256")
        return Written(handle.tell(), digest.hexdigest())


def disk_error(error: OSError, path: Path) -> Exception:
    """`error`, or what it means when the cause is a full disk."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    if error.errno == errno.EFBIG:
        return DiskFullError(
            f"{path} is larger than a file may be here.",
            found="a limit of the file system or of this process (ulimit -f)",
            remedy="choose another folder in the paths section of config.json, or raise the limit",
        )
    free = shutil.disk_usage(existing_parent(path)).free
    return DiskFullError(
        f"The disk is full: {path} could not be written.",
        found=f"{human_bytes(free)} free on that disk; what was there before is intact",
        remedy="free some room and run the same command again, it goes on where it stopped",
    )


def raise_disk_error(error: BaseException, path: Path) -> None:
    """Raise what `error` means when its cause is a full disk; otherwise do nothing."""
    if isinstance(error, OSError):
        meant = disk_error(error, path)
        if meant is not error:
            raise meant from error


def require_space(path: Path, needed: int) -> None:
    """Refuse to begin a write of `needed` bytes that cannot fit.

    Raises:
        DiskFullError: fewer than `needed` bytes are free on the disk that holds `path`.
    """
    free = shutil.disk_usage(existing_parent(path)).free
    if free < needed:
        raise DiskFullError(
            f"Not enough room for {path}: {human_bytes(needed)} are needed.",
            found=f"{human_bytes(free)} free on that disk",
            remedy="free some room, or choose another folder in the paths section of config.json",
        )


def unique_name(folder: Path, name: str) -> Path:
    """`name` in `folder`, or where that is taken the first free one of NAME.2, NAME.3 ...; a
    suffix stays at the end."""
    stem, suffix = Path(name).stem, Path(name).suffix
    names = chain([name], (f"{stem}.{number}{suffix}" for number in count(2)))
    return next(folder / each for each in names if not os.path.lexists(folder / each))


def home_path(text: str | Path) -> Path:
    """What is typed as a path, with `~` and `~NAME` at its beginning replaced by the home folder
    they stand for; where no user has that name or that user no home, the path as it stands."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # what pathlib raises for a home that cannot be determined
        return Path(text)


def printable_name(name: str) -> str:
    """The name of a file as valid text: bytes that are no UTF-8 as `\\xNN`. In such a name every
    backslash is doubled, so that it can be told from one that was there."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = name.replace("\\", "\\\\").encode("utf-8", "surrogateescape")
        return raw.decode("utf-8", "backslashreplace")
    return name


def existing_parent(path: Path) -> Path:
    """The nearest folder at or above `path` that exists."""
    return next(p for p in (path, *path.absolute().parents) if p.is_dir())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EINVAL}:
            raise  # else this file system does not flush folders, and nothing else would help
    finally:
        os.close(descriptor)


class AppendLog:
    """A file of lines that only grows; a kill or a full disk tears at most the last line.

    Opening cuts off a torn last line left by an earlier process. One writer at a time.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._handle = path.open("ab+", buffering=0)
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        end = self._handle.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            self._handle.seek(start)
            newline = (self._handle.read(end - start) or b"").rfind(b"\n")
            if newline >= 0:
                self._handle.truncate(start + newline + 1)
                return
            end = start
        self._handle.truncate(0)

    def write(self, line: bytes) -> None:
        """Append `line` and its newline, whole or not at all.

        Raises:
            DiskFullError: there is no room; the log ends with the line before.
        """
        data = line + b"\n"
        start = self._handle.seek(0, os.SEEK_END)
        try:
            while data:  # a nearly full disk takes a part of it without an error
                data = data[self._handle.write(data) :]
        except OSError as error:
            self._handle.truncate(start)
            raise_disk_error(error, self._path)
            raise

    def fileno(self) -> int:
        """The descriptor, for a child process that writes its output here."""
        return self._handle.fileno()

    def close(self) -> None:
        self._handle.close()


class FolderLock:
    """One writer per folder, freed by the system however the holder dies.

    Raises:
        RefusedError: on entering, when another process holds it; the message names that process.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> Self:
        while True:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = self._path.open("ab+")
            except FileNotFoundError:
                continue  # its folder was published or removed since it was made
            self._lock(handle)
            if self._still_there(handle):
                break
            handle.close()  # its folder was published or removed while we waited for the lock
        handle.truncate(0)
        handle.write(f"{os.getpid()} {shlex.join(sys.argv)[:150]}".encode(errors="replace"))
        handle.flush()
        self._handle = handle
        return self

    def _lock(self, handle: IO[bytes]) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read(200).decode(errors="replace").strip()
            handle.close()
            pid, _, command = holder.partition(" ")
            raise RefusedError(
                f"Another process is writing to {self._path.parent}.",
                found=f"process {pid}, {command}" if command else f"process {pid or 'unknown'}",
                remedy=f"wait for it, or stop it: kill -INT {pid}",
            ) from error
        except OSError as error:
            handle.close()
            raise HatcheryError(
                f"{self._path.parent} cannot be locked: {error.strerror}.",
                found="a file system without locks, as some network folders are",
                remedy="choose a local folder in the paths section of config.json",
            ) from error

    def _still_there(self, handle: IO[bytes]) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(handle.fileno()))
        except FileNotFoundError:
            return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None
