"""A job as its folder tells it at one moment, and the states that it can be in."""

from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from app.jobs.folder import Record

State: TypeAlias = Literal[
    "running", "waiting", "done", "stopped", "failed", "killed", "died", "elsewhere"
]
ACTIVE: tuple[State, ...] = ("running", "waiting", "elsewhere")
FAILED: tuple[State, ...] = ("failed", "died", "killed")
_NAME = "--name"


class Job(NamedTuple):
    """What a job folder says at one moment; times in seconds since 1970.

    `started` is when its work began, of a waiting job when it was asked for; `waits_for` are the
    ids of the jobs that a waiting one still waits for.
    """

    id: str
    folder: Path
    record: Record | None
    state: State
    exit_code: int | None
    started: float
    ended: float | None
    percent: float | None
    waits_for: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """The stage's command; of a folder without job.json, from its name."""
        parts = self.folder.name.split("-")
        return self.record.stage if self.record else parts[-2] if len(parts) > 1 else "?"

    @property
    def called(self) -> str | None:
        """What the user called it, or with `--name` what it makes; None without either."""
        if self.record is None:
            return None
        words = [part for word in self.record.argv for part in word.split("=", 1)]
        typed = next((value for flag, value in pairwise(words) if flag == _NAME), None)
        return self.record.name or typed

    @property
    def name(self) -> str:
        """What the user called it, or its id."""
        return self.called or self.id

    def duration(self, now: float) -> float | None:
        """Seconds of work so far; None while it waits."""
        return None if self.state == "waiting" else max(0.0, (self.ended or now) - self.started)
