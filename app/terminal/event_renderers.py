"""How events look in a terminal, in a pipe and in a job folder.

What goes where, without --json: everything a person follows goes to stderr. On stdout stands the
result and nothing else, so that it can be piped:
1. a prompt and what a model writes after it, as it is written; several texts have headings;
2. otherwise the path of what the stage made;
3. otherwise the first entry of its summary: text as it is, token ids joined by commas, rows as
   a table (nothing where the stage was stopped).
A stage that failed has no result. With --json stdout holds every event as a line
of JSON, and stderr is silent but for a failure.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rich.padding import Padding
from rich.progress import Progress
from rich.text import Text

from app.charts.chart import loss_chart
from app.terminal.layout import (
    Console,
    amount,
    bare,
    progress_line,
    readable,
    report_failure,
    spaced,
    table,
    without_loops,
)
from app.terminal.streams import Streams
from pipeline import events
from pipeline.benchmark.report import format_benchmark_results, scored_line, tables
from pipeline.events import Event
from pipeline.rehearsal.verdicts import MARKS
from pipeline.runs.judged import checked
from utils.errors import HatcheryError
from utils.text import safe, safe_json
from utils.units import human_bytes, human_seconds

_PLAIN_INTERVAL = 10.0
_REJECTIONS_SHOWN = 3
_WORTH_A_CHART = 10  # points
_OF_FILES = ("units",)  # counts what a stage divides its work into, which no user chose
_BRIEF = 32  # characters of a fact beside others; the manifest has the longer ones


class EventRenderer:
    """Shows events; used as a context manager."""

    def show(self, event: Event) -> None:
        """Show one event.

        Raises:
            OSError: the reader has left or the terminal is gone.
        """
        raise NotImplementedError

    def waiting(self, message: str) -> None:
        """Say what the time before the first event goes into, where lines can be redrawn."""

    def close(self) -> None:
        """Give the terminal or file back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


class JsonRenderer(EventRenderer):
    """Every event as a line of JSON on stdout, in UTF-8 whatever the locale."""

    def show(self, event: Event) -> None:
        sys.stdout.buffer.write(safe_json(events.to_json(event)) + b"\n")
        sys.stdout.buffer.flush()
        if isinstance(event, events.Failed):
            report(event)


