"""Which models answer side by side: how they are named, chosen and found. Knows no widgets."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.client.client import Model
from pipeline.runs.folders import short_name
from utils.units import human_bytes

LOCAL = ""
"""In place of an address: the server that this app starts for itself."""


@dataclass(frozen=True)
class Candidate:
    """A model and the server that has it."""

    model: Model
    where: str = LOCAL

    @property
    def name(self) -> str:
        """The name that votes and transcripts keep."""
        return self.model.id if self.where == LOCAL else f"{self.model.id} @ {self.host}"

    @property
    def host(self) -> str:
        """The machine of a remote server; an address may hold a password, which this leaves out."""
        try:
            found = urlsplit(self.where)
            return found.hostname or self.where
        except ValueError:
            return self.where

    @property
    def short(self) -> str:
        """The name in a few words; two runs of one name share it."""
        model = self.model
        if self.where != LOCAL or not model.run:
            return self.name
        step = "" if model.step is None else f" step {model.step:,}"
        return f"{short_name(model.run)}{step}"


def labels(candidates: Sequence[Candidate]) -> list[str]:
    """A name for each that no other of them has: short where that is enough."""
    short = [candidate.short for candidate in candidates]
    return [
        name if short.count(name) == 1 else candidate.name
        for name, candidate in zip(short, candidates, strict=True)
    ]


def selected(text: str, count: int) -> list[int]:
    """Which of `count` lines `1,3,5`, `2-4` or `all` means, as places from 0, in that order.

    Raises:
        ValueError: it means none of them; says what is wrong.
    """
    if text.strip().casefold() == "all":
        return list(range(count))
    places: list[int] = []
    for part in re.split(r"[\s,]+", text.strip()):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
        if part and not found:
            raise ValueError("give numbers such as 1,3,5 or 2-4, or all")
        if found:
            first, last = int(found[1]), int(found[2] or found[1])
            if not 1 <= first <= last <= count:
                raise ValueError(f"{part} is not there: the models are 1 to {count}")
            places += range(first - 1, last)
    return list(dict.fromkeys(places))


def matching(names: Iterable[str], there: Sequence[Candidate]) -> list[Candidate]:
    """The models meant by ids, names of runs (their best, else latest) or checkpoint folders."""
    found = [comparison for name in names if (comparison := _matching(name, there)) is not None]
    return list(dict.fromkeys(found))


def _matching(name: str, there: Sequence[Candidate]) -> Candidate | None:
    path = Path(name)
    step = re.search(r"step_(\d+)$", path.name)
    for candidate in there:
        model = candidate.model
        if name in (model.id, candidate.name):
            return candidate
        if step and model.run == path.parent.name and model.step == int(step[1]):
            return candidate
    of_run = [c for c in there if c.model.run and c.model.run in (name, path.name)]
    of_run.sort(key=lambda c: (c.model.best, c.model.latest), reverse=True)
    return of_run[0] if of_run else None


def course(candidate: Candidate, there: Sequence[Candidate]) -> list[Candidate]:
    """The checkpoints of the same run by their steps; empty where it has no other one."""
    model = candidate.model
    steps: dict[int, Candidate] = {}
    for other in there:
        same = other.where == candidate.where and other.model.run == model.run
        if model.run and same and other.model.step is not None:
            steps.setdefault(other.model.step, other)
    return [steps[step] for step in sorted(steps)] if len(steps) > 1 else []


def memory(chosen: Iterable[Candidate]) -> int:
    """Bytes that the weights of these models need here in addition to those that are loaded."""
    local = {c.model.id: c.model for c in chosen if c.where == LOCAL}
    return sum(model.bytes or 0 for model in local.values() if not model.loaded)


def shortage(chosen: Sequence[Candidate], free: int | None) -> str:
    """What to know before these are loaded: that they do not fit; empty where they do."""
    needed = memory(chosen)
    if free is None or needed <= free:
        return ""
    return (
        f"These {len(chosen)} models need {human_bytes(needed)} of memory, and "
        f"{human_bytes(free)} are free. The machine may become very slow, or a model may not load."
    )
