"""What a stage reads and makes, beside its settings."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from textual.content import Content
from textual.widgets import Static

from app.jobs.job import ACTIVE, Job
from app.tui.stage.stage_flow import Input, Output, asked, inputs, output
from app.tui.widgets.text import MUTED, joined, mark, plain
from pipeline.options.config import Config
from pipeline.stages import Product, Stage
from utils.units import ago

_MARGIN = 8  # cells


class Line(NamedTuple):
    """A sentence, with a title beside it or not."""

    title: str
    text: Content
    indented: bool = False


class FlowPanel(Static):
    """Purpose, inputs with their state, where the output goes."""

    _lines: Sequence[Line] = ()

    def show(
        self,
        stage: Stage,
        config: Config,
        products: Mapping[str, Product],
        jobs: Sequence[Job],
        why: str = "",
    ) -> None:
        """Show a stage as it would run with `config`; `why` says why something is proposed."""
        given, made = inputs(stage, products, config), output(stage, config)
        none = plain("nothing that has to be made first")
        self._lines = [
            Line("", plain(f"{stage.purpose}.")),
            *_under("Reads", [_input(one) for one in given] or [none]),
            *_under("Asks", [plain(t) for t in asked(config)] if stage.makes == "scores" else []),
            *_under("Makes", _output(stage, made)),
            *_under("Size", [plain(why)] if why else []),
            *_under(
                "Now",
                [
                    joined(mark(job.state), f" job {job.id} is {job.state} already")
                    for job in jobs
                    if job.stage == stage.command and job.state in ACTIVE
                ],
            ),
            Line("", plain("")),
            Line("", plain("It runs as a job: leave whenever you like, it goes on.", MUTED)),
        ]
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """Titles left, sentences right, wrapped in their own column."""
        width = max(20, self.size.width or 60)
        drawn = []
        for title, text, indented in self._lines:
            margin = _MARGIN if indented else 0
            for number, part in enumerate(text.wrap(width - margin) or [text]):
                shown = f"{title if number == 0 else '':<{margin}}"
                drawn.append(Content.assemble((shown, "bold"), part))
        self.update(Content("\n").join(drawn))


def _under(title: str, texts: Sequence[Content]) -> list[Line]:
    """Lines under a title, after an empty one."""
    lines = [Line(title if n == 0 else "", text, True) for n, text in enumerate(texts)]
    return [Line("", plain("")), *lines] if lines else []


def _input(given: Input) -> Content:
    product = given.product
    if product.state == "missing":
        why = product.why or "not there yet"
        if product.elsewhere:
            why = f"none of this corpus yet, but {product.elsewhere}"
        what = f"{given.what} {product.title}".strip() if given.given else given.what
        return joined(mark("missing"), f" {what}: ", (why, MUTED))
    age = f", {ago(max(0.0, time.time() - product.made))}" if product.made else ""
    text = f" {given.what}: {product.title}"
    return joined(mark(product.state), text, (f"  {product.why or product.figure}{age}", MUTED))


def _output(stage: Stage, made: Output | None) -> list[Content]:
    if made is None:
        return [plain(f"{stage.makes}, shown while it runs")]
    return [plain(made.where), plain(made.there, MUTED)]
