"""A sample of the user's text: which files to take from, and how much of each.

The files keep their names, so that every stage treats them as it will treat the whole. How a
piece of each kind of file is cut out is in `pipeline.rehearsal.sample_files`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopSignal

from pipeline.rehearsal.sample_files import cut_out, looks_broken, spread
from pipeline.sources.items import Input
from pipeline.sources.lines import PIECE
from utils.artefacts import source
from utils.errors import HatcheryError

_MOST_FILES = 12  # of each kind that holds many documents: opening more teaches little
_LEAST = 5  # documents of each kind, however small its share is
_LOOKED_AT = 2000  # files whose first bytes are looked at
_MOST_BROKEN = 4
_WORTH_TELLING = 1.5  # times the sample: below it the whole takes as long
_MOST_BYTES = 64 << 20


@dataclass
class TextSample:
    """What was taken: `files` written, of the input's `of_files` with `of_bytes` on disk.

    `problem` is the first file that could not be read, as cleanup would put it.
    """

    of_files: int
    of_bytes: int
    files: list[Path] = field(default_factory=list)
    bytes: int = 0
    problem: HatcheryError | None = None

    @property
    def scale(self) -> float:
        """How many times larger the whole is."""
        return max(1.0, self.of_bytes / max(self.bytes, 1))

    @property
    def partial(self) -> bool:
        """Whether the whole is larger by more than a little."""
        return self.scale > _WORTH_TELLING


def take_sample(
    inputs: Sequence[Input], folder: Path, documents: int, enough: int, stop: StopSignal
) -> TextSample:
    """Write about `documents` documents of `inputs` into `folder`, and more until they have
    `enough` bytes; of every kind of file at least one, and such as look broken.

    Raises:
        HatcheryError: the disk is full.
    """
    sample = TextSample(len(inputs), sum(item.bytes for item in inputs))
    requested = documents * max(1.0, enough / _likely_bytes(inputs, documents))
    taken = choose(inputs, math.ceil(requested))
    taken |= dict.fromkeys([item for item in _broken(inputs) if item not in taken], 1)
    for item, count in taken.items():
        if stop.is_set() or sample.bytes >= _MOST_BYTES:
            break
        problem = _unreadable(item)
        sample.problem = sample.problem or problem
        if problem is None:
            for path in cut_out(item, folder / _safe_name(item, len(sample.files)), count):
                sample.files.append(path)
                sample.bytes += path.stat().st_size
    return sample


def choose(inputs: Sequence[Input], documents: int) -> dict[Input, int]:
    """How many documents to take of which inputs: each kind by its share of the bytes, of each
    kind the first file, the last and others evenly between."""
    kinds: dict[tuple[str, str], list[Input]] = {}
    for item in inputs:
        kinds.setdefault((item.form, "".join(item.path.suffixes[-2:]).lower()), []).append(item)
    total = sum(item.bytes for item in inputs) or 1
    chosen: dict[Input, int] = {}
    for files in kinds.values():
        share = max(_LEAST, round(documents * sum(item.bytes for item in files) / total))
        most = share if _single(files) else min(share, _MOST_FILES)
        picked = spread(files, min(len(files), most))
        chosen |= dict.fromkeys(picked, math.ceil(share / len(picked)))
    return chosen


def _single(files: Sequence[Input]) -> bool:
    """Whether a file of this kind holds one document or few."""
    return files[0].form in ("text", "code") and sum(f.bytes for f in files) < PIECE * len(files)


def _likely_bytes(inputs: Sequence[Input], documents: int) -> float:
    """About how many bytes of text a sample of `documents` holds; markup is more than text."""
    mean = sum(item.bytes for item in inputs) / max(1, len(inputs))
    return documents * max(1.0, min(mean, 2000.0))


def _broken(inputs: Sequence[Input]) -> list[Input]:
    """Inputs whose first and last bytes do not fit their name."""
    found: list[Input] = []
    for item in spread(inputs, _LOOKED_AT):
        if len(found) < _MOST_BROKEN and looks_broken(item):
            found.append(item)
    return found


def _unreadable(item: Input) -> HatcheryError | None:
    """What cleanup would say of a file that may not be opened."""
    try:
        with item.path.open("rb"):
            return None
    except OSError:
        try:
            source(item.path)
        except HatcheryError as error:
            return error
        return None


def _safe_name(item: Input, number: int) -> str:
    """The name within the input's folder; its last part where it would lead out of there."""
    parts = Path(item.name).parts
    inside = ".." not in parts and not Path(item.name).is_absolute()
    return item.name if inside else f"{number:05d}/{parts[-1]}"
