"""What happens in a stage, as data between the work and whatever shows it.

Stages yield these; terminals, job folders and the app consume them. All are frozen and go to and
from JSON with nothing lost: floats keep every bit, non-finite ones become null.
"""

import re
import time as clock
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

import msgspec


class _Event(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=lambda name: name.lower()
):
    time: float = msgspec.field(default_factory=clock.time)
    """Seconds since 1970 when it happened."""


class Started(_Event, frozen=True):
    """A stage began. A training says the folder of its `run`; it is empty elsewhere, and in files
    of versions that did not record it."""

    stage: str
    title: str
    total: int | None = None
    unit: str = ""
    run: str = ""


class Progress(_Event, frozen=True):
    """How far the stage is. A newer one replaces an older one.

    `figures` are named values to show beside the bar, ready to print: {"speed": "92 MB/s"}.
    """

    done: int
    total: int | None = None
    unit: str = ""
    message: str = ""
    figures: dict[str, str] = {}


class Metric(_Event, frozen=True):
    """Measured values at an optimizer step; null stands for NaN or infinity.

    `kind` says what was measured: optimizer steps ("train"), held-out text ("validation") or items
    of tasks ("benchmark"), whose values are called `task/metric`. Where it is left out, as in files
    of versions that did not record it, a `val_loss` decides.
    """

    step: int
    values: dict[str, float | None]
    kind: Literal["train", "validation", "benchmark", ""] = ""

    def __post_init__(self) -> None:
        if not self.kind:
            found = "validation" if "val_loss" in self.values else "train"
            msgspec.structs.force_setattr(self, "kind", found)


class Sample(_Event, frozen=True):
    """Text that a model wrote, complete."""

    text: str
    prompt: str = ""
    step: int | None = None
    source: str = ""
    index: int = 0
    token_ids: list[int] = []
    statistics: dict[str, float | str | None] = {}


class Delta(_Event, frozen=True):
    """The next piece of a text that is being written: sample `index` of checkpoint `source`.

    The first piece is empty and carries the prompt that is continued.
    """

    text: str
    prompt: str = ""
    source: str = ""
    index: int = 0


class Rejected(_Event, frozen=True):
    """A document or line left out, with the name of the rule and where it was found."""

    rule: str
    where: str
    detail: str = ""


class Example(_Event, frozen=True):
    """A conversation that was found, to be looked at: by which rule, or in which form of row, and
    where; what was asked first, and the answer. The `index` counts those of one rule."""

    rule: str
    where: str
    question: str
    answer: str
    index: int = 0


class Saved(_Event, frozen=True):
    """An artefact is complete and durable."""

    kind: str
    path: str
    facts: dict[str, Any] = {}


class Warned(_Event, frozen=True):
    """Something the user should know; the work goes on."""

    message: str
    remedy: str = ""


class StageVerdict(_Event, frozen=True, tag="judged"):
    """A stage was tried: whether it works, with its key figures, or what is wrong with it.

    `found`, `remedy` and `commands` are those of the error that ended it, or of what is doubtful
    about it.
    """

    stage: str
    verdict: Literal["works", "works but", "fails", "not tried"]
    detail: str = ""
    found: str = ""
    remedy: str = ""
    commands: tuple[tuple[str, ...], ...] = ()


class Scored(_Event, frozen=True):
    """A checkpoint was asked all items of a task, so many of which count: its main `metric`, and
    the ends of its interval. All by short names; null stands for what is not finite."""

    checkpoint: str
    task: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    items: int = 0


class ServerReady(_Event, frozen=True, tag="listening"):
    """A server answers at `url`; `token` is the key it made for itself, where nobody gave one."""

    url: str
    token: str | None = None


class Finished(_Event, frozen=True):
    """The stage ended; `skipped` says that there was nothing to do, `stopped` that it was asked to.

    `summary` holds the result as JSON values; `path` is what it made.
    """

    summary: dict[str, Any] = {}
    path: str | None = None
    skipped: bool = False
    stopped: bool = False


class Failed(_Event, frozen=True):
    """The stage cannot go on: the problem, what was found, the next command, the exit code.

    `commands` are those in the remedy, each the words after `python main.py`; `kind` is the name of
    the error's class. `summary` is what was done nevertheless, as that of `Finished`.
    """

    problem: str
    found: str = ""
    remedy: str = ""
    exit_code: int = 1
    kind: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    summary: dict[str, Any] = {}


Event: TypeAlias = (
    Started
    | Progress
    | Metric
    | Sample
    | Delta
    | Rejected
    | Example
    | Saved
    | Warned
    | StageVerdict
    | Scored
    | ServerReady
    | Finished
    | Failed
)


def _plain(value: object) -> object:
    """What msgspec does not know: paths become strings, numpy scalars Python numbers."""
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"an event cannot hold a {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def to_json(event: Event) -> bytes:
    """One line of JSON, without the newline; lone surrogates, which UTF-8 cannot hold, as U+FFFD.

    Raises:
        TypeError: a value that is neither JSON, a path nor a numpy scalar.
    """
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:  # a file name or a document that was never valid text
        return _encoder.encode(_mended(msgspec.to_builtins(event, enc_hook=_plain)))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(name): _mended(inner) for name, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value


def from_json(line: bytes | str) -> Event:
    """The event of one line.

    Raises:
        msgspec.DecodeError: not an event, or one of a newer version.
    """
    try:
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
