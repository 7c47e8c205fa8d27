"""The words and figures of a watched job or run, as Content. Knows no widgets and no clock."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from textual.content import Content

from app.jobs.job import ACTIVE, FAILED, Job
from app.tui.watch.event_summary import Snapshot
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, block, joined, mark, plain
from pipeline.benchmark.report import tables
from pipeline.benchmark.wording import metric_title, shown, span
from pipeline.events import Failed, Finished
from pipeline.runs.judged import checked
from utils.units import human_bytes, human_seconds

_BAR = 24
_SHARE = 6  # columns of the share behind the bar
_SUMMARY_LINES = 8
_LABEL, _FIGURE = 9, 10
_FOR_PROGRAMS = ("units", "fingerprint", "tokenizer_fingerprint")


_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("loss", "loss", "{:.3f}".format),
    ("val loss", "val_loss", "{:.3f}".format),
    ("bits/byte", "bits_per_byte", "{:.3f}".format),
    ("chosen", "chosen_logprob", "{:.1f}".format),
    ("rejected", "rejected_logprob", "{:.1f}".format),
    ("margin", "margin", "{:+.3f}".format),
    ("tokens/s", "tokens_per_second", "{:,.0f}".format),
    ("MFU", "mfu", "{:.0%}".format),
    ("lr", "learning_rate", "{:.2e}".format),
    ("grad norm", "grad_norm", "{:.2f}".format),
    ("memory", "memory", human_bytes),
)


def state_of(view: Snapshot, job: Job | None, *, held: bool) -> str:
    """One of the states of a job; `held` says that a process has the run open."""
    if job is not None:
        return job.state
    if isinstance(view.final, Finished):
        return "stopped" if view.final.stopped else "done"
    return "running" if held else "stopped"


def headline(view: Snapshot, job: Job | None, state: str, now: float, *, brief: bool) -> Content:
    """The state, how far, how long, how much longer; `brief` leaves out what has passed."""
    done, total, unit = _amount(view)
    parts = []
    if unit == "steps" and done:
        whole = total is None or done >= total
        parts.append(f"{done:,} steps" if whole else f"step {done:,} / {total:,}")
    elif state in ("running", "waiting"):
        parts.append(state)
    if state not in ("running", "waiting"):
        parts.append("not running" if job is None and view.final is None else state)
    seconds = _elapsed(view, job, state, now)
    if seconds is not None and not (brief and state == "running" and view.seconds_left):
        parts.append(human_seconds(seconds))
    if state == "running" and view.seconds_left is not None and view.newest is not None:
        left = max(0.0, view.seconds_left - (now - view.newest))
        parts.append(f"{human_seconds(left)} left")
    return joined(mark(state), " ", (" · ".join(parts), ""))


def _elapsed(view: Snapshot, job: Job | None, state: str, now: float) -> float | None:
    """Seconds of a job's work; of a run without one, those of all its trainings or of this one."""
    if job is not None:
        return job.duration(now)
    if isinstance(view.final, Finished):
        reported = view.final.summary.get("seconds")
        if isinstance(reported, int | float):
            return float(reported)
    end = now if state == "running" else view.newest
    return None if view.began is None or end is None else max(0.0, end - view.began)


def progress(view: Snapshot, state: str, width: int) -> Content:
    """The bar, the share, and what the stage says about itself."""
    done, total, unit = _amount(view)
    if state == "waiting":
        return plain("waits until the jobs before it are done", MUTED)
    if not view.title:
        return plain("starting …" if state == "running" else "it has reported nothing", MUTED)
    if state not in ACTIVE and not view.curves:
        return plain(view.title)
    parts: list[Content] = []
    if total:
        share = 1.0 if state == "done" else done / total  # a later stage may have begun anew
        length = max(_BAR, width - _SHARE) if view.curves else _BAR
        parts.append(joined(_bar(share, length), f" {share:4.0%}"))
    if done and unit != "steps":
        of = f" / {_quantity(total, unit)}" if total else ""
        parts.append(plain(f"{_quantity(done, unit)}{of}{f' {unit}' if unit != 'bytes' else ''}"))
    reported = view.progress
    if reported is not None and state == "running" and not view.curves:
        parts += [joined((name, MUTED), f" {value}") for name, value in reported.figures.items()]
        if reported.message:
            parts.append(plain(reported.message, MUTED))
    if not parts:
        parts.append(plain(view.title))
    return joined("   ").join(parts).truncate(width, ellipsis=True)


