"""Home: the pipeline from top to bottom, the jobs, the machine, and the one thing to do next."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.jobs.job import FAILED, Job
from app.tui.board.disk_panel import DiskPanel
from app.tui.board.rows import Next, Row, ScreenRow, rows, what_next
from app.tui.board.system_panel import SystemPanel, in_one_line
from app.tui.screen import HatcheryScreen
from app.tui.system import Reading
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, mark, plain
from pipeline.stages import MISSING, PRODUCTS, Stage
from utils.errors import HatcheryError
from utils.units import ago, human_seconds

if TYPE_CHECKING:  # the settings, which the first frame does not wait for
    from app.tui.stage.stage_form import StageForm

_JOBS_SHOWN = 8
_KEYS = 10  # rows that a digit opens
_LAST = "#last"
_TALL, _DISK_LINES = 34, 6  # rows of a window that has room for a curve, and lines of disk use then


class Stages(OptionList):
    """The list of stages; Enter is in the footer, since it is the way in."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Open")]


class BoardScreen(HatcheryScreen):
    """The way to everything."""

    HELP = (
        "Every row is a stage that turns files into files, from raw text at the top to a model "
        "that writes at the bottom. Enter, or the digit in front of a row, opens a stage's "
        "settings; started, it runs as a job of its own, which goes on when this app is closed. "
        "r starts a stage as it is set, and asks first where that takes long. The line below "
        "names the next step. All rows are about one corpus, which the frame names: o lists all "
        "and switches.\n\n"
        "● there and fresh   ◐ running   ◷ waiting   ○ not yet   ↻ an input has changed since   "
        "✕ failed   ■ stopped"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run_stage", "Run as set", id="board.run"),
        Binding("o", "app.corpora", "Corpus", id="board.corpora"),
        Binding("d", "doctor", "Why it failed", id="board.doctor"),
        Binding("j", "app.jobs", "Jobs", id="board.jobs"),
        Binding("c", "app.runs", "Runs", id="board.runs"),
        Binding("p", "app.data", "Data", id="board.peek"),
        Binding("b", "app.results", "Results", id="board.results"),
        Binding("s", "app.settings", "Settings", id="board.settings"),
        Binding("q", "app.quit", "Leave", id="board.leave"),
        *(Binding(str(n), f"stage({n})", show=False) for n in range(_KEYS)),
    ]

    def content(self) -> ComposeResult:
        with Horizontal(id="board"):
            with Vertical(id="main"), Vertical(id="pipeline", classes="panel"):
                yield Stages(id="stages", compact=True)
                yield Static(id="detail")
            yield SystemPanel(compact=True, id="gpus")
            with Vertical(id="side"):
                with Vertical(id="system", classes="panel"):
                    yield SystemPanel()
                with Vertical(id="disk", classes="panel"):
                    yield DiskPanel()
                with Vertical(id="jobs", classes="panel"):
                    yield OptionList(id="job-list", compact=True)
        yield Static(id="next")

    def on_mount(self) -> None:
        titles = {"#pipeline": "Pipeline", "#system": "System", "#disk": "Disk", "#jobs": "Jobs"}
        for selector, title in titles.items():
            self.query_one(selector).border_title = title
        self._rows: list[Row] = []
        self._next = Next(0, "")
        self._next_before = 0  # its row when the screen was left
        self._chosen = False  # once the user has moved the cursor, it stays where it is
        app = self.hatchery
        app.jobs_changed.subscribe(self, lambda _: self._show())
        app.surveyed.subscribe(self, lambda _: self._surveyed())
        app.system_read.subscribe(self, self._system_read)
        self.query_one("#stages").focus()
        self.set_interval(10.0, self._show)
        if app.reading is not None:
            self._system_read(app.reading)
        self._show()

    def on_screen_suspend(self) -> None:
        self._next_before = self._next.row

    def on_screen_resume(self) -> None:
        """Who comes back to another next step stands on it."""
        self._show()
        if self._next.row != self._next_before:
            self._chosen = False
            self._show()

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        """Lay out what the window has room for."""
        height, reading = self.app.size.height, self.hatchery.reading
        self.set_class(height >= _TALL, "-tall")
        gpus = len(reading.gpus) if reading is not None else 0
        self.query_one(DiskPanel).fit(height - _TALL + _DISK_LINES - gpus)
        self._show()

    def _surveyed(self) -> None:
        """Show what there is now. The panels below and beside the pipeline come after the first
        frame, which need not wait for them."""
        self._show()
        config = self.hatchery.config
        self.query_one(DiskPanel).follow(config)
        if not self.query(_LAST):
            self.query_one("#main").mount(self.hatchery.last_run_panel(_LAST.lstrip("#")))

    def _system_read(self, reading: Reading) -> None:
        for panel in self.query(SystemPanel):
            panel.show(reading)
        self.set_class(bool(reading.gpus), "-gpus")
        narrow = self.has_class("-narrow")  # where no panel shows the machine
        self.header.fact(in_one_line(reading) if narrow else workspace())

    def _show(self) -> None:
        app = self.hatchery
        if not app.products:
            self.query_one("#next", Static).update(plain("looking at what there is …", "italic"))
            return
        self.query_one("#pipeline").border_title = _title(app.corpus)
        self._rows = rows(app.products, app.jobs, app.corpus)
        self._next = what_next(self._rows)
        stages = self.query_one("#stages", OptionList)
        width = (stages.size.width or self.size.width) - 1
        titles = max(len(row.title) for row in self._rows)
        figures = max(len(row.figure) for row in self._rows)
        lines = [_stage_line(n, row, width, titles, figures) for n, row in enumerate(self._rows)]
        _replace(stages, lines)
        if not self._chosen or stages.highlighted is None:
            with self.prevent(OptionList.OptionHighlighted):
                stages.highlighted = self._next.row
        self._describe()
        jobs = self.query_one("#job-list", OptionList)
        shown = app.jobs[:_JOBS_SHOWN]
        width = (jobs.size.width or 36) - 2
        _replace(
            jobs,
            [_job_line(job, width) for job in shown] or [plain("what you start shows here", MUTED)],
        )
        self.query_one("#next", Static).update(
            joined(("Next: ", "bold $accent"), self._next.sentence)
        )
        self.refresh_bindings()

    @on(OptionList.OptionHighlighted, "#stages")
    def _moved(self) -> None:
        self._chosen = True
        self._describe()

    def _describe(self) -> None:
        row = self.chosen
        if row is not None:
            form = None if isinstance(row.stage, ScreenRow) else self._form(row)
            line = form.line if form is not None and form.first_fault is None else ""
            self.query_one("#detail", Static).update(_detail(row, line))

    @on(OptionList.OptionSelected, "#stages")
    def _opened(self, event: OptionList.OptionSelected) -> None:
        self._open(event.option_index)

    @on(OptionList.OptionSelected, "#job-list")
    def _opened_job(self, event: OptionList.OptionSelected) -> None:
        if event.option_index < len(self.hatchery.jobs):
            self.hatchery.open("job", self.hatchery.jobs[event.option_index])

    def _open(self, number: int) -> None:
        if number >= len(self._rows):
            return
        row = self._rows[number]
        if isinstance(row.stage, ScreenRow):
            self._open_screen(row.stage.command)
        elif row.job is not None and row.state in ("running", "waiting"):
            self.hatchery.open("job", row.job)
        elif resumed := _resumed(row):
            self.hatchery.open("stage", row.stage.command, resumed)
        else:
            self.hatchery.open("stage", row.stage.command)

    def _open_screen(self, command: str) -> None:
        """Chat begins with the run of this corpus, where another one has a newer."""
        run = self.hatchery.products.get("train", MISSING)
        if command == "chat" and run.path is not None and run.elsewhere:
            self.hatchery.open(command, run.path.name)
        else:
            self.hatchery.open(command)

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        number = self.query_one("#stages", OptionList).highlighted
        return self._rows[number] if number is not None and number < len(self._rows) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "doctor":
            return self._failed() is not None
        return action != "back"

    def _failed(self) -> Job | None:
        row = self.chosen if self.is_mounted else None
        if row is not None and row.job is not None and row.state in FAILED:
            return row.job
        return next((job for job in self.hatchery.jobs if job.state in FAILED), None)

    def action_stage(self, number: int) -> None:
        self._open(number)

    def action_run_stage(self) -> None:
        row = self.chosen
        if row is None:
            return
        if isinstance(row.stage, ScreenRow):
            self._open_screen(row.stage.command)
            return
        if row.state in ("running", "waiting"):
            self.hatchery.note(f"{row.stage.title} runs already: Enter shows it")
            return
        form = self._form(row)
        if form.fault is not None:
            self.hatchery.tell(form.fault)
        elif form.first_fault is not None:  # which its form shows
            self.hatchery.open("stage", row.stage.command, at=form.first_fault)
        else:
            self._start(form)

    @work(group="start", exclusive=True, exit_on_error=False)
    async def _start(self, form: "StageForm") -> None:
        """Start it as a job; something long only after a question."""
        from app.tui.stage.preflight import before_long  # the plan of a training

        app = self.hatchery
        try:
            told = await asyncio.to_thread(before_long, form, app.jobs, app.measured)
        except HatcheryError as error:  # it would be refused
            app.tell(error)
            app.open("stage", form.stage.command, form.arguments)
            return
        if told is not None:
            lines = [
                joined((f"{name:<9}", MUTED), what, (f"  {more}", MUTED))
                for name, what, more, _ in told
            ]
            text = Content("\n").join([plain(form.line, "bold"), plain(""), *lines])
            if not await self.app.push_screen_wait(ConfirmDialog(text, "Start", harmless=True)):
                return
        if app.start_job(form.stage, form.arguments, name=form.name) is not None:
            app.note(f"{form.line} runs as a job")

    def _form(self, row: Row) -> "StageForm":
        """What the form of a row's stage would start, without the form."""
        from app.tui.stage.stage_form import StageForm

        assert isinstance(row.stage, Stage)
        app = self.hatchery
        speed = app.measured.flops_per_second if app.measured is not None else None
        return StageForm(row.stage, _resumed(row), products=app.products, speed=speed)

    def action_doctor(self) -> None:
        job = self._failed()
        if job is not None:
            self.hatchery.open("doctor", job)


