"""All jobs: what runs, what waits, what has ended, and what can be done about each."""

import time
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from app.jobs import lifecycle
from app.jobs.dependencies import blockers, stand_in
from app.jobs.job import ACTIVE, FAILED, Job
from app.jobs.retry import command_again, command_of, start_again
from app.tui.screen import HatcheryScreen
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.find_bar import FindBar
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, mark, plain
from app.tui.widgets.virtual_list import RowList
from utils.errors import HatcheryError, as_typed
from utils.units import ago, human_seconds

_ROOM_FOR_AGE, _AGE = 90, 10  # cells
_ORDER = {"running": 0, "elsewhere": 1, "waiting": 2}


class Cells(NamedTuple):
    """The texts of one row; `sign` is the state whose mark it bears."""

    sign: str
    stage: str
    name: str
    state: str
    duration: str
    age: str
    note: str


_TITLES = Cells("", "stage", "name", "state", "took", "when", "")


class JobsScreen(HatcheryScreen):
    """A list that keeps itself current, and a line on the job under the cursor."""

    HELP = (
        "Every stage that was started here runs as a job of its own: ◐ runs, ◷ waits for others, "
        "● done, ■ stopped, ✕ failed, died or killed. Jobs go on when this app is closed.\n\n"
        "x asks a job to finish its step, save and end; when that takes too long, x twice more "
        "kills it. r does an ended job again, a training from its last checkpoint; a chain that "
        "waits for it then goes on. Delete removes the record of an ended job, not what it made."
    )
    CSS = """
    JobsScreen {
        #list { height: 1fr; }
        #titles { height: 1; color: $text-muted; }
        #about { height: 5; }
        #about Static { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "Stop", id="jobs.stop"),
        Binding("d", "why", "Why", id="jobs.why"),
        Binding("r,R", "retry", "Again", key_display="r", id="jobs.retry"),
        Binding("slash", "filter", "Filter", key_display="/", id="jobs.filter"),
        Binding("delete", "remove", "Remove", show=False, id="jobs.remove"),
        Binding("y", "copy", "Copy the command", show=False, id="jobs.copy"),
    ]

    def __init__(self) -> None:
        super().__init__("jobs")
        self._filter_text = ""
        self._by_folder: dict[str, Job] = {}
        self._stop_requests: dict[str, int] = {}  # how often x was pressed on a job

    def content(self) -> ComposeResult:
        with Vertical(id="list", classes="panel"):
            yield Static(id="titles")
            yield RowList(self._line, id="rows")
        with Vertical(id="about", classes="panel"):
            yield Static(id="command")
            yield Static(id="facts")
            yield Static(id="note")
        yield FindBar()

    def on_mount(self) -> None:
        self._list.focus()
        self.hatchery.jobs_changed.subscribe(self, lambda _: self._show())
        self.set_interval(1.0, self._redraw_running)
        self.set_interval(10.0, self._list.refresh)  # ages
        self._show()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def _redraw_running(self) -> None:
        """Durations grow; running jobs stand on top."""
        for row, job in enumerate(self._by_folder.values()):
            if job.state != "running":
                break
            self._list.refresh_line(row)

    @property
    def _list(self) -> RowList:
        return self.query_one("#rows", RowList)

    @property
    def _job(self) -> Job | None:
        """The one under the cursor."""
        return self._by_folder.get(self._list.current or "")

    def _show(self) -> None:
        everybody = self.hatchery.jobs
        found = filtered(everybody, self._filter_text)
        self._by_folder = {job.folder.name: job for job in found}
        self._list.show(list(self._by_folder))
        count = f"{len(found)} of {len(everybody)}" if self._filter_text else f"{len(everybody)}"
        self.query_one("#list").border_title = f"Jobs · {count}" if everybody else "Jobs"
        running = sum(job.state == "running" for job in everybody)
        waiting = sum(job.state == "waiting" for job in everybody)
        self.header.fact(f"{running} running · {waiting} waiting")
        titles = _row(_TITLES, self._list.scrollable_content_region.width, MUTED)
        self.query_one("#titles", Static).update(titles, layout=False)
        self._about()

    def _line(self, folder: str, width: int) -> Content:
        job = self._by_folder[folder]
        return _row(cells(job, self.hatchery.jobs, time.time()), width)

    @on(RowList.Moved)
    def _about(self) -> None:
        """The panel on the job under the cursor."""
        self.refresh_bindings()
        job = self._job
        texts = dict.fromkeys(("command", "facts", "note"), plain(""))
        if job is None:
            none = (
                "no job is like that" if self._filter_text else "no jobs yet: the board starts them"
            )
            texts["command"] = plain(none, MUTED)
        else:
            when = time.strftime("%d %b %H:%M:%S", time.localtime(job.started))
            pid = f" · process {job.record.pid}" if job.record and job.state in ACTIVE else ""
            texts["command"] = plain(_command(job))
            texts["facts"] = plain(f"job {job.id} · started {when}{pid}", MUTED)
            texts["note"] = plain(job.folder, MUTED)
        self.query_one("#about").border_title = plain(f"{job.stage} {job.name}") if job else None
        for name, text in texts.items():
            self.query_one(f"#{name}", Static).update(text, layout=False)

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        job = self._job if self.is_mounted else None
        if action in ("open", "copy"):
            return job is not None
        if action == "stop":
            return job is not None and job.state in ACTIVE
        if action in ("retry", "remove"):
            return job is not None and job.state not in ACTIVE
        if action == "why":
            return job is not None and job.state not in ("done", "running", "elsewhere")
        return True

    @on(RowList.Chosen)
    def action_open(self) -> None:
        if job := self._job:
            self.hatchery.open("job", job)

    def action_why(self) -> None:
        """Of a waiting job: why the one that it waits for ended."""
        job = self._job
        if job is None:
            return
        stuck = [open.job for open in blockers(job, self.hatchery.jobs) if open.job]
        self.hatchery.open("doctor", stuck[0] if stuck else job)

    def action_stop(self) -> None:
        job = self._job
        if job is None:
            return
        times = self._stop_requests[job.id] = self._stop_requests.get(job.id, 0) + 1
        try:
            if times == 1:
                lifecycle.interrupt(job)
                self.hatchery.note(f"{job.stage} {job.name} finishes its step and saves")
            elif times == 2:
                self.hatchery.note(f"{job.stage} {job.name} still saves: x again kills it")
            else:
                lifecycle.kill(job)
                self.hatchery.note(f"{job.stage} {job.name} was killed")
        except HatcheryError as error:
            self.hatchery.tell(error)

    def action_retry(self) -> None:
        if job := self._job:
            self._retry(job)

    @work(thread=True, group="retry", exclusive=True, exit_on_error=False)
    def _retry(self, job: Job) -> None:
        app = self.hatchery
        try:
            again = start_again(app.config.paths.logs_dir, job, command_again(job))
        except HatcheryError as error:
            app.call_from_thread(app.tell, error)
        except OSError as error:
            problem = HatcheryError(f"{job.stage} could not be started: {error.strerror}.")
            app.call_from_thread(app.tell, problem)
        else:
            app.call_from_thread(app.note, f"{job.stage} runs again as {again.id}")

    def action_copy(self) -> None:
        if job := self._job:
            self.app.copy_to_clipboard(_command(job))
            self.hatchery.note("copied")

    @work
    async def action_remove(self) -> None:
        job = self._job
        if job is None:
            return
        question = joined(
            (f"Remove the record of {job.stage} {job.name}?\n\n", "bold"),
            "Its events and log are deleted for good. What it made stays.",
        )
        if await self.app.push_screen_wait(ConfirmDialog(question, "Remove")):
            self._remove(job)

    @work(thread=True, group="remove", exit_on_error=False)
    def _remove(self, job: Job) -> None:
        app = self.hatchery
        try:
            lifecycle.remove(job, app.jobs)
        except HatcheryError as error:
            app.call_from_thread(app.tell, error)
        except OSError as error:
            problem = HatcheryError(f"{job.folder} could not be removed: {error.strerror}.")
            app.call_from_thread(app.tell, problem)

    # The filter.

    def action_filter(self) -> None:
        self.query_one(FindBar).ask("filter", "Filter", self._filter_text)

    @on(FindBar.Typed)
    def _typed(self, event: FindBar.Typed) -> None:
        self._filter_text = event.text
        self._show()

    def action_back(self) -> None:
        if self._filter_text:
            self._filter_text = ""
            self._show()
        else:
            super().action_back()


def _command(job: Job) -> str:
    try:
        return as_typed(command_of(job))
    except HatcheryError as error:
        return error.found


def _row(row: Cells, width: int, style: str = "") -> Content:
    state = "bold" if row.sign in ("running", *FAILED) else ""
    parts = [
        (mark(row.sign) if row.sign else plain(" "), 1),
        (plain(row.stage, style), 10),
        (plain(row.name, style), max(8, min(24, width - 72))),
        (plain(row.state, style or state), 9),
        (plain(row.duration, style), -12),
    ]
    if width >= _ROOM_FOR_AGE:
        parts.append((plain(row.age, style or MUTED), -_AGE))
    rest = width - sum(abs(size) + 2 for _, size in parts)
    parts.append((plain(row.note, style or MUTED), max(1, rest)))
    return columns([text for text, _ in parts], [size for _, size in parts])


def filtered(jobs: Sequence[Job], filter_text: str) -> list[Job]:
    """Those that hold every word of `wanted` in id, stage, name or state: running ones, then
    waiting, then ended, each newest first."""
    words = filter_text.casefold().split()
    found = [job for job in jobs if all(word in _text(job) for word in words)]
    return sorted(found, key=lambda job: (_ORDER.get(job.state, 3), -job.started))


def _text(job: Job) -> str:
    return f"{job.id} {job.stage} {job.name} {job.state}".casefold()


def cells(job: Job, jobs: Sequence[Job], now: float) -> Cells:
    """The row of `job` among all jobs, `now` seconds since 1970."""
    duration = job.duration(now)
    state = f"{job.percent:.0f} %" if job.percent is not None else job.state
    return Cells(
        job.state,
        job.stage,
        job.name,
        state,
        "" if duration is None else human_seconds(duration),
        ago(max(0.0, now - (job.ended or job.started))),
        note(job, jobs),
    )


def note(job: Job, jobs: Sequence[Job]) -> str:
    """What one should know beside the state: whom it waits for, or who does it again."""
    if job.state == "waiting":
        stuck = [open.job.stage if open.job else open.id for open in blockers(job, jobs)]
        if stuck:
            return f"until {' and '.join(stuck)} is mended: d"
        return f"for {', '.join(_called(waited_for, jobs) for waited_for in job.waits_for)}"
    now = stand_in(job.id, jobs) if job.state not in ("done", *ACTIVE) else None
    if now is not None and now.id != job.id:
        return f"again as {now.id}" + (", done" if now.state == "done" else "")
    if job.state == "failed":
        return f"exit code {job.exit_code}"
    return f"of {job.record.host}" if job.state == "elsewhere" and job.record else ""


def _called(waited_for: str, jobs: Sequence[Job]) -> str:
    job = next((job for job in jobs if job.id == waited_for), None)
    return f"{job.stage} {waited_for}" if job else waited_for