def _bar(share: float, length: int) -> Content:
    filled = round(max(0.0, min(1.0, share)) * length)
    return joined(("━" * filled, "$accent"), ("─" * (length - filled), MUTED))


def _amount(view: Snapshot) -> tuple[int, int | None, str]:
    """Done, total and unit of the stage that runs now."""
    reported = view.progress
    done = reported.done if reported else 0
    unit = (reported.unit if reported else "") or view.unit
    if unit == "steps":
        done = max(done, view.step) if not reported else done
    return done, view.total, unit


def _quantity(count: int, unit: str) -> str:
    return human_bytes(count) if unit == "bytes" else f"{count:,}"


def figures(view: Snapshot, width: int) -> Content:
    """The newest values, in as many columns as fit."""
    cells = []
    for label, name, number in (*_FIGURES[:3], *_task_figures(view), *_FIGURES[3:]):
        value = view.values.get(name)
        if value is None and name not in view.values:
            continue
        text = "?" if value is None else number(value)
        trend = _trend(view, name)
        cells.append((plain(label, MUTED), joined((text, "bold"), trend)))
    across = max(1, (width + 2) // (_LABEL + _FIGURE + 4))
    lines = []
    for start in range(0, len(cells), across):
        group = cells[start : start + across]
        flat = [cell for pair in group for cell in pair]
        lines.append(columns(flat, [_LABEL, -_FIGURE] * len(group)))
    return Content("\n").join(lines)


def _task_figures(view: Snapshot) -> Iterator[tuple[str, str, Callable[[float], str]]]:
    """Figures of tasks that a training asks between steps, whose names are `task/metric`."""
    for name in view.values:
        task, divided, metric = name.partition("/")
        if divided:
            label = task.removeprefix("embedded_").replace("_", " ")[:_LABEL].rstrip()
            yield label, name, partial(shown, metric)


def _trend(view: Snapshot, name: str) -> Content:
    before, value = view.before.get(name), view.values.get(name)
    if before is None or value is None or before == value:
        return plain("")
    return plain("▼", "$success") if value < before else plain("▲", "$warning")


def notes(view: Snapshot) -> Content:
    """What happened, newest first."""
    lines = []
    for note in reversed(view.notes):
        style, sign = {"warned": ("$warning", "!"), "saved": ("$success", "↓")}.get(
            note.kind, ("$accent", "▸")
        )
        clock = time.strftime("%H:%M:%S", time.localtime(note.time))
        remedy = (f"  {note.remedy}", MUTED)
        lines.append(joined((clock, MUTED), (f" {sign} ", style), note.text, remedy))
    return Content("\n").join(lines) if lines else plain("no notes yet", MUTED)


def rejected(view: Snapshot) -> Content:
    """How often each rule left something out."""
    total = sum(count for _, count in view.rejected) or 1
    widest = max((len(f"{count:,}") for _, count in view.rejected), default=1)
    return Content("\n").join(
        joined(f"{count:>{widest},} ", (f"{count / total:4.0%}  ", MUTED), _words(rule))
        for rule, count in view.rejected
    )


def sample(view: Snapshot) -> Content:
    """The latest text that the model in training wrote, its prompt dimmed."""
    latest = view.samples[-1]
    text = latest.text if latest.prompt else latest.text.lstrip("\n")
    return joined(block(latest.prompt, MUTED), block(text))


def texts(view: Snapshot) -> Content:
    """All texts that are being written, one below the other."""
    parts: list[Content] = []
    several = len(view.texts) > 1
    for text in view.texts:
        heading = (
            joined((text.source or "text", "bold $accent"), block("\n")) if several else plain("")
        )
        parts.append(joined(heading, block(text.prompt, MUTED), block(text.text)))
    return Content("\n\n").join(parts)


def ending(view: Snapshot, job: Job | None, state: str) -> Content:
    """How it ended, what it made, and what comes next; empty while it runs."""
    if state in ACTIVE or (job is None and view.final is None):
        return plain("")
    final = view.final
    lines: list[Content] = []
    if isinstance(final, Failed) and state in FAILED:
        lines += [joined(mark(state), (f" {final.problem}", "bold"))]
        lines += [block(f"Found: {final.found}", MUTED)] if final.found else []
        lines += [block(f"Try: {final.remedy}")] if final.remedy else []
        report = scores_of(view)
        lines += [] if report is None else _scores(report)
    elif state in FAILED:
        sentence = "was killed" if state == "killed" else "died without a last word"
        lines += [
            joined(mark(state), (f" It {sentence}.", "bold"), " What it had saved is intact.")
        ]
        lines += [plain(line, MUTED) for line in view.log[-3:]]
    else:
        lines.append(_verdict(view, state, of_job=job is not None))
    if state in FAILED and job is not None:
        lines.append(joined(("d", "bold $accent"), " says why, and what helps"))
    return Content("\n").join(lines)


def _verdict(view: Snapshot, state: str, *, of_job: bool) -> Content:
    final = view.final if isinstance(view.final, Finished) else Finished()
    if state == "stopped":
        sentence = " Stopped; everything up to here is saved."
    elif final.skipped:
        sentence = " Nothing to do: it is there and up to date."
    else:
        sentence = " Done."
    report = scores_of(view)
    leads = " The board (Esc) names the next step."
    further = leads if of_job and state == "done" and report is None else ""
    lines = [joined(mark(state), (sentence, "bold"), (further, MUTED))]
    if final.path:
        lines.append(joined(("made  ", MUTED), final.path))
    if report is not None:
        return Content("\n").join([lines[0], *_scores(report)])
    return Content("\n").join([*lines, *islice(_figures(final.summary), _SUMMARY_LINES)])


def scores_of(view: Snapshot) -> Mapping[str, Any] | None:
    """The report of a benchmark that is over; None of all else, and where nothing was scored."""
    final = view.final
    if view.stage != "benchmark" or final is None:
        return None
    return checked(final.summary)


def _scores(report: Mapping[str, Any]) -> Iterator[Content]:
    """A line a task, the best score and whether it can be told from the others; b shows more."""
    found = tables(report)
    longest = max(len(table.title) for table in found)
    for table in found:
        if not table.scores:
            yield joined(f"{table.title:<{longest}}  ", ("no score", "$warning"))
            continue
        best = table.scores[0]
        who = (f"  ★ {best.name}", "$success") if best.best else (f"  {best.name}", "")
        if table.tied:
            who = ("  ≈ not told apart", MUTED)
        elif len(table.scores) == 1:
            who = (f"  {span(table.metric, best.low, best.high)}", MUTED)
        value = f"{metric_title(table.metric)} {shown(table.metric, best.value)}"
        yield joined(f"{table.title:<{longest}}  ", (f"{value:<18}", "bold"), who)
    yield joined(("b", "bold $accent"), " shows every checkpoint with its interval, and the curves")


def _figures(summary: Mapping[str, Any]) -> Iterator[Content]:
    """The lines of a summary that a person can read."""
    for name, value in summary.items():
        if name in _FOR_PROGRAMS:
            continue
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            continue  # figures within figures are for programs
        if isinstance(value, dict) and name != "rejected":
            value = ", ".join(f"{_words(inner)} {count}" for inner, count in value.items())
        if isinstance(value, str | int | float) and value != "":
            yield joined((f"{_words(name)}  ", MUTED), _readable(name, value))


def _words(name: str) -> str:
    return {"seconds": "training time in all"}.get(name, name.replace("_", " "))


def _readable(name: str, value: str | float) -> Content:
    if isinstance(value, bool | str):
        return block(value)
    if "bytes" in name.split("_") and "per" not in name.split("_"):
        return plain(human_bytes(value))
    if name == "seconds":
        return plain(human_seconds(value))
    return plain(f"{value:,}" if isinstance(value, int) else f"{value:,.4g}")
