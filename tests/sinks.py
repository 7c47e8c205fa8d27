"""Feeds every hostile string to every widget that shows foreign text, in this terminal.

A sink is a way into a widget. Each gets all strings, a page at a time, and the next page comes
when every string of the last one is on the screen. What the terminal was sent is for a test to
look at. A class of app/widgets that no sink feeds is a failure.
"""

import asyncio
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from hostile import strings
from textual.containers import Vertical
from textual.content import Content
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Static

from app import tui, widgets
from app.chat_store import Kept
from app.client import Ask, Model, Sampling
from app.screens.config_text import Editor
from app.system import Gpu, Reading
from app.tui import HatcheryApp
from app.views import chat_words, compare_votes, watching
from app.views.chart import Series
from app.views.chat import Block, Conversation, Turn
from app.views.chat_answer import Answer as Written
from app.views.compare import Answer, Round, Summary
from app.views.compare_choice import Contender
from app.views.compare_match import Match
from app.views.compare_text import body, figures, title, trouble
from app.views.curve import Point
from app.views.draft import Draft
from app.views.flow import Input as Given
from app.views.form import Field
from app.views.preflight import Outlook
from app.views.story import Note, Text, View
from app.widgets import (
    chat_side,
    compare_chooser,
    compare_endpoint,
    compare_pane,
    finder,
    flow,
    footer,
    overlays,
    peek_documents,
    peek_rejected,
)
from app.widgets.card import PreflightCard
from app.widgets.chat_log import ChatLog
from app.widgets.chat_prompt import PromptArea
from app.widgets.chat_side import ChatSide
from app.widgets.chat_talk import Talk
from app.widgets.compare_arena import Arena, Pages
from app.widgets.compare_chooser import Chooser
from app.widgets.compare_duel import Duel
from app.widgets.compare_endpoint import EndpointForm
from app.widgets.compare_pane import Drawing, Pane
from app.widgets.compare_prompt import Prompt
from app.widgets.compare_sampling import SamplingPanel
from app.widgets.completion import Choices
from app.widgets.curves import CurveChart
from app.widgets.field import ChoiceLine, TextLine
from app.widgets.fields import FieldPanel, More
from app.widgets.finder import Finder
from app.widgets.flow import FlowPanel
from app.widgets.header import Header
from app.widgets.log_view import LogView
from app.widgets.meter import columns, fitted
from app.widgets.overlays import Overlays
from app.widgets.peek_documents import DocumentsView
from app.widgets.peek_rejected import RejectedView
from app.widgets.peek_tokens import TokenColumn, TokensView
from app.widgets.peek_windows import WindowsView
from app.widgets.question import Question
from app.widgets.rows import RowList
from app.widgets.run_chart import RunChart
from app.widgets.small import TooSmall
from app.widgets.system import SystemPanel
from app.widgets.text import block, joined, plain
from app.widgets.view_bar import ViewBar
from app.widgets.watched import Watched
from pipeline.clean_file import Rejection
from pipeline.documents import Document
from pipeline.events import Finished, Progress, Sample
from pipeline.peek.documents import Look
from pipeline.peek.rejected import Reason
from pipeline.peek.tokens import Tokens
from pipeline.peek.trace import Mark, Use
from pipeline.peek.windows import Excerpt, Window
from pipeline.planning.remedies import Remedy
from pipeline.planning.words import Line
from pipeline.survey import Product
from pipeline.votes import Standing, Vote
from utils.errors import HatcheryError

COLUMNS, ROWS = 240, 120
_PATIENCE = 20.0  # seconds for a page
_CURVE = [Point(step, 1.0, 2.0, 1.5, 1) for step in range(1, 5)]

# These show words of our own only.
OWN_WORDS: tuple[type[Widget], ...] = (TooSmall, ViewBar, More, footer.KeyLine, Pages)

Feed = Callable[[Any, Sequence[str]], Awaitable[object] | None]


class Sink(NamedTuple):
    """`build` makes a widget, `feed` shows it as many strings as fit on a page; `covers` are the
    classes of app/widgets that then show them."""

    name: str
    page: int
    build: Callable[[], Widget]
    feed: Feed
    covers: tuple[type[Widget], ...] = ()