class TerminalRenderer(EventRenderer):
    """Progress and notes on stderr, the result on stdout.

    Where stderr is no terminal, progress becomes a plain line every ten seconds.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._out = Console()
        self._bar: Progress | None = None
        self._began: float | None = None
        self._stage = ""
        self._last_line = 0.0
        self._rejected: Counter[str] = Counter()
        self._streams = Streams(self._out, self._console)
        self._wrote_text = False
        self._serves = False
        self._not_ready = self._unscored = False
        self._last_saved: events.Saved | None = None
        self._curves: dict[str, list[tuple[int, float]]] = {"loss": [], "val_loss": []}
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
            events.Finished: self._finished,
            events.Failed: self._failed,
        }

    def show(self, event: Event) -> None:
        if not isinstance(event, events.Delta | events.Sample):
            self._streams.break_off()
        self._handlers[type(event)](event)

    def close(self) -> None:
        self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.stop()

    def _start_bar(self, total: int | None, unit: str, message: str) -> None:
        if self._console.lively:
            self._bar = progress_line(self._console)
            self._bar.add_task("", total=total, unit=unit, message=message, figures=[])
            self._bar.start()

    def waiting(self, message: str) -> None:
        self._start_bar(None, "", message)

    def note(self, text: str, style: str = "dim") -> None:
        """Say something that is no event."""
        self._console.say(f"  {text}", style)

    def _started(self, event: events.Started) -> None:
        self._end_bar()
        self._rejected.clear()
        self._began = self._began or event.time
        self._stage = event.stage
        self._last_line = time.monotonic()
        self._streams.headings = event.unit == "texts" and (event.total or 1) > 1
        self._console.say(f"{self._console.sign('●')} {event.title}", "bold")
        self._start_bar(event.total, event.unit, "")

    def _progress(self, event: events.Progress) -> None:
        figures = [f"{name} {value}" for name, value in event.figures.items()]
        if self._bar is not None:
            if event.total is None:  # which update() reads as "as before"
                self._bar.tasks[0].total = None
            self._bar.update(
                self._bar.task_ids[0],
                completed=event.done,
                total=event.total,
                unit=event.unit,
                message=event.message,
                figures=figures,
            )
        elif time.monotonic() - self._last_line >= _PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            parts = [amount(event.done, event.total, event.unit), *figures, event.message]
            self.note(safe("  ".join(part for part in parts if part), lines=False), "")

    def _metric(self, event: events.Metric) -> None:
        for name, points in self._curves.items():
            value = event.values.get(name)
            if value is not None:
                points.append((event.step, value))
        if event.kind in ("validation", "benchmark"):
            shown = [f"{spaced(name)} {readable(value)}" for name, value in event.values.items()]
            self.note(f"step {event.step:,}  {'  '.join(shown)}", "")

    def _sample(self, event: events.Sample) -> None:
        if event.step is not None:
            self.note(f"sample at step {event.step:,}")
            text = without_loops(event.prompt + event.text)
            self._console.say(_indented(safe(text)), "green")
            return
        self._delta(event)

    def _delta(self, event: events.Delta | events.Sample) -> None:
        self._end_bar()
        self._wrote_text = True
        self._streams.take(event)

    def _reject(self, event: events.Rejected) -> None:
        self._rejected[event.rule] += 1
        if self._rejected[event.rule] <= _REJECTIONS_SHOWN:
            line = f"left out: {spaced(event.rule)}  {event.where}  {event.detail}"
            self.note(safe(line, lines=False)[:300])

    def _example(self, event: events.Example) -> None:
        self.note(safe(f"{spaced(event.rule)}  {event.where}", lines=False))
        for text, style in ((event.question, ""), (event.answer, "green")):
            self._console.say(_indented(safe(text)), style)

    def _saved(self, event: events.Saved) -> None:
        if event.kind == "run":
            self._draw_chart()
        self._last_saved = event
        facts = [_fact(n, v) for n, v in event.facts.items() if _brief(v) and n not in _OF_FILES]
        line = f"saved {event.kind}: {event.path}"
        if len(brief := "  ".join([line, *facts])) + 2 <= self._console.width:
            self.note(brief)
            return
        self.note(line)
        for row in filled(facts, self._console.width - 4):
            self.note(f"  {row}")

    def _warned(self, event: events.Warned) -> None:
        remedy = event.remedy
        if not remedy.startswith("python "):
            remedy = remedy[:1].upper() + remedy[1:]
        self.note(f"! {event.message} {remedy}".rstrip(), "yellow")

    def _judged(self, event: events.StageVerdict) -> None:
        self._not_ready = self._not_ready or event.verdict == "fails"
        style = {"works": "green", "works but": "yellow", "fails": "red"}.get(event.verdict, "dim")
        sign = self._console.sign(MARKS[event.verdict])
        self._hung(f"{sign} {event.stage} {event.verdict}: {event.detail}".rstrip(": "), style, 2)
        for name, text in (("Found", event.found), ("Next", event.remedy)):
            if text:
                self._hung(f"{name}: {text}", "", 6)

    def _scored(self, event: events.Scored) -> None:
        self.note(self._console.drawable(scored_line(event)), "")

    def _server_ready(self, event: events.ServerReady) -> None:
        """Where the server is, and how a program asks it."""
        self._end_bar()
        self._serves = True
        key = event.token or "$HATCHERY_TOKEN"
        link = f"{event.url}/#token={event.token}" if event.token else event.url
        self._print_result(link)
        self.note(
            f'in a program: curl {event.url}/v1/completions -H "Authorization: Bearer {key}" '
            """-d '{"prompt": "Once", "max_tokens": 40}'"""
        )
        self.note("stop: Ctrl-C")

    def _hung(self, text: str, style: str, indent: int) -> None:
        """Say something long, whose further lines in a terminal begin below its first."""
        if self._console.is_terminal:
            line = Text(safe(text), style=style)
            self._console.print(Padding(line, (0, 0, 0, indent), expand=False))
        else:
            self._console.say(" " * indent + text, style)

    def _draw_chart(self) -> None:
        """The loss curves of a training that is over."""
        self._end_bar()
        named = {"training": self._curves["loss"], "validation": self._curves["val_loss"]}
        if len(named["training"]) >= _WORTH_A_CHART and self._console.unicode:
            chart = loss_chart(named, width=min(100, self._console.width - 4))
            self._console.say(_indented(chart))
        for points in self._curves.values():
            points.clear()

    def _finished(self, event: events.Finished) -> None:
        self._end_bar()
        self._draw_chart()
        for rule, count in self._rejected.most_common():
            if count > _REJECTIONS_SHOWN:
                self.note(f"left out: {spaced(rule)} {count:,} times")
        result: Any = event.path
        summary = dict(event.summary)
        if self._stage == "benchmark" and (scores := checked(summary)) is not None:
            self._scores(scores)
            summary.clear()
        if result is None and summary and not self._wrote_text and not event.stopped:
            result = summary.pop(next(iter(summary)))
        saved_facts = (
            self._last_saved.facts
            if self._last_saved is not None and self._last_saved.path == result
            else {}
        )
        for name, value in summary.items():
            told = _brief(value) and saved_facts.get(name) == value
            if told or name in _OF_FILES or value in ([], {}):
                continue
            if isinstance(value, list) and all(isinstance(row, dict) for row in value):
                continue  # rows beside the result are for programs
            if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
                continue  # and so are figures within figures
            text = readable(value)
            line = f"{spaced(name)}:\n{text}" if "\n" in text else _fact(name, value, ": ")
            self.note(line, "")
        self._verdict(event)
        if result is not None:
            self._print_result(result)

    def _scores(self, report: dict[str, Any]) -> None:
        """A table of checkpoints for every task; what is best has a sign beside its colour."""
        self._unscored = any(table.failed for table in tables(report))
        width = max(40, min(120, self._console.width - 2))
        for line in format_benchmark_results(report, width).splitlines():
            best = line.lstrip().startswith("★")
            style = "bold" if line and line[0] != " " else "green" if best else ""
            self.note(self._console.drawable(line), style)

    def _verdict(self, event: events.Finished) -> None:
        took = f" after {human_seconds(event.time - self._began)}" if self._began else ""
        if event.skipped:
            self.note("nothing to do: it is there and up to date")
        elif event.stopped and self._serves:
            self.note(f"{self._console.sign('✓')} stopped{took}", "green")
        elif event.stopped:
            self.note(f"! stopped{took}; everything up to here is saved", "yellow")
        elif self._unscored:
            self.note(f"! done{took}; not every checkpoint has a score", "yellow")
        elif self._not_ready:  # which the failure that comes after the table explains
            self.note(f"{self._console.sign('✕')} ended{took}", "red")
        else:
            self.note(f"{self._console.sign('✓')} done{took}", "green")

    def _print_result(self, result: Any) -> None:
        if isinstance(result, list) and result and isinstance(result[0], dict):
            self._out.print(table(result))
        else:
            self._out.print(Text(safe(bare(result))), soft_wrap=True)

    def _failed(self, event: events.Failed) -> None:
        self._end_bar()
        report(event)


def _fact(name: str, value: object, between: str = " ") -> str:
    """A fact as people read it: text_bytes 371,433 -> 'text 362.7 KiB'."""
    words = name.split("_")
    if words[-1] == "bytes" and isinstance(value, int):
        return f"{' '.join(words[:-1]) or 'size'}{between}{human_bytes(value)}"
    return f"{spaced(name)}{between}{readable(value)}"


def filled(facts: Sequence[str], width: int) -> Iterator[str]:
    """Rows of facts, none of which is divided; each row of `width` characters at most, unless one
    alone is longer."""
    row = ""
    for fact in facts:
        if row and len(row) + 2 + len(fact) > width:
            yield row
            row = fact
        else:
            row = f"{row}  {fact}" if row else fact
    if row:
        yield row


def _brief(value: object) -> bool:
    """Whether a fact fits into a line with others."""
    return not isinstance(value, list | dict | None) and len(str(value)) <= _BRIEF


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


def report(event: events.Failed) -> None:
    """One paragraph on stderr about what went wrong."""
    report_failure(HatcheryError(event.problem, found=event.found, remedy=event.remedy))
