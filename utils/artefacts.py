"""Artefacts: folders whose manifest says what is in them, how they were made and from what.

A folder is built beside its target under a hidden name, one unit of work at a time; the manifest
is written last, and only then does the folder take its final name. So a manifest's existence
means done, an interrupted build goes on with the units that are missing, and the previous
artefact stays whole until its successor is. A kill at any instant leaves either the old artefact
or a folder whose manifest says that it is complete.
"""

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from utils import VERSION, json_text
from utils.errors import HatcheryError, RefusedError
from utils.files import (
    TEMPORARY,
    AppendLog,
    FolderLock,
    Written,
    hash_file,
    sync_folder,
    write_file,
    write_json,
)

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
PLAN = "plan"
_SMALL_FILE = 64 * 1024 * 1024  # bytes


class MadeBy(msgspec.Struct, frozen=True):
    """Who made an artefact: the stage's command, its options, our version, and when."""

    command: str
    options: dict[str, Any]
    version: str
    commit: str | None
    time: str


class Source(msgspec.Struct, frozen=True):
    """Something an artefact was made from."""

    path: str
    fingerprint: str


class Manifest(msgspec.Struct, frozen=True):
    """The contents of `manifest.json`.

    `fingerprint` covers names and checksums of all files, so equal contents have equal ones;
    `checksum` covers the manifest itself.
    """

    kind: str
    made_by: MadeBy
    inputs: list[Source]
    files: dict[str, Written]
    fingerprint: str
    facts: dict[str, Any] = {}
    checksum: str = ""

    def own_checksum(self) -> str:
        """What `checksum` must be."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        del values["checksum"]
        return digest(values)


def made_by(command: str, options: Mapping[str, Any]) -> MadeBy:
    """Lineage of something made now by `command` with `options` (JSON values)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return MadeBy(command, dict(options), VERSION, _git_commit(), now)


def _git_commit() -> str | None:
    """The commit of this checkout, read without running git; None outside a checkout."""
    git = Path(__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head[5:]).read_text().strip() if head.startswith("ref: ") else head
    except OSError:
        return None


def digest(value: object) -> str:
    """SHA-256 of a JSON value, the same for equal values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class Unit(msgspec.Struct, frozen=True):
    """One finished piece of a build: a journal line. A later line of the same name counts."""

    name: str
    files: dict[str, Written]
    facts: dict[str, Any]
    discarded: bool = False


class FolderBuilder:
    """A folder under construction. Write into `path`, then `commit` what was finished."""

    def __init__(self, path: Path, units: dict[str, Unit]) -> None:
        self.path = path
        self.units = units
        self.facts: dict[str, Any] = {}
        self._journal = AppendLog(path / JOURNAL)

    def commit(
        self, name: str, files: Mapping[str, Written], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Record that unit `name` is complete, with the files it consists of."""
        unit = Unit(name, dict(files), dict(facts or {}))
        self._journal.write(json_text.encode(unit))
        self.units[name] = unit

    def write(self, name: str, data: bytes | str) -> None:
        """Write one small file as a unit of its own."""
        self.commit(name, {name: write_file(self.path / name, data)})

    def adopt(self, name: str) -> None:
        """Take over a file that a library wrote into `path`: flush, checksum and record it."""
        self.commit(name, {name: hash_file(self.path / name, flush=True)})

    def discard(self, name: str) -> None:
        """Take unit `name` back: its files go, and a later attempt makes it again."""
        self._journal.write(msgspec.json.encode(Unit(name, {}, {}, discarded=True)))
        for file in self.units.pop(name).files:
            (self.path / file).unlink(missing_ok=True)

    def close(self) -> None:
        self._journal.close()


@contextmanager
def build_folder(
    target: Path,
    *,
    kind: str,
    command: str,
    options: Mapping[str, Any],
    inputs: Sequence[Source] = (),
) -> Iterator[FolderBuilder]:
    """Build the artefact `target`; leaving the block without an error publishes it.

    A build that was interrupted and had the same kind, options and inputs goes on: its finished
    units are in `builder.units`. Any other leftover is discarded. On an error the finished units
    stay for the next attempt and `target` is untouched.

    Raises:
        RefusedError: another process is building the same target, or there is something at
            `target` that is not an artefact of this kind: it would be lost.
    """
    recover(target)
    _refuse_foreign(target, kind)
    building = sibling(target, "building")
    plan = digest([kind, command, dict(options), [msgspec.to_builtins(i) for i in inputs]])
    with FolderLock(building):
        units = _unfinished_units(building, plan)
        builder = FolderBuilder(building, units)
        try:
            yield builder
        finally:
            builder.close()
        files = {name: done for unit in units.values() for name, done in unit.files.items()}
        manifest = Manifest(
            kind=kind,
            made_by=made_by(command, options),
            inputs=list(inputs),
            files=files,
            fingerprint=digest({name: done.sha256 for name, done in files.items()}),
            facts=builder.facts,
        )
        manifest = msgspec.structs.replace(manifest, checksum=manifest.own_checksum())
        for leftover in building.rglob(f".*{TEMPORARY}"):  # of a write that a kill cut short
            leftover.unlink()
        write_json(building / MANIFEST, msgspec.to_builtins(manifest))
        publish(building, target)