class Told(Draft):
    """A draft that says what it is told to, of every setting in turn."""

    def __init__(self) -> None:
        super().__init__([])
        self.texts: Sequence[str] = ("",)
        self._places: dict[str, int] = {}

    def _at(self, path: str) -> str:
        return self.texts[self._places.setdefault(path, len(self._places)) % len(self.texts)]

    def text(self, field: Field) -> str:
        return self._at(field.path)

    def origin(self, path: str) -> str:
        return self._at(path)


def lines(join: Callable[[str], Content]) -> Feed:
    """Texts below each other, made harmless in one of the ways there are."""

    def feed(shown: Static, texts: Sequence[str]) -> None:
        shown.update(Content("\n").join(map(join, texts)))

    return feed


def stack(count: int, build: Callable[[], Widget], classes: str = "") -> Callable[[], Widget]:
    return lambda: Vertical(*(build() for _ in range(count)), classes=classes)


def each(kind: str, show: Callable[[Any, str], object]) -> Feed:
    """One text for every widget of a kind."""

    def feed(held: Widget, texts: Sequence[str]) -> None:
        for one, text in zip(held.query(kind), texts, strict=False):
            show(one, text)

    return feed


def panel() -> FieldPanel:
    def field(number: int) -> Field:
        choices = ("a", "b") if number % 2 else ()
        kind: Any = "choice" if choices else "text"
        return Field(f"train.field_{number}", "x", kind, "What it is", "", True, choices=choices)

    return FieldPanel(Told(), [("train", [field(n) for n in range(36)])], origins=True)


def fill_panel(shown: FieldPanel, texts: Sequence[str]) -> None:
    draft = cast(Told, shown.draft)
    draft.texts, paths = texts, [line.margins.field.path for line in shown.lines]
    draft.faults = {path: " ".join(texts[place :: len(paths)]) for place, path in enumerate(paths)}
    shown.refill(forced=True)


def reckon(card: PreflightCard, texts: Sequence[str]) -> None:
    a, b, c, d, *_ = texts * 4
    told = [Line(a, b, c, True), Line("Time", d)]
    remedies = [Remedy(text, text, {}) for text in texts]
    error = HatcheryError(a, found=b, remedy=c)
    card._failed, card._found = error, Outlook(told, None, remedies, HatcheryError(d))
    card._draw()


def choose(held: Widget, texts: Sequence[str]) -> Awaitable[object]:
    held.remove_children()
    return held.mount(Choices(texts, lambda _: None))


def overlay(shown: Overlays, texts: Sequence[str]) -> None:
    listed: Any = [SimpleNamespace(name=text) for text in texts]
    with patch.object(overlays, "_with_curves", return_value=listed):
        shown.open(Path(), None)


def document(shown: DocumentsView, texts: Sequence[str]) -> None:
    raw, half = "\n".join(texts), len(texts[0])
    uses = [Use(f"{n} {text}", 1, 1, text) for n, text in enumerate(texts)]
    marks = [Mark(0, half, uses[0].rule)]
    look = Look(texts[0], raw, raw, marks, np.arange(len(raw)), "")
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


def reading(shown: SystemPanel, texts: Sequence[str]) -> None:
    gpus = tuple(Gpu(text, 1, 2, 0.5, 40) for text in texts)
    shown.show(Reading(1, 0.5, 1, 2, 1, 2, gpus))


def flowing(shown: FlowPanel, texts: Sequence[str]) -> None:
    given = [Given(text, Product("stale", text, why=text)) for text in texts]
    shown._lines = flow._under("Reads", [flow._input(one) for one in given])
    shown._draw()


def run_charts() -> Widget:
    return Vertical(*(RunChart(id=f"chart{n}") for n in range(45)), classes="charts high")


def overlaid(chart: RunChart, text: str) -> None:
    chart.show(View(curves={"loss": _CURVE}, overlays={text: {"loss": _CURVE}}))


def asked(shown: Finder, text: str) -> None:
    with patch.object(finder._Line, "focus"):  # a hundred of them would take it in turns
        shown.ask(text, text, text)


def placed(header: Header, text: str) -> None:
    header.place(text, text)
    header.fact(text)


def titled(box: Widget, text: str) -> None:
    box.border_title = plain(text)
    box.border_subtitle = joined((text, "bold"))


