"""The ways into the widgets of the screen Compare, and of its votes."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, cast

from textual.content import Content
from textual.widgets import Static

from app.client.client import Model, Sampling
from app.tui.compare import inputs, model_picker, votes_screen
from app.tui.compare import pane as compare_pane
from app.tui.compare.body import CompareBody
from app.tui.compare.comparison import Comparison
from app.tui.compare.inputs import EndpointForm, Prompt, SamplingPanel
from app.tui.compare.model_picker import ModelPicker
from app.tui.compare.pane import Drawing, Pane
from app.tui.compare.panes import AnswerPanes
from app.tui.compare.round import Answer, Round, Summary
from app.tui.compare.selection import Candidate
from app.tui.compare.wording import body, figures, title, trouble
from app.tui.forms.field_panel import FieldPanel
from app.tui.widgets.text import plain
from pipeline.evaluation.votes import Standing, Vote
from tests.support.sinks.sink import Sink, Told, each, fault, fill_panel, lines, model, spans, stack


def other(one: Candidate) -> list[Candidate]:
    """A run with two checkpoints, of which this is one."""
    return [Candidate(Model("", one.model.run, 1, 2.0)), one]


def paned(pane: Pane, text: str) -> None:
    answer = Answer(Candidate(model(text)), text, finish=text, state="done")
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
        answer = Answer(Candidate(model(name)), text, list(spans(text)), finish=name, state="done")
        answer.figures = {"tokens_per_second": place, "seconds": place, "new_tokens": place}
        answer.error = fault(own[1::2])
        answers.append(answer)
    return Round(answers, texts[0], asked=True, decided=True, winner=answers[0])


async def begun(panes: AnswerPanes) -> None:
    """Six panes that are laid out: what has no size yet is not drawn, and nothing here draws it
    again."""
    await panes.begin(6)
    while not all(pane.display and pane.content_size.width for pane in panes._panes):
        await asyncio.sleep(0.01)


async def drawn(panes: AnswerPanes, texts: Sequence[str]) -> None:
    await begun(panes)
    panes.draw(round_of(texts), coloured=False, fault=None)


async def shaded(panes: AnswerPanes, texts: Sequence[str]) -> None:
    """Below it, why the server ended."""
    half = len(texts) // 2
    await begun(panes)
    panes.draw(round_of(texts[:half]), coloured=True, fault=fault(texts[half:]))


def compare_body() -> CompareBody:
    return CompareBody(Comparison(Sampling(), Random(0)), Told(), [], cast(Any, None))


async def show_body(shown: CompareBody, texts: Sequence[str]) -> None:
    half = len(texts) // 2
    shown.comparison.round = round_of(texts[:half])
    shown.query_one(Prompt).fill("\n".join(texts[half:]))
    await begun(shown._panes_view)
    shown.draw()


def earlier(prompt: Prompt, texts: Sequence[str]) -> None:
    prompt._history.append("\n".join(texts))
    prompt._recall(len(prompt._history) - 1)


def settings(shown: SamplingPanel, texts: Sequence[str]) -> None:
    shown.ask()
    fill_panel(shown.query_one(FieldPanel), texts)


def listed(picker: ModelPicker, texts: Sequence[str]) -> None:
    half = len(texts) // 2
    there = [Candidate(model(text)) for text in texts[:half]]
    picker.fill(there, there[:2], None)
    picker.say(trouble(fault(texts[half:])))


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
    row, ranked = votes_screen.line(vote, 0.0, 230), Standing(text, 1, 2, 0.1, 0.9)
    return [row, votes_screen.standing(ranked, 230), votes_screen.about(vote)]


SINKS: tuple[Sink, ...] = (
    Sink("panes", 60, stack(60, lambda: Pane(0), "wall"), each("Pane", paned),
         (Pane, compare_pane._Text)),
    Sink("answer-panes", 60, lambda: AnswerPanes(other), drawn, (AnswerPanes,)),
    Sink("shaded panes", 60, lambda: AnswerPanes(other), shaded),
    Sink("compare-body", 60, compare_body, show_body, (CompareBody,)),
    Sink("compare prompt", 25, lambda: Prompt([]), earlier, (Prompt,)),
    Sink("compare sampling", 60, lambda: SamplingPanel(Told()), settings, (SamplingPanel,)),
    Sink("model-picker", 100, ModelPicker, listed, (ModelPicker, model_picker.Models)),
    Sink("numbers", 100, stack(100, lambda: model_picker._Numbers(compact=True)),
         each("_Numbers", typed), (model_picker._Numbers,)),
    Sink("endpoint", 60, EndpointForm, refused, (EndpointForm,)),
    Sink("endpoint lines", 100, stack(100, lambda: inputs._Line(compact=True)),
         each("_Line", typed), (inputs._Line,)),
    Sink("votes", 12, Static, lines(lambda text: Content("\n").join(voted(text)))),
)  # fmt: skip
