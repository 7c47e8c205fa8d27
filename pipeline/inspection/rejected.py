"""What cleaning rejected: by reason, with examples and where they stand."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.cleaner.steps import Rejection
from utils.artefacts import read_manifest
from utils.errors import HatcheryError

EXAMPLES = 200
_READ_AT_MOST = 64 * 1024 * 1024  # bytes of rejects
_decoder = msgspec.json.Decoder(Rejection)


class Reason(NamedTuple):
    """Documents rejected for one reason, and the first of them."""

    name: str
    documents: int
    examples: list[Rejection]


def read_rejected(folder: Path) -> list[Reason]:
    """The reasons of a cleaned folder, the commonest first.

    Counts come from its manifest; where there is none, from as much of the files as was read.
    """
    examples: dict[str, list[Rejection]] = {}
    seen: dict[str, int] = {}
    for rejection in _lines(folder):
        seen[rejection.reason] = seen.get(rejection.reason, 0) + 1
        kept = examples.setdefault(rejection.reason, [])
        if len(kept) < EXAMPLES:
            kept.append(rejection)
    counts = seen | _counted(folder)
    reasons = [Reason(name, count, examples.get(name, [])) for name, count in counts.items()]
    return sorted(reasons, key=lambda reason: (-reason.documents, reason.name))


def _counted(folder: Path) -> dict[str, int]:
    try:
        manifest = read_manifest(folder)
    except (HatcheryError, OSError):
        return {}
    counts = manifest.facts.get("rejected") if manifest else None
    return {k: v for k, v in counts.items() if isinstance(v, int)} if counts else {}


def _lines(folder: Path) -> Iterator[Rejection]:
    """Rejections of all files, as far as they can be read, each file its share."""
    files = sorted(folder.glob("rejected_*.jsonl"))
    for file in files:
        left = _READ_AT_MOST // len(files)
        try:
            with file.open("rb") as handle:
                while left > 0 and (line := handle.readline(1 << 20)):
                    left -= len(line)
                    try:
                        yield _decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        continue  # torn, or longer than any reject of ours
        except OSError:
            continue
