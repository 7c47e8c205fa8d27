"""Benchmarks: how good checkpoints are, task by task, and which of them can be told apart."""

import time
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from app.tui.runs import scores_wording as wording
from app.tui.screen import HatcheryScreen
from app.tui.widgets.curve_chart import CurveChart
from app.tui.widgets.text import block, plain
from app.tui.widgets.virtual_list import RowList
from pipeline.benchmark.report import TaskTable, tables
from pipeline.benchmark.wording import is_share, metric_title, seen_said
from pipeline.evaluation.tasks import TASKS
from pipeline.runs.judged import Reader, Report, Reports, export, history
from pipeline.runs.results import BENCHMARKS
from utils.errors import HatcheryError
from utils.units import ago, counted

_RANKING = "\0ranking"  # the key of the last line, which no task has
_EMPTY = (
    "Nothing was judged yet.\n\n8 on the board scores checkpoints at tasks, offline and in a few "
    "minutes; in Runs, Space chooses several of them and b judges them."
)


class Tasks(RowList):
    """The tasks; there is nothing behind them."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.recipe", show=False)]


class ScoresScreen(HatcheryScreen):
    """One benchmark: its tasks above, below the checkpoints at the task under the cursor."""

    HELP = (
        "What checkpoints got at every task. An interval holds the true value in 95 of 100 cases: "
        "more items make it narrower. ★ marks a checkpoint that is better than all others by more "
        "than chance, tested item by item over the same items; ≈ says that they cannot be told "
        "apart, and the sentence below how large a difference these items could show. A score of "
        "a sample is never put beside one of the whole set, nor an embedded set beside a real "
        "one.\n\n"
        "All accuracies is their mean over the tasks, where guessing is 0 and all right is 100. "
        "The curve has the steps of a run that were asked the same in any benchmark.\n\n"
        "← and → lead to other benchmarks, i shows every metric and how it was scored, e writes "
        "it as CSV, r judges the same checkpoints again, which takes only what is new."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(1)", "Older", key_display="←", id="scores.older"),
        Binding("right", "turn(-1)", "Newer", key_display="→", id="scores.newer"),
        Binding("i", "recipe", "How it was scored", id="scores.recipe"),
        Binding("t", "chart", "Curve", id="scores.chart"),
        Binding("r", "again", "Judge again", id="scores.again"),
        Binding("e", "export", "Export", id="scores.export"),
        Binding("c", "app.runs", "Runs", id="scores.runs"),
    ]
    DEFAULT_CSS = """
    ScoresScreen {
        #tasks { max-height: 45%; min-height: 5; }
        #heading { height: 1; }
        #below { height: 1fr; }
        #task { width: 3fr; height: 1fr; }
        #task:focus { border: round $accent; }
        #steps { width: 2fr; height: 1fr; }
        &.-narrow #steps { width: 1fr; }
    }
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__("results", "benchmark")
        self._reader, self._found = Reader(), Reports()
        self._path = path  # of the benchmark that is shown
        self._tables: dict[str, TaskTable] = {}
        self._report: Report | None = None
        self._recipe = self._chart = False

    def content(self) -> ComposeResult:
        with Vertical(id="tasks", classes="panel") as box:
            box.border_title = "Tasks"
            yield Static(id="heading")
            yield Tasks(self._line, id="list")
        with Horizontal(id="below"):
            with VerticalScroll(id="task", classes="panel"):
                yield Static(plain("reading …", "italic"), id="about")
            with Vertical(id="steps", classes="panel"):
                yield CurveChart(id="curves")

    def on_mount(self) -> None:
        self._list.focus()
        self.query_one("#steps").display = False
        self.set_interval(self.hatchery.intervals.artefacts, self._look)
        self._look()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    @property
    def _list(self) -> Tasks:
        return self.query_one("#list", Tasks)

    @work(thread=True, group="scores", exclusive=True, exit_on_error=False)
    def _look(self) -> None:
        found = self._reader.reports(BENCHMARKS)
        self.app.call_from_thread(self._looked, found)

    def _looked(self, found: Reports) -> None:
        if found != self._found or self._report is None:
            self._found = found
            self._show()

    @property
    def _place(self) -> int:
        """Where the benchmark that is shown stands among all, the newest being 0."""
        paths = [report.path for report in self._found.reports]
        return paths.index(self._path) if self._path in paths else 0

    def _show(self) -> None:
        """Draw everything again; the cursor stays on its task."""
        reports = self._found.reports
        self._report = reports[self._place] if reports else None
        lost = self._found.unreadable
        facts = [f"{counted(lost, 'file')} unreadable"] if lost else []
        if self._report is None:
            self._tables = {}
            self.query_one("#about", Static).update(block(_EMPTY))
        else:
            self._path = self._report.path
            self._tables = {table.task: table for table in tables(self._report.data)}
            age = ago(max(0.0, time.time() - self._report.made))
            facts.insert(0, f"{self._place + 1} of {len(reports)}" if len(reports) > 1 else "")
            facts.insert(1, "stopped early" if self._report.data.get("stopped") else "")
            facts.insert(2, f"{counted(len(self._report.results), 'checkpoint')} · {age}")
        self.header.fact(" · ".join(fact for fact in facts if fact))
        ranked = self._report is not None and bool(self._report.data.get("ranking"))
        self._list.show([*self._tables, *[_RANKING] * ranked])
        frame = 3  # two lines of the panel, and the heading
        self.query_one("#tasks").styles.height = frame + max(1, len(self._tables) + ranked)
        self.query_one("#heading", Static).update(wording.task_heading(self._list.size.width))
        self._tell()
        self.refresh_bindings()

    def _line(self, key: str, width: int) -> Content:
        if key == _RANKING and self._report is not None:
            return wording.ranking_line(self._report.data, width)
        return wording.task_line(self._tables[key], width)

    @on(RowList.Moved)
    def _tell(self) -> None:
        """The checkpoints at the task under the cursor, and their steps as a curve."""
        key, report = self._list.current, self._report
        if key is None or report is None:
            return
        box, width = self.query_one("#task"), max(30, self.query_one("#about").size.width)
        steps = self.query_one("#steps")
        if key == _RANKING:
            box.border_title = "All accuracies"
            titles = {table.task: table.title for table in self._tables.values()}
            about = wording.about_ranking(report.data, titles)
            charted = False
        else:
            table = self._tables[key]
            box.border_title = plain(table.title)
            trends = {row["task"]: row["said"] for row in report.data.get("trends", ())}
            about = wording.about_task(
                table, width, trends.get(key, ""), self._seen(table), recipe=self._recipe
            )
            series, colours = wording.curves(history(self._found.reports, report, key))
            charted = bool(series)
            if charted:
                number = "{:.1%}".format if is_share(table.metric) else "{:.4g}".format
                steps.border_title = plain(f"{metric_title(table.metric)} over steps")
                self.query_one(CurveChart).show(series, colours=colours, number=number)
        self.query_one("#about", Static).update(about)
        narrow = self.has_class("-narrow")
        before = steps.display
        steps.display = charted and (self._chart or not narrow)
        box.display = not (narrow and steps.display)
        if steps.display != before:  # the table fits the width that it has then
            self.call_after_refresh(self._tell)
        self.refresh_bindings()

    def _seen(self, table: TaskTable) -> list[str]:
        """What of a task each checkpoint has seen in training."""
        assert self._report is not None
        return [
            f"{score.name}: {sentence}"
            for score in table.scores
            for sentence in seen_said(
                self._report.results[score.checkpoint][table.task], whole=self._recipe
            )
        ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "turn":
            at = self._place + (parameters[0] if isinstance(parameters[0], int) else 0)
            return 0 <= at < len(self._found.reports)
        if action == "chart":
            return self.has_class("-narrow")
        if action == "again":  # what a server judged is none of the checkpoints here
            return bool(self._paths) and not any(p.startswith("http") for p in self._paths)
        return action not in ("export", "recipe") or self._report is not None

    @property
    def _paths(self) -> list[str]:
        """Where the checkpoints are that were judged."""
        if self._report is None:
            return []
        return [one["path"] for one in self._report.data["checkpoints"].values() if one["path"]]

    def action_turn(self, by: int) -> None:
        self._path = self._found.reports[self._place + by].path
        self._show()

    def action_recipe(self) -> None:
        self._recipe = not self._recipe
        self._tell()

    def action_chart(self) -> None:
        self._chart = not self._chart
        self._tell()

    def action_again(self) -> None:
        """The form with the checkpoints and tasks of this benchmark."""
        assert self._report is not None
        tasks = [task for task in self._report.tasks if task in TASKS]  # others are of a harness
        preset = ["--checkpoint", *self._paths, *(["--tasks", *tasks] if tasks else [])]
        self.hatchery.open("stage", "benchmark", preset)

    @work(thread=True, group="export", exclusive=True, exit_on_error=False)
    def action_export(self) -> None:
        assert self._report is not None
        try:
            path = export(self._report, BENCHMARKS, time.strftime("%Y_%m_%d_%H_%M_%S"))
        except (HatcheryError, OSError) as error:
            message = error if isinstance(error, HatcheryError) else HatcheryError(
                f"The scores could not be written to {BENCHMARKS}: {error.strerror}."
            )  # fmt: skip
            self.app.call_from_thread(self.hatchery.tell, message)
        else:
            self.app.call_from_thread(self.hatchery.note, f"Wrote {path}")
