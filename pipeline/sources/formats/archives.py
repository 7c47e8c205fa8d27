"""Archives (.tar, .tar.gz, .tgz) read member by member, without unpacking anything to disk."""

import tarfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from pipeline.sources.input_files import (
    HIDDEN,
    NOT_A_FILE,
    NOT_READ,
    PassedOver,
    is_packed,
    kind_of,
    pass_over,
)
from pipeline.sources.lines import (
    READ_ERRORS,
    Damage,
    broken,
    buffered,
    open_raw,
    unpacked,
    with_command,
)
from utils.verification import DamagedFileError

_READ_IN_ARCHIVES = (".jsonl", ".json")


class Member(NamedTuple):
    """A file of an archive: its name, its kind, where it begins in the uncompressed archive, and
    its bytes, which must be read before the next member is asked for."""

    name: str
    kind: str
    offset: int
    handle: BufferedReader


def members(path: Path, passed_over: PassedOver) -> Iterator[Member | Damage]:
    """The JSON files of an archive in order; what else it holds is counted in `passed_over`."""
    offset = 0
    with open_raw(path) as packed:
        try:
            with tarfile.open(fileobj=packed, mode="r|") as archive:
                for member in archive:
                    offset = member.offset_data
                    if member.isdir():
                        continue
                    name = Path(member.name)
                    reason = _reason_against(member, name)
                    handle = None if reason else archive.extractfile(member)
                    if handle is None:
                        pass_over(passed_over, reason or NOT_A_FILE, name)
                        continue
                    read = unpacked(handle) if is_packed(name) else buffered(handle)
                    yield Member(member.name, kind_of(name), offset, read)
        except DamagedFileError as error:
            raise with_command(error) from None
        except READ_ERRORS as error:
            yield broken(path, offset, error)


def _reason_against(member: tarfile.TarInfo, name: Path) -> str:
    """Why a member is not read; empty where it is."""
    if not member.isreg():
        return NOT_A_FILE
    if any(part.startswith(".") and part not in (".", "..") for part in name.parts):
        return HIDDEN
    return "" if kind_of(name) in _READ_IN_ARCHIVES else NOT_READ