def sibling(target: Path, role: str) -> Path:
    """The hidden folder next to `target` where it is built, or waits to be removed."""
    return target.with_name(f".{target.name}.{role}")


def publish(building: Path, target: Path) -> None:
    """Give the finished folder its name; the caller holds the lock of `building`."""
    old = sibling(target, "old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    building.replace(target)
    _remove_plan(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_plan(target: Path) -> None:
    for name in (JOURNAL, ".lock", PLAN):  # the plan goes last: it tells that this is to do
        (target / name).unlink(missing_ok=True)


def recover(target: Path) -> None:
    """Finish or undo a publication that was cut short by a kill; a living one is left alone."""
    building, old = sibling(target, "building"), sibling(target, "old")
    if (target / PLAN).is_file() and (target / MANIFEST).is_file():
        _remove_plan(target)
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


def _refuse_foreign(target: Path, kind: str) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    manifest = read_manifest(target) if target.is_dir() else None
    if manifest is None or manifest.kind != kind:
        raise RefusedError(
            f"{target} is in the way: it was not made as {kind}.",
            found=manifest.kind if manifest is not None else "something without a manifest",
            remedy="choose another place to write to, or move it away",
        )


def _unfinished_units(building: Path, plan: str) -> dict[str, Unit]:
    """Finished units of an interrupted build of the same plan; otherwise an emptied folder."""
    journal = building / JOURNAL
    if _content(building / PLAN) == plan.encode() and (lines := _content(journal)) is not None:
        try:
            units = [json_text.decode(line, Unit) for line in lines.split(b"\n")[:-1]]
        except (msgspec.DecodeError, UnicodeDecodeError):
            units = []  # a journal torn by a power cut: its units are made again
            journal.unlink()
        # A journal line follows the flushed files, so their sizes are proof enough.
        return {
            unit.name: unit
            for unit in {unit.name: unit for unit in units}.values()
            if not unit.discarded
            and all(_size(building / name) == done.bytes for name, done in unit.files.items())
        }
    for entry in building.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_file(building / PLAN, plan)
    return {}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished artefact, None where there is none.

    Raises:
        RefusedError: the manifest itself cannot be read.
    """
    recover(folder)
    try:
        manifest = json_text.decode((folder / MANIFEST).read_bytes(), Manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(
            f"{folder / MANIFEST} is damaged: {error}.", remedy=aside(folder)
        ) from error
    if manifest.checksum != manifest.own_checksum():
        raise RefusedError(
            f"{folder / MANIFEST} is damaged: it does not match its own checksum.",
            found="a changed byte or an edit by hand",
            remedy=aside(folder),
        )
    return manifest


def aside(folder: Path) -> str:
    """What to do with an artefact that nothing may overwrite and nobody should use."""
    moved = folder.with_name(f"{folder.name}.damaged")
    return f"set it aside, then make it again: {shlex.join(['mv', str(folder), str(moved)])}"


def fingerprint(path: Path) -> str:
    """What identifies the content of a file or artefact.

    An artefact has it in its manifest. A file up to 64 MiB is hashed whole; of a larger one the
    size, the modification time and the first and last MiB, since hashing 50 GB of input before
    every run would cost minutes. A folder of another program is the sum of its files.
    """
    manifest = None if path.is_file() else read_manifest(path)
    if manifest is not None:
        return manifest.fingerprint
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return digest([[str(p.relative_to(path)), fingerprint(p)] for p in files])
    stat = path.stat()
    if stat.st_size <= _SMALL_FILE:
        return hash_file(path).sha256
    with path.open("rb") as handle:
        head = handle.read(1 << 20)
        handle.seek(-(1 << 20), os.SEEK_END)
        ends = hashlib.sha256(head + handle.read()).hexdigest()
    return digest([stat.st_size, stat.st_mtime_ns, ends])


def source(path: Path) -> Source:
    """`path` as an input of an artefact about to be made.

    Raises:
        HatcheryError: it cannot be read.
    """
    try:
        return Source(str(path), fingerprint(path))
    except OSError as error:
        raise HatcheryError(
            f"{path} cannot be read: {error.strerror}.", remedy="check its rights, or leave it out"
        ) from error


def is_current(
    target: Path, command: str, options: Mapping[str, Any], inputs: Sequence[Source]
) -> Manifest | None:
    """The manifest of `target` if it was made by this command, options and inputs, else None."""
    manifest = read_manifest(target)
    if (
        manifest is not None
        and manifest.made_by.command == command
        and manifest.made_by.options == dict(options)
        and manifest.inputs == list(inputs)
    ):
        return manifest
    return None
