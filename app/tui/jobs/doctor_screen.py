"""The doctor: why a job ended as it did, what shows it, and what helps, to be started from here."""

import time
from textwrap import wrap
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.doctor.diagnosis import Diagnosis, diagnose
from app.doctor.remedies import Remedy
from app.jobs.job import Job
from app.jobs.retry import start_again
from app.tui.screen import HatcheryScreen
from app.tui.widgets.text import MUTED, block, joined, mark, plain
from utils.errors import HatcheryError, as_typed
from utils.text import safe
from utils.units import ago


class RemedyList(OptionList):
    """What helps; Enter does it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Do it")]


class DoctorScreen(HatcheryScreen):
    """One job that has ended. The remedies are listed with the most promising one first."""

    HELP = (
        "On the left what went wrong and what shows it, on the right what helps, the most "
        "promising first. Enter starts the chosen remedy in the job's place: jobs that wait for "
        "it go on once it is done. e opens it in the form first, so that you can change it. What "
        "bears a hand ☞ is for you to do."
    )
    CSS = """
    DoctorScreen {
        #doctor { height: 1fr; }
        #found { width: 1fr; height: 1fr; }
        #helps { width: 1fr; height: 1fr; }
        #cause { height: auto; margin-bottom: 1; }
        #evidence, #log { height: auto; margin-bottom: 1; }
        #log { text-wrap: nowrap; text-overflow: ellipsis; }
        #remedies { height: 1fr; }
        #remedies > .option-list--option { padding: 0 0 1 0; }
        #runs { height: auto; max-height: 6; border-top: solid $border-blurred; }
    }
    DoctorScreen.-narrow {
        #doctor { layout: vertical; }
        #found { width: 1fr; height: 45%; }
        #helps { width: 1fr; }
        #runs { max-height: 5; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "edit", "Change it first", id="doctor.edit"),
        Binding("l", "log", "Whole log", id="doctor.log"),
        Binding("y", "copy", "Copy the command", show=False, id="doctor.copy"),
    ]

    def __init__(self, job: Job) -> None:
        super().__init__("jobs", f"{job.stage} {job.name}", "why")
        self._job = job
        self._found: Diagnosis | None = None
        self._starting = False

    @property
    def job_id(self) -> str | None:
        return self._job.id

    def content(self) -> ComposeResult:
        with Horizontal(id="doctor"):
            with VerticalScroll(id="found", classes="panel"):
                yield Static(plain("reading what it left …", "italic"), id="cause")
                yield Static(id="evidence")
                yield Static(id="log")
            with Vertical(id="helps", classes="panel"):
                yield RemedyList(id="remedies", compact=True)
                yield Static(id="runs")

    def on_mount(self) -> None:
        self.query_one("#found").border_title = "What happened"
        self.query_one("#helps").border_title = "What helps"
        self.query_one("#remedies").focus()
        if self._job.ended is not None:
            self.header.fact(f"{self._job.state} {ago(max(0.0, time.time() - self._job.ended))}")
        self._diagnose()

    @work(thread=True, group="diagnose", exclusive=True, exit_on_error=False)
    def _diagnose(self) -> None:
        found = diagnose(self._job)
        self.app.call_from_thread(self._show, found)

    def _show(self, found: Diagnosis) -> None:
        if not self.is_attached:
            return
        self._found = found
        title = joined(mark(self._job.state), " ", (found.cause.capitalize(), "bold"))
        explained = Content("\n\n").join([title, block(found.explanation)])
        self.query_one("#cause", Static).update(explained)
        log = [joined(("│ ", MUTED), (line, MUTED)) for line in found.log]
        self.query_one("#log", Static).update(Content("\n").join(log))
        self._fit()
        remedies = self.query_one(RemedyList)
        if found.remedies:
            startable = [bool(remedy.command) for remedy in found.remedies]
            remedies.highlighted = startable.index(True) if any(startable) else 0
        else:
            self.query_one("#runs", Static).update(plain("Nothing needs to be done."))
        self.refresh_bindings()

    def on_resize(self) -> None:
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        """What is wrapped by hand, since its lines hang."""
        if self._found is None:
            return
        evidence, remedies = self.query_one("#evidence", Static), self.query_one(RemedyList)
        facts = [_hanging(line, evidence.size.width, "· ") for line in self._found.evidence]
        evidence.update(Content("\n").join(facts))
        at, width = remedies.highlighted, remedies.size.width - 2
        remedies.set_options([Option(_option(remedy, width)) for remedy in self._found.remedies])
        remedies.highlighted = at

    @property
    def _remedy(self) -> Remedy | None:
        at = self.query_one(RemedyList).highlighted
        there = self._found.remedies if self._found else ()
        return there[at] if at is not None and at < len(there) else None

    @on(OptionList.OptionHighlighted)
    def _moved(self) -> None:
        remedy = self._remedy
        if remedy is None:
            return
        commands = [as_typed(words) for words in remedy.commands]
        text = "\n".join(commands) or "this is for you to do; then run the job again"
        self.query_one("#runs", Static).update(block(text))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        remedy = self._remedy if self.is_mounted else None
        if action in ("apply", "edit", "copy"):
            return remedy is not None and bool(remedy.command)
        return True

    @on(OptionList.OptionSelected)
    def action_apply(self) -> None:
        remedy = self._remedy
        if remedy is None or self._starting:
            return
        if not remedy.command:
            self.hatchery.note("this is for you to do; then run the job again")
            return
        if remedy.edit:
            self.action_edit()
            return
        self._starting = True
        self._start(remedy)

    @work(thread=True, group="start", exit_on_error=False)
    def _start(self, remedy: Remedy) -> None:
        app = self.hatchery
        logs = app.config.paths.logs_dir
        try:
            *before, command = remedy.commands
            again = start_again(logs, self._job, command, *before)
        except HatcheryError as error:
            app.call_from_thread(self._not_started, error)
        except OSError as error:
            problem = f"{self._job.stage} could not be started: {error.strerror}."
            app.call_from_thread(self._not_started, HatcheryError(problem))
        else:
            app.call_from_thread(self._started, again)

    def _not_started(self, error: HatcheryError) -> None:
        self._starting = False
        self.hatchery.tell(error)

    def _started(self, again: Job) -> None:
        """Show it in the place of this screen."""
        if self.app.screen is self:
            self.app.pop_screen()
        self.hatchery.open("job", again)

    def action_edit(self) -> None:
        remedy = self._remedy
        if remedy is not None and remedy.command:
            command, *arguments = remedy.command
            self.hatchery.open("stage", command, preset=arguments, retry_of=self._job.id)

    def action_log(self) -> None:
        self.hatchery.open("job", self._job)

    def action_copy(self) -> None:
        remedy = self._remedy
        if remedy is not None and remedy.command:
            self.app.copy_to_clipboard(as_typed(remedy.command))
            self.hatchery.note("copied")


def _option(remedy: Remedy, width: int) -> Content:
    sign = ("✎", "$accent") if remedy.edit else ("▶", "$accent")
    if not remedy.command:
        sign = ("☞", "$warning")
    label = _hanging(remedy.label, width, "", "bold")
    first, *rest = label.split("\n")
    lead = [joined(sign, " ", first), *(joined("  ", line) for line in rest)]
    return Content("\n").join([*lead, _hanging(remedy.why, width, "  ", MUTED)])


def _hanging(text: str, width: int, lead: str, style: str = "") -> Content:
    """`text` in lines of at most `width` cells that all begin below its first letter."""
    room = max(20, width - 2)
    lines = wrap(safe(text, lines=False), room, break_on_hyphens=False) or [""]
    gaps = [lead, *(" " * len(lead) for _ in lines[1:])]
    return Content("\n").join(
        joined((gap, MUTED), (line, style)) for gap, line in zip(gaps, lines, strict=True)
    )
