"""What the events of a job or a run amount to, in bounded memory. Reads no files."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import msgspec

from app.charts.curve import Curve, Point
from pipeline import events
from pipeline.benchmark.report import scored_line
from pipeline.events import Event

_NOTES, _SAMPLES = 200, 5
_TEXTS, _TEXT = 16, 20_000
_RULES, _CURVES = 100, 16
_PACE_SECONDS, _PACE_MARKS = 1.0, 60
_NO_CURVE = ("tokens", "matrix_learning_rate")


class Note(NamedTuple):
    """Something worth a line: `kind` is "started", "saved", "warned", "judged",
    "scored" or "listening"."""

    time: float
    kind: str
    text: str
    remedy: str = ""


class Text(NamedTuple):
    """A text as far as it has been written."""

    source: str
    prompt: str
    text: str


Curves: TypeAlias = Mapping[str, list[Point]]


class Snapshot(NamedTuple):
    """Everything a screen shows, at one moment.

    `step` is the newest with a metric, `values` the newest of each name. `began` is when the
    stage that runs now began, `run_began` when the training of `run` did, and `newest` when
    something was last reported, all in seconds since 1970; `seconds_left` counts from `newest`.
    """

    title: str = ""
    stage: str = ""
    total: int | None = None
    unit: str = ""
    progress: events.Progress | None = None
    step: int = 0
    values: Mapping[str, float | None] = MappingProxyType({})
    before: Mapping[str, float | None] = MappingProxyType({})
    curves: Curves = MappingProxyType({})
    samples: tuple[events.Sample, ...] = ()
    texts: tuple[Text, ...] = ()
    notes: tuple[Note, ...] = ()
    rejected: tuple[tuple[str, int], ...] = ()
    final: events.Finished | events.Failed | None = None
    run: str = ""
    run_began: float | None = None
    began: float | None = None
    newest: float | None = None
    seconds_left: float | None = None
    log: tuple[str, ...] = ()
    overlays: Mapping[str, Curves] = MappingProxyType({})


class EventSummary:
    """What the events of one file amount to, in bounded memory."""

    def __init__(self) -> None:
        self.curves: dict[str, Curve] = {}
        self._facts: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._values: dict[str, float | None] = {}
        self._step = 0
        self._validated: int | None = None  # the step of the last validation
        self._samples: deque[events.Sample] = deque(maxlen=_SAMPLES)
        self._notes: deque[Note] = deque(maxlen=_NOTES)
        self._rejected: Counter[str] = Counter()
        self._texts: dict[tuple[str, int], Text] = {}
        self._marks: deque[tuple[float, int]] = deque(maxlen=_PACE_MARKS)
        self._total: int | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Started: self._started,
            events.Progress: self._progress,
            events.Metric: self._metric,
            events.Sample: self._sample,
            events.Delta: self._delta,
            events.Rejected: self._reject,
            events.Example: self._example,
            events.Saved: self._saved,
            events.Warned: self._warned,
            events.StageVerdict: self._judged,
            events.Scored: self._scored,
            events.ServerReady: self._server_ready,
            events.Finished: self._ended,
            events.Failed: self._ended,
        }

    def take(self, event: Event) -> None:
        """Take in the next event."""
        if handler := self._handlers.get(type(event)):
            handler(event)
        if self._facts.get("final") is None or self._facts["final"] is event:
            self._facts["newest"] = event.time

    def take_lines(self, lines: list[bytes]) -> None:
        """Take in lines of JSON; those of a newer version are passed over."""
        for line in lines:
            try:
                event = events.from_json(line)
            except msgspec.DecodeError:
                continue
            self.take(event)

    def view(self) -> Snapshot:
        """What there is now; it stays as it is."""
        return Snapshot(
            values=dict(self._values),
            curves={name: curve.points[:] for name, curve in self.curves.items()},
            samples=tuple(self._samples),
            texts=tuple(self._texts.values()),
            notes=tuple(self._notes),
            rejected=tuple(self._rejected.most_common()),
            step=self._step,
            total=self._total,
            seconds_left=self._seconds_left(),
            **self._facts,
        )

    def _seconds_left(self) -> float | None:
        """By the pace of the last minutes, validations and saves included."""
        if self._total is None or len(self._marks) < 2:
            return None
        (begin, before), (end, now) = self._marks[0], self._marks[-1]
        if now <= before or end <= begin:
            return None
        return max(0.0, (self._total - now) * (end - begin) / (now - before))

    def _mark(self, time: float, done: int) -> None:
        marks = self._marks
        if marks and done < marks[-1][1]:
            marks.clear()
        if len(marks) > 1 and time - marks[-2][0] < _PACE_SECONDS:
            marks.pop()
        marks.append((time, done))

    def _started(self, event: events.Started) -> None:
        self._before = {name: self._facts.get(name) for name in ("began", "newest", "final")}
        name = Path(event.run).name
        run = name if name != ".." else ""  # never out of the folder of runs
        run = run or self._facts.get("run", "")
        if event.run:
            self._facts["run_began"] = event.time
        self._facts |= {"title": event.title, "stage": event.stage, "unit": event.unit}
        self._facts |= {"began": event.time, "progress": None, "final": None, "run": run}
        self._total = event.total
        self._marks.clear()
        self._notes.append(Note(event.time, "started", event.title))

    def _progress(self, event: events.Progress) -> None:
        self._facts["progress"] = event
        if event.total is not None:
            self._total = event.total
        self._mark(event.time, event.done)

    def _metric(self, event: events.Metric) -> None:
        if event.step < self._step:  # resumed from an earlier step: what came after is void
            for curve in self.curves.values():
                curve.cut(event.step + 1)
        self._step = event.step
        if self._facts.get("progress") is None:
            self._mark(event.time, event.step)
        if event.kind == "validation":
            self._validated = event.step
            self._facts["before"] = {"val_loss": self._values.get("val_loss")}
        if len(self._values) < _CURVES or event.values.keys() <= self._values.keys():
            self._values.update(event.values)
        for name, value in event.values.items():
            if value is None or name in _NO_CURVE:
                continue
            if name not in self.curves and len(self.curves) < _CURVES:
                self.curves[name] = Curve()
            if name in self.curves:
                self.curves[name].add(event.step, value)

    def _sample(self, event: events.Sample) -> None:
        if event.step is not None:
            self._samples.append(event)
            return
        before = self._texts.pop((event.source, event.index), None)
        prompt = event.prompt or (before.prompt if before else "")
        self._write(event.source, event.index, prompt, event.text)

    def _delta(self, event: events.Delta) -> None:
        before = self._texts.get((event.source, event.index))
        text = (before.text if before else "") + event.text
        prompt = event.prompt or (before.prompt if before else "")
        self._write(event.source, event.index, prompt, text)

    def _example(self, event: events.Example) -> None:
        self._write(event.rule, event.index, f"{event.question}\n", event.answer)

    def _write(self, source: str, index: int, prompt: str, text: str) -> None:
        self._texts[source, index] = Text(source, prompt[-_TEXT:], text[-_TEXT:])
        if len(self._texts) > _TEXTS:
            self._texts.pop(next(iter(self._texts)))

    def _reject(self, event: events.Rejected) -> None:
        if event.rule in self._rejected or len(self._rejected) < _RULES:
            self._rejected[event.rule] += 1

    def _saved(self, event: events.Saved) -> None:
        path = Path(event.path)
        if event.kind in ("checkpoint", "run"):
            self._facts["run"] = path.parent.name if event.kind == "checkpoint" else path.name
        loss = event.facts.get("val_loss")
        step = event.facts.get("step")
        name = (
            f"checkpoint at step {step:,}" if isinstance(step, int) else f"{event.kind} {path.name}"
        )
        measured = self._validated in (None, step)
        more = f", val loss {loss:.3f}" if isinstance(loss, float) and measured else ""
        if "val_loss" in event.facts and not more:
            more = ", val loss not measured"
        self._notes.append(Note(event.time, "saved", name + more))

    def _warned(self, event: events.Warned) -> None:
        self._notes.append(Note(event.time, "warned", event.message, event.remedy))

    def _judged(self, event: events.StageVerdict) -> None:
        text = f"{event.stage}: {event.verdict}  {event.detail}".rstrip()
        self._notes.append(Note(event.time, "judged", text, event.remedy))

    def _scored(self, event: events.Scored) -> None:
        self._notes.append(Note(event.time, "scored", scored_line(event)))

    def _server_ready(self, event: events.ServerReady) -> None:
        link = f"{event.url}/#token={event.token}" if event.token else event.url
        self._notes.append(Note(event.time, "listening", f"answers at {link}"))

    def _ended(self, event: events.Finished | events.Failed) -> None:
        self._facts["final"] = event
        counted = event.summary.get("rejected") if isinstance(event, events.Finished) else None
        if isinstance(counted, dict):  # all of them; one by one only the first few were
            numbers = {rule: n for rule, n in counted.items() if isinstance(n, int)}
            self._rejected = Counter(dict(list(numbers.items())[:_RULES]))
        if isinstance(event, events.Finished) and event.skipped and self._before.get("final"):
            self._facts |= self._before  # nothing was done: it ended as it had ended before