def labelled(button: Button, text: str) -> None:
    button.label = plain(text)


def edited(editor: Editor, texts: Sequence[str]) -> None:
    editor.text = "\n".join(text.replace("\n", " ") for text in texts)


def cells(text: str) -> Content:
    return columns([plain(text), joined(text, (text, "bold"))], [90, -90])


def curved(chart: CurveChart, text: str) -> None:
    chart.show([Series(text, _CURVE)])


def model(text: str) -> Model:
    return Model(text, text, 3, 1.5, best=True, latest=True, parameters=9, context=9, bytes=9)


def other(one: Contender) -> list[Contender]:
    """A run with two checkpoints, of which this is one."""
    return [Contender(Model("", one.model.run, 1, 2.0)), one]


def fault(texts: Sequence[str]) -> HatcheryError:
    """All of these in the three parts of an error."""
    a, b, c = (texts[start::3] for start in range(3))
    return HatcheryError(" ".join(a), found="\n".join(b), remedy="\n".join(c))


def spans(text: str) -> tuple[tuple[int, float | None], ...]:
    """Tokens of three characters, in all the classes of probability, and one that is not known."""
    likely: Sequence[float | None] = (-0.1, -1.0, -3.0, -9.0, None)
    return tuple((3, likely[n % 5]) for n in range(len(text) // 3))


def talked(log: ChatLog, texts: Sequence[str]) -> None:
    """Headers, answers, which are shaded, and figures."""
    blocks = []
    for a, b, c in zip(texts[::3], texts[1::3], [*texts[2::3], "", ""], strict=False):
        turn = Turn(1, None, "assistant", b, "chat", model=a, finish=c, sampling={"seed": c})
        blocks.append(Block(turn, turn, b, len(b) // 4, spans(b), 1, 2))
    log.show([*blocks, *(_said(text) for text in texts[len(blocks) * 3 :])])
    log.shade(on=True)


def _said(text: str) -> Block:
    turn = Turn(1, None, "assistant", text, "complete", model=text)
    return Block(turn, turn, text, 0, ())


def grown(log: ChatLog, texts: Sequence[str]) -> None:
    """An answer that comes in pieces."""
    log.show([_said("")])
    log.shade(on=True)
    for text in texts:
        log.extend(f"{text}\n", [*spans(text), (len(text) % 3 + 1, -1.0)])


def greeted(talk: Talk, texts: Sequence[str]) -> None:
    desk: Any = SimpleNamespace(talk=Conversation(), mode="chat")
    talk.show(desk, None, Model(" ".join(texts)))


def told(talk: Talk, texts: Sequence[str]) -> None:
    talk.say(chat_words.status(None, fault(texts), "", None, False), Sampling())


def working(text: str) -> Content:
    """The lines that tell of a model, of what it writes, and of a token."""
    answer = Written(1, 1, "chat", Ask(text))
    doing = chat_words.status(answer, None, text, None, False)
    token = chat_words.status(None, None, "", None, (text, -1.0))
    return Content("\n").join([chat_words.facts(model(text)).append(doing), token])


class Shelf:
    """In place of the folder of conversations."""

    kept: Sequence[Kept] = ()

    def recent(self) -> Sequence[Kept]:
        return self.kept


def beside() -> ChatSide:
    return ChatSide(Told(), cast(Any, Shelf()))


def offered(side: ChatSide, texts: Sequence[str]) -> None:
    side.turn("models")
    side.show_models([model(text) for text in texts], texts[1])


def recalled(side: ChatSide, texts: Sequence[str]) -> None:
    cast(Shelf, side._store).kept = [Kept(text, text, text, 0.0) for text in texts]
    side.turn("chats")


def settings(held: Widget, texts: Sequence[str]) -> None:
    if isinstance(held, SamplingPanel):
        held.ask()
    fill_panel(held.query_one(FieldPanel), texts)


def prompted(area: PromptArea, texts: Sequence[str]) -> None:
    area.fill("\n".join(texts))


def earlier(prompt: Prompt, texts: Sequence[str]) -> None:
    prompt._history.append("\n".join(texts))
    prompt._recall(len(prompt._history) - 1)


def paned(pane: Pane, text: str) -> None:
    answer = Answer(Contender(model(text)), text, finish=text, state="done")
    found = Round([answer], "", asked=True)
    above, foot = title(found, 0, text), figures(found, answer, Summary(), 60)
    said = body(found, answer, coloured=False)
    pane.show(Drawing(above, plain(text), said, foot, plain(text), won=True))


def round_of(texts: Sequence[str]) -> Round:
    """Six answers with the texts in turn: prompts, what was written, and errors."""
    answers = []
    for place in range(6):
        own = texts[place::6]
        text, name = "\n".join(own[::2]), own[0] if own else ""
        answer = Answer(Contender(model(name)), text, list(spans(text)), finish=name, state="done")
        answer.figures = {"tokens_per_second": place, "seconds": place, "new_tokens": place}
        answer.error = fault(own[1::2])
        answers.append(answer)
    return Round(answers, texts[0], asked=True, decided=True, winner=answers[0])


async def drawn(arena: Arena, texts: Sequence[str]) -> None:
    await arena.begin(6)
    arena.draw(round_of(texts), coloured=False, fault=None)


async def shaded(arena: Arena, texts: Sequence[str]) -> None:
    """Below it, why the server ended."""
    half = len(texts) // 2
    await arena.begin(6)
    arena.draw(round_of(texts[:half]), coloured=True, fault=fault(texts[half:]))


def duel() -> Duel:
    return Duel(Match(Sampling(), Random(0)), Told(), [], cast(Any, None))


async def fought(shown: Duel, texts: Sequence[str]) -> None:
    half = len(texts) // 2
    shown.match.round = round_of(texts[:half])
    shown.query_one(Prompt).fill("\n".join(texts[half:]))
    await shown._arena.begin(6)
    shown.draw()


def listed(chooser: Chooser, texts: Sequence[str]) -> None:
    half = len(texts) // 2
    there = [Contender(model(text)) for text in texts[:half]]
    chooser.fill(there, there[:2], None)
    chooser.say(trouble(fault(texts[half:])))


def typed(line: Any, text: str) -> None:
    line.value = text


def refused(form: EndpointForm, texts: Sequence[str]) -> None:
    form.ask()
    form._line("address").value, form._line("model").value = texts[:2]
    form.say(" ".join(texts[2:]), wrong=True)


def voted(text: str) -> list[Content]:
    """What the screen of votes shows of one, and of a model."""
    sampling: Any = {text: text}
    vote = Vote(text, (text, text), (), text, sampling, 1, False, 0.0)
    row, ranked = compare_votes.line(vote, 0.0, 230), Standing(text, 1, 2, 0.1, 0.9)
    return [row, compare_votes.standing(ranked, 230), compare_votes.about(vote)]


def watched(told: str, page: int, fill: Callable[[Sequence[str]], View]) -> Sink:
    def feed(shown: Watched, texts: Sequence[str]) -> None:
        shown.show(fill(texts), None, "done")

    return Sink(f"watched {told}", page, Watched, feed, (Watched,))


def notes(texts: Sequence[str]) -> View:
    return View(title=texts[0], notes=tuple(Note(0.0, text, text, text) for text in texts))


def rules(texts: Sequence[str]) -> View:
    return View(title=texts[0], rejected=tuple((text, 1) for text in texts))


def sample(texts: Sequence[str]) -> View:
    told = Sample(text="\n".join(texts), prompt=texts[0], step=1)
    return View(curves={"loss": _CURVE}, samples=(told,))


def written(texts: Sequence[str]) -> View:
    return View(texts=tuple(Text(text, text, text) for text in texts))


def ended(text: str) -> Content:
    final = Finished({text: text}, path=text)
    return watching.ending(View(title=text, final=final), None, "done")


def going(text: str) -> Content:
    told = Progress(1, figures={text: text}, message=text)
    return watching.progress(View(title=text, progress=told), "running", COLUMNS - 4)


SINKS: tuple[Sink, ...] = (
    Sink("plain", 100, Static, lines(plain)),
    Sink("joined", 100, Static, lines(lambda text: joined(text, (text, "bold")))),
    Sink("fitted", 100, Static, lines(lambda text: fitted(text, 200))),
    Sink("columns", 100, Static, lines(cells)),
    Sink("progress", 100, Static, lines(going)),
    Sink("ending", 15, Static, lines(ended)),
    Sink("block", 25, Static, lines(block)),
    Sink("border titles", 50, stack(50, lambda: Vertical(classes="box")), each(".box", titled)),
    Sink("buttons", 100, stack(100, lambda: Button(compact=True)), each("Button", labelled)),
    Sink("text editor", 50, lambda: Editor(soft_wrap=False), edited),
    Sink("header", 100, stack(100, Header), each("Header", placed), (Header,)),
    Sink("rows", 100, lambda: RowList(lambda key, _: plain(key)), RowList.show, (RowList,)),
    Sink("log", 100, LogView, LogView.show, (LogView,)),
    Sink("finder", 100, stack(100, Finder), each("Finder", asked), (Finder, finder._Line)),
    Sink("fields", 36, panel, fill_panel, (FieldPanel, TextLine, ChoiceLine)),
    Sink("choices", 100, Vertical, choose, (Choices,)),
    Sink("card", 20, PreflightCard, reckon, (PreflightCard,)),
    Sink("chart", 57, stack(57, CurveChart, "charts"), each("CurveChart", curved), (CurveChart,)),
    Sink("run chart", 45, run_charts, each("RunChart", overlaid), (RunChart,)),
    Sink("flow", 100, FlowPanel, flowing, (FlowPanel,)),
    Sink("overlays", 100, lambda: Overlays(id="o"), overlay, (Overlays,)),
    Sink("system", 30, SystemPanel, reading, (SystemPanel,)),
    Sink("documents", 40, DocumentsView, document, (DocumentsView, peek_documents.View)),
    Sink("rejected", 30, RejectedView, rejection,
         (RejectedView, peek_rejected.Reasons, peek_rejected.Examples)),
    Sink("tokens", 40, TokensView, tokens, (TokensView, TokenColumn)),
    Sink("windows", 30, WindowsView, window, (WindowsView,)),
    Sink("conversation", 45, ChatLog, talked, (ChatLog,)),
    Sink("answer", 25, ChatLog, grown),
    Sink("welcome", 100, Talk, greeted, (Talk,)),
    Sink("what goes on", 60, Talk, told),
    Sink("chat words", 25, Static, lines(working)),
    Sink("models", 90, beside, offered, (ChatSide,)),
    Sink("facts of models", 20, Static, lines(lambda text: chat_side._facts(model(text)))),
    Sink("conversations", 100, beside, recalled),
    Sink("sampling", 60, beside, settings),
    Sink("chat prompt", 25, PromptArea, prompted, (PromptArea,)),
    Sink("panes", 60, stack(60, lambda: Pane(0), "wall"), each("Pane", paned),
         (Pane, compare_pane._Text)),
    Sink("arena", 60, lambda: Arena(other), drawn, (Arena,)),
    Sink("shaded arena", 60, lambda: Arena(other), shaded),
    Sink("duel", 60, duel, fought, (Duel,)),
    Sink("compare prompt", 25, lambda: Prompt([]), earlier, (Prompt,)),
    Sink("compare sampling", 60, lambda: SamplingPanel(Told()), settings, (SamplingPanel,)),
    Sink("chooser", 100, Chooser, listed, (Chooser, compare_chooser.Models)),
    Sink("numbers", 100, stack(100, lambda: compare_chooser._Numbers(compact=True)),
         each("_Numbers", typed), (compare_chooser._Numbers,)),
    Sink("endpoint", 60, EndpointForm, refused, (EndpointForm,)),
    Sink("endpoint lines", 100, stack(100, lambda: compare_endpoint._Line(compact=True)),
         each("_Line", typed), (compare_endpoint._Line,)),
    Sink("votes", 12, Static, lines(lambda text: Content("\n").join(voted(text)))),
    watched("notes", 30, notes),
    watched("rules", 50, rules),
    watched("sample", 30, sample),
    watched("texts", 20, written),
)  # fmt: skip


class Sinks(HatcheryApp):
    """The app with a bench on which one widget at a time has all the room."""

    CSS_PATH = Path(tui.__file__).with_name("tui.tcss")
    CSS = """
    #bench { height: 100%; width: 100%; & > * { height: 100%; width: 100%; max-height: 100%; } }
    #bench Header, #bench Finder { dock: none; width: 100%; height: 1; margin: 0; }
    #bench .box { height: 2; border-top: solid $accent; border-bottom: solid $accent; }
    #bench Button { height: 1; width: 100%; }
    #bench .charts { layout: grid; grid-size: 3; grid-rows: 6; }
    #bench .high { grid-rows: 8; }
    #bench .wall { layout: grid; grid-size: 4; grid-rows: 8; }
    #bench .say, #bench .verdict, #bench .said, #bench .below, #bench #ask, #bench Prompt {
        max-height: 100%;
    }
    #bench Choices, #bench #reasons, #bench #uses, #bench #ending { max-height: 100%; }
    #bench #reasons, #bench #examples { width: 1fr; }
    #bench #lists, #bench #example, #bench #raw { height: 1fr; }
    Question > Vertical { width: 220 !important; max-width: 220 !important; }
    Question > Vertical Static { max-height: 80 !important; }
    Toast { width: 200; max-width: 200; padding: 0; margin: 0; border: none; }
    """


async def shown_all(app: Sinks, name: str, texts: Sequence[str]) -> None:
    """Wait until each of the texts is on the screen, by the number it begins with."""
    marks = [text[: text.index("»") + 1] for text in texts]
    try:
        async with asyncio.timeout(_PATIENCE):
            while True:
                missing, there = marks, ""
                painted = asyncio.Event()
                app.call_after_refresh(painted.set)
                await painted.wait()
                strips = app.screen._compositor.render_strips()
                there = "\n".join(strip.text for strip in strips)
                missing = [mark for mark in marks if mark not in there]
                if not missing:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{name}: {missing} never came\n{there}") from None


def pages(size: int) -> Iterator[list[str]]:
    """All strings, each after its number; a long run of one letter is cut, so that the rest of
    its string is seen too."""
    every = [f"«{n}»{text.replace('x' * 3000, 'xxx')}" for n, text in enumerate(strings(2000))]
    return (every[start : start + size] for start in range(0, len(every), size))


async def fill(app: Sinks, sink: Sink, bench: Vertical) -> None:
    """All strings through one sink."""
    widget = sink.build()
    await bench.mount(widget)
    for texts in pages(sink.page):
        done = sink.feed(widget, texts)
        if done is not None:
            await done
        await shown_all(app, sink.name, texts)
    for kind in sink.covers:
        found = [w for w in widget.walk_children(with_self=True) if isinstance(w, kind)]
        assert found, f"{sink.name} has no {kind.__name__}"
    await widget.remove()


async def notices(app: Sinks) -> None:
    """Those of the app, which are its own to make harmless."""
    for texts in pages(30):
        app.note("\n".join(texts[::2]))
        a, b, c = ("\n".join(texts[start::6]) for start in (1, 3, 5))
        app.tell(HatcheryError(a, found=b, remedy=c))
        await shown_all(app, "notices", texts)
        app.clear_notifications()


async def questions(app: Sinks) -> None:
    for texts in pages(60):
        await app.push_screen(Question(Content("\n").join(map(plain, texts)), texts[0]))
        await shown_all(app, "question", texts)
        await app.pop_screen()


def forgotten() -> list[str]:
    """The widgets of app/widgets that no sink feeds."""
    covered = {kind for sink in SINKS for kind in sink.covers} | {*OWN_WORDS, Question}
    found = []
    for module in pkgutil.iter_modules(widgets.__path__, f"{widgets.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = kind.__module__ == module.name and issubclass(kind, Widget)
            if own and kind not in covered:
                found.append(f"{module.name}.{kind.__name__}")
    return found


async def feed_all(pilot: Pilot[Any]) -> None:
    """All sinks, or those named in the arguments."""
    app, chosen = cast(Sinks, pilot.app), sys.argv[1:]
    await app.push_screen(Screen())
    bench = Vertical(id="bench")
    await app.screen.mount(bench)
    for sink in SINKS:
        if not chosen or sink.name in chosen:
            await fill(app, sink, bench)
    if not chosen:
        await notices(app)
        await questions(app)
    app.exit(return_code=app.return_code or 0)  # a failure on the way stays one


if __name__ == "__main__":
    seen = Sinks()
    seen.run(auto_pilot=feed_all)
    sys.exit(seen.return_code or 0)
