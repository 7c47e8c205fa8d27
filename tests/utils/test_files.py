"""The durable writer, logs and locks under full disks, kills and rivals."""

import errno
import hashlib
import io
import os
import random
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from utils import files
from utils.errors import RefusedError
from utils.files import (
    AppendLog,
    DiskFullError,
    FolderLock,
    durable_file,
    hash_file,
    link_or_copy,
    require_space,
    write_file,
    write_json,
)

CALLS = ["write", "flush", "fsync", "replace", "sync_folder", "mkdir"]


def _fail(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _break(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one system call of a durable write meet a full disk."""
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", _fail)
    elif call == "sync_folder":
        monkeypatch.setattr(files, "sync_folder", _fail)
    elif call in ("replace", "mkdir"):
        monkeypatch.setattr(Path, call, _fail)
    else:
        real_open = Path.open

        def opened(self: Path, mode: str = "r", *rest: Any) -> Any:
            handle = real_open(self, mode, *rest)
            if "w" in mode:
                broken = io.BytesIO()
                setattr(broken, call, _fail)
                handle.close()
                return broken
            return handle

        monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("call", CALLS)
def test_full_disk_at_any_call_keeps_the_old_file_and_leaves_no_temporary_file(
    call: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = workspace / "file"
    write_file(target, b"old")
    with monkeypatch.context() as broken:
        _break(call, broken)
        with pytest.raises(DiskFullError, match="disk is full"):
            write_file(target, b"new" * 1000)
    renamed = call == "sync_folder"  # by then the whole new file has its name
    assert target.read_bytes() == (b"new" * 1000 if renamed else b"old")
    assert list(workspace.iterdir()) == [target]


def test_a_limit_of_the_system_on_file_size_is_named_and_harmless(workspace: Path) -> None:
    target = workspace / "file"
    write_file(target, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DiskFullError, match="larger than a file may be"):
            write_file(target, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert list(workspace.iterdir()) == [target]


def test_an_error_of_the_writer_itself_passes_unchanged(workspace: Path) -> None:
    def write_half() -> None:
        with durable_file(workspace / "file") as out:
            out.write(b"half")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        write_half()
    assert list(workspace.iterdir()) == []


def test_what_is_written_is_counted_and_hashed_on_the_way(workspace: Path) -> None:
    with durable_file(workspace / "deep" / "file") as out:
        out.write(b"one")
        out.write(memoryview(b"two"))
        out.write(bytearray(b"three"))
    assert out.written.sha256 == hashlib.sha256(b"onetwothree").hexdigest()
    assert out.written == hash_file(workspace / "deep" / "file")


def test_json_that_is_not_json_is_refused_before_anything_is_written(workspace: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(workspace / "file", {"loss": float("nan")})
    assert list(workspace.iterdir()) == []


def test_a_write_that_cannot_fit_is_refused_beforehand(workspace: Path) -> None:
    require_space(workspace / "not" / "yet" / "there", 1)
    with pytest.raises(DiskFullError, match=r"1024\.0 TiB are needed"):
        require_space(workspace / "file", 2**50)


@pytest.mark.parametrize("torn", [b"", b"{", b"x" * 200_000])
def test_a_log_continues_after_a_torn_line(torn: bytes, workspace: Path) -> None:
    path = workspace / "log"
    path.write_bytes(b"one\n" + torn)
    log = AppendLog(path)
    log.write(b"two")
    log.close()
    assert path.read_bytes() == b"one\ntwo\n"


class _NearlyFull:
    """A handle on a disk that has room for `room` more bytes."""

    def __init__(self, handle: Any, room: int) -> None:
        self._handle, self.room = handle, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def write(self, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = self._handle.write(data[: self.room])
        self.room -= count
        return int(count)


@pytest.mark.parametrize("room", range(8))
def test_a_full_disk_never_tears_a_log_line(room: int, workspace: Path) -> None:
    log = AppendLog(workspace / "log")
    log.write(b"before")
    disk = _NearlyFull(log._handle, room)
    log._handle = disk  # type: ignore[assignment]
    with pytest.raises(DiskFullError):
        log.write(b"12345678")
    disk.room = 100
    log.write(b"after")
    log.close()
    assert (workspace / "log").read_bytes() == b"before\nafter\n"


def test_a_second_writer_is_refused_and_told_who_holds_the_folder(workspace: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from utils.files import FolderLock\n"
        "with FolderLock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(workspace / "run")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RefusedError) as refused, FolderLock(workspace / "run"):
            pass
        assert f"process {holder.pid}, -c" in refused.value.found
        assert f"kill -INT {holder.pid}" in refused.value.remedy
        holder.kill()
    with FolderLock(workspace / "run"):
        assert (workspace / "run" / ".lock").read_text().startswith(f"{os.getpid()} ")


def test_a_file_system_without_locks_is_not_called_a_rival(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    with pytest.raises(files.HatcheryError, match="cannot be locked"), FolderLock(workspace):
        pass


def test_a_lock_on_a_folder_that_was_renamed_meanwhile_is_taken_anew(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building = workspace / "building"
    real, moved = FolderLock._lock, []

    def lock_late(self: FolderLock, handle: Any) -> None:
        if not moved:
            moved.append(building.rename(workspace / "published"))
        real(self, handle)

    monkeypatch.setattr(FolderLock, "_lock", lock_late)
    with FolderLock(building):
        assert (building / ".lock").is_file()
    assert moved


def test_a_folder_that_is_published_before_its_lock_is_opened_is_locked_anew(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building = workspace / "building"
    real, moved = Path.mkdir, []

    def make(self: Path, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        if self == building and not moved:
            moved.append(building.rename(workspace / "published"))

    monkeypatch.setattr(Path, "mkdir", make)
    with FolderLock(building):
        assert (building / ".lock").is_file()
    assert moved


@pytest.mark.parametrize(
    "code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK, errno.ENOSYS]
)
def test_where_a_file_cannot_have_two_names_it_is_copied(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (workspace / "a").write_bytes(data)

    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refused)
    link_or_copy(workspace / "a", workspace / "b")
    assert (workspace / "b").read_bytes() == data
    assert sorted(entry.name for entry in workspace.iterdir()) == ["a", "b"]


def test_a_second_name_costs_no_room_and_other_faults_are_not_hidden(workspace: Path) -> None:
    (workspace / "a").write_bytes(b"data")
    link_or_copy(workspace / "a", workspace / "b")
    assert (workspace / "a").samefile(workspace / "b")
    with pytest.raises(FileNotFoundError):
        link_or_copy(workspace / "nothing", workspace / "c")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_that_does_not_flush_folders_can_be_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    flush = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_file(workspace / "a", b"data")
    assert (workspace / "a").read_bytes() == b"data"


def test_a_folder_that_fails_to_flush_is_not_passed_over(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output"):
        files.sync_folder(workspace)


@pytest.mark.parametrize("left", [None, 0o644, 0o666])
@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_a_private_file_is_its_owners_alone(workspace: Path, left: int | None, mask: int) -> None:
    target = workspace / "key"
    if left is not None:  # by an earlier writer that was killed, and an older file
        for path in (target, workspace / ".key.tmp"):
            path.write_text("old")
            path.chmod(left)
    before = os.umask(mask)
    try:
        write_file(target, "secret", private=True)
    finally:
        os.umask(before)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("secret", 0o600)
