"""What the board says: a row per stage, and the one thing to do next. Knows no widgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from app.jobs.folder import Record, trained_run
from app.jobs.job import ACTIVE, FAILED, Job
from pipeline.corpora import name_of
from pipeline.stages import MISSING, PRODUCTS, STAGES, Product, Stage

STEPS = tuple(stage for stage in STAGES if not stage.tool)
_TOLD_CORPUS = ("cleanup", "tokenize", "prepare", "train")
_NAMES = ("--name", "--source", "--dataset.source")
"""The flags that name the corpus of a job, the strongest first; `--name` only that of cleanup."""


@dataclass(frozen=True)
class ScreenRow:
    """A row that leads to a screen of its own; `command` is its name in `app.tui.navigation`."""

    command: str
    title: str
    purpose: str
    needs: tuple[str, ...] = ("run",)
    makes: str = "answers"


_SCREENS = (
    ScreenRow("chat", "Chat", "Talk to a model, or let it go on with a text"),
    ScreenRow("compare", "Compare", "Several checkpoints side by side on one prompt"),
)
_AFTER = 1 + [stage.command for stage in STEPS].index("train")
ROWS: tuple[Stage | ScreenRow, ...] = (*STEPS[:_AFTER], *_SCREENS, *STEPS[_AFTER:])
"""The pipeline from top to bottom; the first ten have a digit for a key."""


_TO_DO = {
    "download": "fetch the texts",
    "cleanup": "make clean documents of the texts",
    "tokenize": "train a tokenizer on the documents",
    "prepare": "turn the documents into tokens",
    "train": "train a model on the tokens",
}
"""What Enter leads to where nothing is there yet, short enough for 80 columns."""


class Row(NamedTuple):
    """One stage or place. `state` is one of the marks of `app.tui.widgets.text`; `since` is when it
    was made or began, in seconds since 1970; `job` is the one that runs or went wrong."""

    stage: Stage | ScreenRow
    state: str
    title: str
    figure: str
    since: float | None
    product: Product = MISSING
    job: Job | None = None


class Next(NamedTuple):
    """What to do: a row by its number, and a sentence."""

    row: int
    sentence: str


def rows(
    products: Mapping[str, Product], jobs: Sequence[Job], corpus: str | None = None
) -> list[Row]:
    """The pipeline from top to bottom, with what jobs do for `corpus`."""
    made = [(stage.makes, products[stage.command]) for stage in STEPS if stage.command in products]
    there = {kind for kind, one in made if one.state != "missing" or one.elsewhere}
    own = [job for job in jobs if corpus is None or corpus_of(job) in (None, corpus)]
    return [_row(stage, products, there, own) for stage in ROWS]


def corpus_of(job: Job) -> str | None:
    """The corpus that a job works on, as its command names it; None where it does not."""
    if job.record is None or job.stage not in _TOLD_CORPUS:
        return None
    return _named_in(job.record) or _trained_on(job.folder, job.state in ACTIVE)


def _named_in(record: Record) -> str | None:
    """What the words of a command name as their corpus."""
    words: list[str] = []
    for word in record.argv:
        words += word.split("=", 1) if word.startswith("--") else [word]
    values = dict(pairwise(words))
    names = _NAMES if record.stage == "cleanup" else _NAMES[1:]
    named = next((values[flag] for flag in names if flag in values), None)
    if named is None and record.stage == "cleanup" and "--input" in values:
        return name_of([Path(record.cwd, values["--input"])])
    return named


@lru_cache(maxsize=256)
def _trained_on(job_folder: Path, _active: bool) -> str | None:
    """The corpus of the run that a job trains, asked again once it has ended."""
    from pipeline.survey import corpus_of_run

    trained = trained_run(job_folder)
    return None if trained is None else corpus_of_run(trained[0])


def _row(
    stage: Stage | ScreenRow, products: Mapping[str, Product], there: set[str], jobs: Sequence[Job]
) -> Row:
    product = products.get(stage.command, MISSING)
    job = next((job for job in jobs if job.stage == stage.command), None)
    name = (job.called if job is not None else None) or product.title
    if job is not None and job.state in ACTIVE:
        share = f"{job.percent:.0f} %" if job.percent is not None else ""
        return Row(stage, job.state, name, share or job.state, job.started, product, job)
    if job is not None and job.state in FAILED and (job.ended or 0) > (product.made or 0):
        return Row(stage, job.state, name, f"{job.state}: d says why", job.ended, product, job)
    if product.state != "missing":
        figure = f"{product.figure}  {product.why}".strip()
        figure += " · r resumes" * (product.state == "stopped")
        return Row(stage, product.state, product.title, figure, product.made, product)
    missing = [kind for kind in stage.needs if kind not in there]
    figure = f"needs {PRODUCTS[missing[0]]}" if missing else "ready"
    run = products.get("train", MISSING)
    if "run" in stage.needs and run.state == "missing" and run.elsewhere:
        figure = f"ready, with {run.elsewhere}"
    return Row(stage, "missing", "" if missing else product.title, figure, None, product)


def what_next(table: Sequence[Row]) -> Next:
    """The one thing to do, which Enter does."""
    for number, row in enumerate(table):
        if row.state == "running":
            return Next(number, f"watch {row.stage.title} (Enter); it goes on if you leave")
    for number, row in enumerate(table):
        if row.state in FAILED:
            return Next(number, f"d says why {row.stage.title} {row.state}, and mends it")
    steps = [(number, row) for number, row in enumerate(table) if row.stage.command != "quickstart"]
    made = [row for _, row in steps if row.product.usable and row.since is not None]
    if not made and not any(row.state in ("stale", "damaged") for _, row in steps):
        return Next(0, "press Enter for a first model in 5 minutes, or o for your own texts")
    led_to = [(number, row) for number, row in steps if row.stage.command in _TO_DO]
    own = [number for number, row in led_to if row.product.made and not row.product.foreign]
    last = max(own, default=0)
    for number, row in steps:
        if row.state in ("stale", "damaged"):
            return Next(number, f"{row.stage.title} again (Enter), because {row.product.why}")
        if row.state == "stopped":
            run = f"{row.stage.title} {row.title}, {row.product.figure}"
            return Next(number, f"resume {run} (r, or Enter for its settings)")
        if row.state == "missing" and row.stage.command in _TO_DO and number > last:
            return Next(number, f"{row.stage.title}: {_TO_DO[row.stage.command]} (Enter)")
    at = {row.stage.command: number for number, row in enumerate(table)}
    chat, judge, tune = at["chat"], at["benchmark"], at["sft"]
    conversations = table[at["lima"]].product
    if not table[tune].product.usable:
        if conversations.usable:
            return Next(
                tune, f"Tune: let your model learn to answer as in {conversations.title} (Enter)"
            )
        return Next(chat, "your model is ready: Tune teaches it to answer, or talk to it (Enter)")
    judged = "" if table[judge].product.usable else f"{judge} judges it, or "
    return Next(chat, f"your model is ready: {judged}talk to it (Enter)")
