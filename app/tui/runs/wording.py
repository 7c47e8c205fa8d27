"""How runs and checkpoints read: the lines of the tree, and the details of one."""

from collections.abc import Iterator
from pathlib import Path

from textual.content import Content

from app.tui.runs.tree import Row
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, mark, plain
from pipeline.runs.lineage import Facts, Proofs
from utils.units import ago, human_bytes, human_count, human_seconds

_STEP, _LOSS, _SIZE, _AGE = 7, 6, 9, 10


def line(row: Row, width: int, now: float, *, chosen: bool) -> Content:
    """A row in `width` cells; in narrow ones size and age are left out."""
    name, rest = _widths(width)
    age = ago(max(0.0, now - row.modified)) if row.modified else ""
    cells = [
        plain("" if row.step is None or not row.top else f"{row.step:,}", MUTED),
        plain("–" if row.loss is None else f"{row.loss:.3f}", "bold $success" if row.best else ""),
        plain(human_bytes(row.size), MUTED),
        plain(age, MUTED),
    ][: len(rest)]
    if row.why:  # the reason takes the place of step and loss
        name += sum(2 - size for size in rest[:2])
        cells, rest = cells[2:], rest[2:]
    return columns([_name(row, chosen=chosen), *cells], [name, *rest])


def heading(width: int) -> Content:
    """The names of the columns of `line`."""
    name, rest = _widths(width)
    names = ["run or checkpoint", "step", "val", "size", "age"][: len(rest) + 1]
    return columns([plain(text, MUTED) for text in names], [name, *rest])


def _widths(width: int) -> tuple[int, list[int]]:
    """The width of the name, and of the columns that fit beside it."""
    rest = [-_STEP, -_LOSS] + [-_SIZE] * (width >= 60) + [-_AGE] * (width >= 72)
    return max(16, width - sum(2 - size for size in rest)), rest


def _name(row: Row, *, chosen: bool) -> Content:
    tick = ("✓ ", "bold $accent") if chosen else ("  ", "")
    if row.top:
        fold = ("▾ " if row.open else "▸ ", MUTED)
        state = joined(mark("running"), " ") if row.writing else Content("")
        why = row.why or ("running" if row.writing else "")
        return joined(tick, fold, state, (row.name, "bold"), (f"  {why}", "$warning"))
    if row.why:
        return joined(tick, "   ", mark("damaged"), f" {row.name}", (f"  {row.why}", "$warning"))
    usual = ("●", "$secondary") if row.latest else ("·", "")
    sign, style = ("★", "$success") if row.best else usual
    words = ", ".join(["best"] * row.best + ["latest"] * row.latest)
    return joined(tick, "   ", (sign, style), " ", (row.name, style), "  ", (words, style))


def details(row: Row, facts: Facts, now: float, proofs: Proofs = ()) -> Content:
    """What is known of a run or checkpoint, one fact a line; `proofs` are those of its exports."""
    return Content("\n").join(_details(row, facts, now, proofs))


def _details(row: Row, facts: Facts, now: float, proofs: Proofs) -> Iterator[Content]:
    yield plain(row.run if row.top else f"{row.run}, {row.name}", "bold")
    if row.why:
        yield joined(mark("running" if row.writing else "damaged"), " ", (row.why, "$warning"))
    if not row.top:
        words = ["best so far"] * row.best + ["latest"] * row.latest
        yield _fact("Checkpoint", ", ".join([f"step {row.step:,}" if row.step else "", *words]))
    if row.loss is not None:
        yield _fact("Best val" if row.top else "Val loss", f"{row.loss:.4f} nats per token")
    elif row.kind == "checkpoint" and row.step is not None:
        yield _fact("Val loss", "not measured at this step")
    when = f", {ago(max(0.0, now - row.modified))}" if row.modified else ""
    yield _fact("On disk", human_bytes(row.size) + when)
    for name, sentence in proofs:
        yield _fact("Template", f"{sentence} (exports/{name})")
    if facts.fault:
        yield joined(("No record   ", MUTED), (facts.fault, "$warning"))
        return
    if facts.parameters:
        yield _fact("Parameters", f"{human_count(facts.parameters)} ({facts.parameters:,})")
    if facts.steps is not None:
        seen = f", {human_count(facts.tokens)} tokens" if facts.tokens else ""
        took = f" in {human_seconds(facts.seconds)}" if facts.seconds else ""
        name = "Trained" if row.top else "Whole run"
        stopped = f" of {facts.planned:,}, then stopped" if facts.planned else ""
        yield _fact(name, f"{facts.steps:,} steps{stopped}{seen}{took}")
    if facts.data:
        stale = (f"  ↻ {facts.data_fault}", "$warning") if facts.data_fault else ("", "")
        yield joined(("Data        ", MUTED), Path(facts.data).name, stale)
    if facts.tokenizer:
        yield _fact("Tokenizer", facts.tokenizer)
    if facts.parent:
        yield _fact("Branched off", facts.parent)
    if facts.branches:
        yield _fact("Branches", ", ".join(facts.branches))
    if facts.created:
        yield _fact("Begun", f"{facts.created[:16].replace('T', ' ')}, version {facts.version}")
    if facts.changed:
        yield plain("")
        yield plain("Set differently from the default", "bold")
        for name, value in facts.changed:
            yield joined((f"{name:<22} ", MUTED), value)


def _fact(name: str, text: str) -> Content:
    return joined((f"{name:<12}" if len(name) < 12 else f"{name} ", MUTED), text.strip(", "))