def workspace() -> str:
    """The folder that everything is in, as short as a person writes it."""
    try:
        here = Path.cwd()
        return f"~/{here.relative_to(Path.home())}" if here != Path.home() else "~"
    except ValueError:
        return str(here)
    except (OSError, RuntimeError):  # deleted since; no home
        return ""


def _resumed(row: Row) -> list[str]:
    """The arguments that go on with a run which stopped."""
    run = row.product.path if row.state == "stopped" else None
    return [] if run is None else ["--resume", run.name]


def _title(corpus: str) -> Content:
    return joined("Pipeline", (" · corpus ", MUTED), (corpus, "bold $accent"))


def _replace(target: OptionList, lines: list[Content]) -> None:
    """Change the lines in place, so that cursor and scroll position stay."""
    if target.option_count != len(lines):
        highlighted = target.highlighted
        target.clear_options()
        target.add_options([Option(line) for line in lines])
        if highlighted is not None and lines:
            target.highlighted = min(highlighted, len(lines) - 1)
        return
    for number, line in enumerate(lines):
        if target.get_option_at_index(number).prompt != line:
            target.replace_option_prompt_at_index(number, line)


def _stage_line(number: int, row: Row, width: int, titles: int, figures: int) -> Content:
    age = ""
    if row.since is not None:
        passed = max(0.0, time.time() - row.since)
        age = human_seconds(passed) if row.state == "running" else ago(passed)
    quiet = MUTED if row.state == "missing" else ""
    title = max(6, min(titles, width // 4))
    rest = min(figures, max(8, width - 3 - 10 - title - 10 - 2 * 4))
    return columns(
        [
            joined((number if number < _KEYS else " ", MUTED), " ", mark(row.state)),
            plain(row.stage.title, "bold" if row.state != "missing" else ""),
            plain(row.title, quiet),
            plain(row.figure, quiet),
            plain(age, MUTED),
        ],
        [3, 10, title, rest, -10],
    )


def _detail(row: Row, line: str) -> Content:
    """What the highlighted stage is for, what it has made, and the command that starts it."""
    stage, product = row.stage, row.product
    needs = [PRODUCTS[kind] for kind in stage.needs]
    makes = PRODUCTS.get(stage.makes, stage.makes)
    lines = [
        joined((stage.title, "bold $accent"), "  ", stage.purpose),
        joined((f"{' and '.join(needs) or 'nothing'} → {makes}", MUTED)),
    ]
    if product.path is not None:
        lines.append(joined((product.title, "bold"), f"  {product.figure}"))
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(product.made))
        lines.append(joined((f"{product.path}  made {when}", MUTED)))
    if product.why:
        lines.append(joined(mark(product.state), f" {product.why}"))
    if row.job is not None:
        lines.append(joined(mark(row.job.state), f" job {row.job.id} {row.job.state}"))
    if line:
        lines.append(joined(("$ ", MUTED), line))
    return Content("\n").join(lines)


def _job_line(job: Job, width: int) -> Content:
    if job.state == "running":
        state = f"{job.percent:.0f} %" if job.percent is not None else "running"
    else:
        state = job.state
    return columns(
        [mark(job.state), plain(f"{job.stage} {job.name}"), plain(state, MUTED)],
        [1, max(8, width - 1 - 10 - 4), -10],
    )
