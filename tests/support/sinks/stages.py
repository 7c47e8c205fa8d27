"""The ways into what screens are made of, into forms, stages, runs and the peek."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Static

from app.charts.chart import Series
from app.charts.curve import Point
from app.tui.board.disk_panel import DiskPanel, DiskUse
from app.tui.board.system_panel import SystemPanel
from app.tui.data import documents, rejected
from app.tui.data.conversations import ConversationsView
from app.tui.data.documents import DocumentsView
from app.tui.data.rejected import RejectedView
from app.tui.data.tokens import TokenColumn, TokensView
from app.tui.data.windows import WindowsView
from app.tui.forms.field import ChoiceLine, TextLine
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.field_spec import Field
from app.tui.runs import scores_wording
from app.tui.settings.text_editor import Editor
from app.tui.stage import flow_panel
from app.tui.stage.flow_panel import FlowPanel
from app.tui.stage.preflight import Outlook
from app.tui.stage.preflight_card import PreflightCard
from app.tui.stage.stage_flow import Input as Given
from app.tui.system import Reading
from app.tui.watch import overlays, wording
from app.tui.watch.event_summary import Note, Snapshot, Text
from app.tui.watch.last_run import LastRun, LastRunPanel
from app.tui.watch.overlays import Overlays
from app.tui.watch.panels import LogView, RunPanels
from app.tui.watch.run_chart import RunChart
from app.tui.widgets import find_bar
from app.tui.widgets.completion import Choices
from app.tui.widgets.curve_chart import CurveChart
from app.tui.widgets.find_bar import FindBar
from app.tui.widgets.frame import Header
from app.tui.widgets.meter import columns, fitted
from app.tui.widgets.text import block, joined, plain
from app.tui.widgets.virtual_list import RowList
from pipeline.benchmark.report import Score, TaskTable
from pipeline.cleaner.steps import Rejection
from pipeline.events import Finished, Progress, Sample
from pipeline.inspection.conversations import InspectedItem, Stretch
from pipeline.inspection.conversations import Line as ItemLine
from pipeline.inspection.documents import InspectedDocument
from pipeline.inspection.rejected import Reason
from pipeline.inspection.tokens import Tokens
from pipeline.inspection.trace import Mark, Use
from pipeline.inspection.windows import Excerpt, Window
from pipeline.planning.remedies import Remedy
from pipeline.planning.wording import Line
from pipeline.sources.documents import Document
from pipeline.stages import Product
from tests.support.sinks.sink import Sink, Told, each, fill_panel, lines, stack
from utils.errors import HatcheryError
from utils.gpu import Gpu

_CURVE = [Point(step, 1.0, 2.0, 1.5, 1) for step in range(1, 5)]


def cells(text: str) -> Content:
    return columns([plain(text), joined(text, (text, "bold"))], [90, -90])


def titled(box: Widget, text: str) -> None:
    box.border_title = plain(text)
    box.border_subtitle = joined((text, "bold"))


def labelled(button: Button, text: str) -> None:
    button.label = plain(text)


def edited(editor: Editor, texts: Sequence[str]) -> None:
    editor.text = "\n".join(text.replace("\n", " ") for text in texts)


def placed(header: Header, text: str) -> None:
    header.place(text, text)
    header.fact(text)


def asked(shown: FindBar, text: str) -> None:
    with patch.object(find_bar._Line, "focus"):  # a hundred of them would take it in turns
        shown.ask(text, text, text)


def panel() -> FieldPanel:
    def field(number: int) -> Field:
        choices = ("a", "b") if number % 2 else ()
        kind: Any = "choice" if choices else "text"
        return Field(f"train.field_{number}", "x", kind, "What it is", "", True, choices=choices)

    return FieldPanel(Told(), [("train", [field(n) for n in range(36)])], origins=True)


def choose(held: Widget, texts: Sequence[str]) -> Awaitable[object]:
    held.remove_children()
    return held.mount(Choices(texts, lambda _: None))


def reckon(card: PreflightCard, texts: Sequence[str]) -> None:
    a, b, c, d, *_ = texts * 4
    told = [Line(a, b, c, True), Line("Time", d)]
    remedies = [Remedy(text, text, {}) for text in texts]
    error = HatcheryError(a, found=b, remedy=c)
    card._failed, card._found = error, Outlook(told, None, remedies, HatcheryError(d))
    card._draw()


def flowing(shown: FlowPanel, texts: Sequence[str]) -> None:
    given = [Given(text, Product("stale", text, why=text)) for text in texts]
    shown._lines = flow_panel._under("Reads", [flow_panel._input(one) for one in given])
    shown._draw()


def overlay(shown: Overlays, texts: Sequence[str]) -> None:
    listed: Any = [SimpleNamespace(name=text) for text in texts]
    with patch.object(overlays, "_with_curves", return_value=listed):
        shown.open(Path(), None)


def reading(shown: SystemPanel, texts: Sequence[str]) -> None:
    gpus = tuple(Gpu(text, 1, 2, 0.5, 40) for text in texts)
    shown.show(Reading(1, 0.5, 1, 2, 1, 2, gpus))


def last_run(shown: LastRunPanel, texts: Sequence[str]) -> None:
    told = Sample(text="\n".join(texts), prompt=texts[0], step=1)
    shown.show(LastRun(Path(texts[0]), Snapshot(curves={"loss": _CURVE}, samples=(told,))))


def disk(shown: DiskPanel, texts: Sequence[str]) -> None:
    shown.fit(len(texts))
    shown.show([DiskUse("Train", text, 1) for text in texts])


def curved(chart: CurveChart, text: str) -> None:
    chart.show([Series(text, _CURVE)])


def run_charts() -> Widget:
    return Vertical(*(RunChart(id=f"chart{n}") for n in range(45)), classes="charts high")


def overlaid(chart: RunChart, text: str) -> None:
    chart.show(Snapshot(curves={"loss": _CURVE}, overlays={text: {"loss": _CURVE}}))


def going(text: str) -> Content:
    told = Progress(1, figures={text: text}, message=text)
    return wording.progress(Snapshot(title=text, progress=told), "running", 230)


def ended(text: str) -> Content:
    final = Finished({text: text}, path=text)
    return wording.ending(Snapshot(title=text, final=final), None, "done")


_PLACES = 12  # of foreign text on the screen of benchmarks


def judged(shown: Static, texts: Sequence[str]) -> None:
    """What the screen of benchmarks shows of a task and its checkpoints, each text in one place."""
    title, name, other, scope, where, failed, error, verdict, join, data, left, trend = (
        texts[place % len(texts)] for place in range(_PLACES)
    )
    score = Score(name, name, 0.5, 0.4, 0.6, {other: 0.1}, best=True)
    table = TaskTable(
        "piqa", title, "acc", False, 0.5, scope, where, 3, 9, (score,),
        failed={failed: error}, verdict=(verdict,), recipe={"join": join, "data": data},
        left_out={left: 1},
    )  # fmt: skip
    line = scores_wording.task_line(table, 230)
    shown.update(
        Content("\n").join([line, scores_wording.about_task(table, 230, f": {trend}", recipe=True)])
    )


def watched(told: str, page: int, fill: Callable[[Sequence[str]], Snapshot]) -> Sink:
    def feed(shown: RunPanels, texts: Sequence[str]) -> None:
        shown.show(fill(texts), None, "done")

    return Sink(f"watched {told}", page, RunPanels, feed, (RunPanels,))


def notes(texts: Sequence[str]) -> Snapshot:
    return Snapshot(title=texts[0], notes=tuple(Note(0.0, text, text, text) for text in texts))


def rules(texts: Sequence[str]) -> Snapshot:
    return Snapshot(title=texts[0], rejected=tuple((text, 1) for text in texts))


def sample(texts: Sequence[str]) -> Snapshot:
    told = Sample(text="\n".join(texts), prompt=texts[0], step=1)
    return Snapshot(curves={"loss": _CURVE}, samples=(told,))


def written(texts: Sequence[str]) -> Snapshot:
    return Snapshot(texts=tuple(Text(text, text, text) for text in texts))


def document(shown: DocumentsView, texts: Sequence[str]) -> None:
    raw, half = "\n".join(texts), len(texts[0])
    uses = [Use(f"{n} {text}", 1, 1, text) for n, text in enumerate(texts)]
    marks = [Mark(0, half, uses[0].rule)]
    look = InspectedDocument(texts[0], raw, raw, marks, np.arange(len(raw)), "")
    shown.show(look, uses, texts[-1])


def rejection(shown: RejectedView, texts: Sequence[str]) -> None:
    examples = [Rejection(text, text, text) for text in texts]
    shown.show([Reason(text, 2, examples) for text in texts])
    shown.show_example(examples[0], "\n".join(texts))


def tokens(shown: TokensView, texts: Sequence[str]) -> Awaitable[object]:
    pieces = [(text, 7) for text in texts]
    sound = Tokens(texts[0], 9, pieces, len(pieces), 99)
    return shown.show(texts[-1], [sound, Tokens(texts[1], 9, [], 0, 0, fault="\n".join(texts))])


def window(shown: WindowsView, texts: Sequence[str]) -> None:
    excerpts = [Excerpt(n, 0, 5, 5, text) for n, text in enumerate(texts)]
    titles = {n: Document("", text, "") for n, text in enumerate(texts)}
    shown.show_batch(plain(texts[0]), [1, 2], 0)
    shown.show_window(Window(1, texts[0], 0, 5, excerpts), titles, 5)


def conversations(shown: ConversationsView, texts: Sequence[str]) -> None:
    about: Any = SimpleNamespace(
        kind="preferences", kept=len(texts), tokens=9, learned_tokens=3, held_out=[0],
        tokenizer=SimpleNamespace(name=texts[0]), rules={texts[1]: 1}, rejected={texts[2]: 1},
    )  # fmt: skip
    found: Any = SimpleNamespace(
        folder=Path("sets", texts[3].replace("/", "")), metadata=about,
        line=lambda number: ItemLine(7, True, texts[number]),
    )  # fmt: skip
    left_out = [Rejection(text, text, text) for text in texts]
    shown.show(found, left_out)
    stretches = [Stretch(text, n % 2 == 0, 5) for n, text in enumerate(texts)]
    shown.show_item(InspectedItem(0, texts[0], texts[1], 2, True, [(texts[2], stretches)]))
    shown.show_left_out(left_out[-1], "\n".join(texts))


SINKS: tuple[Sink, ...] = (
    Sink("plain", 100, Static, lines(plain)),
    Sink("joined", 100, Static, lines(lambda text: joined(text, (text, "bold")))),
    Sink("fitted", 100, Static, lines(lambda text: fitted(text, 200))),
    Sink("columns", 100, Static, lines(cells)),
    Sink("progress", 100, Static, lines(going)),
    Sink("scores", _PLACES, Static, judged),
    Sink("ending", 15, Static, lines(ended)),
    Sink("block", 25, Static, lines(block)),
    Sink("border titles", 50, stack(50, lambda: Vertical(classes="box")), each(".box", titled)),
    Sink("buttons", 100, stack(100, lambda: Button(compact=True)), each("Button", labelled)),
    Sink("text editor", 50, lambda: Editor(soft_wrap=False), edited),
    Sink("header", 100, stack(100, Header), each("Header", placed), (Header,)),
    Sink("rows", 100, lambda: RowList(lambda key, _: plain(key)), RowList.show, (RowList,)),
    Sink("log", 100, LogView, LogView.show, (LogView,)),
    Sink("finder", 100, stack(100, FindBar), each("FindBar", asked), (FindBar, find_bar._Line)),
    Sink("fields", 36, panel, fill_panel, (FieldPanel, TextLine, ChoiceLine)),
    Sink("choices", 100, Vertical, choose, (Choices,)),
    Sink("card", 20, PreflightCard, reckon, (PreflightCard,)),
    Sink("chart", 57, stack(57, CurveChart, "charts"), each("CurveChart", curved), (CurveChart,)),
    Sink("run chart", 45, run_charts, each("RunChart", overlaid), (RunChart,)),
    Sink("flow", 100, FlowPanel, flowing, (FlowPanel,)),
    Sink("overlays", 100, lambda: Overlays(id="o"), overlay, (Overlays,)),
    Sink("system", 30, SystemPanel, reading, (SystemPanel,)),
    Sink("last run", 30, lambda: LastRunPanel(Path("none"), 9.0), last_run, (LastRunPanel,)),
    Sink("disk", 100, DiskPanel, disk, (DiskPanel,)),
    Sink("documents", 40, DocumentsView, document, (DocumentsView, documents.View)),
    Sink("rejected", 30, RejectedView, rejection,
         (RejectedView, rejected.Reasons, rejected.Examples)),
    Sink("tokens", 40, TokensView, tokens, (TokensView, TokenColumn)),
    Sink("windows", 30, WindowsView, window, (WindowsView,)),
    Sink("conversations", 12, ConversationsView, conversations, (ConversationsView,)),
    watched("notes", 30, notes),
    watched("rules", 50, rules),
    watched("sample", 30, sample),
    watched("texts", 20, written),
)  # fmt: skip
