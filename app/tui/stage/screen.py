"""The form of a stage: its settings, what they amount to, the same as a command, and Start."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from app.jobs.job import ACTIVE, Job
from app.tui.forms.draft import CHANGED, Draft
from app.tui.forms.field import ChoiceLine, TextLine
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.saving import SavingScreen
from app.tui.forms.setting_finder import SettingFinder
from app.tui.stage import form_corpus, stage_flow
from app.tui.stage.flow_panel import FlowPanel
from app.tui.stage.stage_form import StageForm
from app.tui.widgets.text import plain
from pipeline.options.config import Config
from pipeline.planning.wording import Line
from pipeline.stages import Product, Stage, find
from utils.errors import HatcheryError
from utils.units import human_seconds


class StartLine(Static, can_focus=True):
    """`▶ Start`, where the focus rests."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.start", "Start"),
        Binding("ctrl+r", "screen.start", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "screen.last_setting", show=False),
    ]

    async def on_click(self) -> None:
        await self.screen.run_action("start")


class StageScreen(SavingScreen):
    """One stage, whichever. `preset` are arguments as typed, shown as changes; what is started
    stands in for the job `retry_of`. `at` is the setting that has the focus at first."""

    HELP = (
        "The settings of one stage, those that matter first; m shows the rest, / finds one by its "
        "name, flag or meaning. Up, Down and Tab walk through them, ← and → change a choice, Enter "
        "is done with a field and goes to Start. ▼ marks a field with names to choose from: they "
        "are listed as you type, or by alt+↓. ^o picks a file or folder. What is wrong is said "
        "below the field as you type. The line at the bottom is the same as a command for a shell; "
        "y copies it.\n\n"
        "Enter on Start starts a job with these settings; config.json changes only with s, and u "
        "takes that back. "
        "w starts it after the jobs that run now, c makes what is missing first."
    )
    CSS = """
    StageScreen {
        #form { height: 1fr; }
        #settings { width: 1fr; height: 1fr; }
        #beside { width: 1fr; height: 1fr; }
        #hint { display: none; height: auto; max-height: 3; padding: 0 2; color: $warning; }
        #hint.-shown { display: block; }
        #bottom { height: auto; max-height: 4; padding: 0 1; margin-bottom: 1; }
        #start { width: auto; height: 1; padding: 0 1; background: $panel; text-style: bold; }
        #start:focus { background: $accent; color: $background; }
        #command { width: 1fr; height: auto; padding-left: 2; color: $text-muted; }
    }
    StageScreen.-narrow {
        #form { layout: vertical; }
        #settings { height: 2fr; }
        #beside { min-height: 6; }
        #bottom { margin-bottom: 0; }
    }
    """
    AUTO_FOCUS = "#start"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "Start", show=False),
        Binding("ctrl+r", "start_here", "Start", id="stage.start"),
        Binding("c", "chain", "With all before it", id="stage.chain"),
        Binding("w", "queue", "Wait for the others", id="stage.queue"),
        Binding("m", "more", "More", id="stage.more"),
        Binding("slash,ctrl+f", "find", "Find", id="stage.find"),
        Binding("s,ctrl+s", "save", "Save", id="stage.save"),
        Binding("u,ctrl+z", "undo", "Undo this change", show=False, id="stage.undo"),
        Binding("y", "copy", "Copy the command", show=False, id="stage.copy"),
        Binding("o", "rehearse", "Rehearse", show=False, id="stage.rehearse"),
        Binding("p", "probe", "Probe the speed", show=False, id="stage.probe"),
        *(Binding(str(n), f"choose({n})", "Take this remedy", show=False) for n in range(1, 10)),
    ]

    def __init__(
        self,
        stage: Stage,
        preset: Sequence[str] = (),
        *,
        retry_of: str | None = None,
        at: str | None = None,
    ) -> None:
        super().__init__(stage.command)
        self._at = at
        self.stage = stage
        self._preset = tuple(preset)
        self._retry_of = retry_of
        self._surveyed: dict[str, Product] | None = None  # of this form's own settings

    def content(self) -> ComposeResult:
        kept = {} if self._preset else self.hatchery.drafts.get(self.stage.command, {})
        measured = self.hatchery.measured
        speed = measured.flops_per_second if measured is not None else None
        self.form = form = StageForm(self.stage, self._preset, kept, self.hatchery.products, speed)
        with Horizontal(id="form"):
            yield FieldPanel(form.draft, form.groups, name="settings")
            with Vertical(id="beside", classes="panel"), VerticalScroll():
                if self._trains:
                    from app.tui.stage.preflight_card import PreflightCard

                    yield PreflightCard(self.hatchery.measured)
                else:
                    yield FlowPanel()
        yield Static(id="hint")
        with Horizontal(id="bottom"):
            yield StartLine("▶ Start", id="start")
            yield Static(id="command")

    def on_mount(self) -> None:
        self.query_one("#settings").border_title = "Settings"
        title = "Before you start" if self._trains else "What it does"
        self.query_one("#beside").border_title = title
        self.hatchery.surveyed.subscribe(self, lambda _: self._show())
        self.hatchery.jobs_changed.subscribe(self, lambda _: self._show())
        if self.form.fault is not None:
            self.hatchery.tell(self.form.fault)
        self._changed()
        if self._at is not None:
            self.query_one(FieldPanel).focus_path(self._at)

    @property
    def _trains(self) -> bool:
        return "train" in self.form.sections

    @property
    def products(self) -> dict[str, Product]:
        """What there is, for the settings of this form."""
        own = self._surveyed if self.form.own_data is not None else None
        return self.hatchery.products if own is None else own

    @property
    def edited(self) -> Draft:
        return self.form.draft

    def rebase(self) -> None:
        self.form.rebase()

    def redraw(self) -> None:
        self._changed()

    # What it shows.

    @on(FieldPanel.Changed)
    def _changed(self) -> None:
        draft = self.form.draft
        self.form.propose()
        self.query_one(FieldPanel).refill()
        if self._trains and not draft.faults:
            from app.tui.stage.preflight_card import PreflightCard

            self.query_one(PreflightCard).show(
                draft.config, frozenset(draft.changes), self._proposed()
            )
        if (config := self.form.own_data) is not None:
            self._survey(config)
        self._show()

    def _proposed(self) -> Line | None:
        """What the card says of the training that is proposed."""
        fit = self.form.fit
        if fit is None:
            return None
        length = (
            ""
            if "train.max_steps" in self.form.draft.changes
            else (f", in about {_roughly(fit.seconds)}")
        )
        remark = f"what this text feeds{length}; what you set wins"
        return Line("Proposed", f"preset {fit.preset}", remark)

    @work(thread=True, group="survey of the form", exclusive=True, exit_on_error=False)
    def _survey(self, config: Config) -> None:
        found = self.form.survey(config)
        self.app.call_from_thread(self._was_surveyed, found)

    def _was_surveyed(self, found: dict[str, Product]) -> None:
        self._surveyed = found
        self._show()

    def _show(self) -> None:
        form = self.form
        if not self._trains:
            panel = self.query_one(FlowPanel)
            panel.show(self.stage, form.meant, self.products, self.hatchery.jobs, form.why)
        self.query_one("#command", Static).update(plain(form.line))
        hint = self.query_one("#hint", Static)
        text = form.hint(self.products)
        hint.update(plain(text))
        hint.set_class(bool(text), "-shown")
        self.header.fact(form.saved)
        self.refresh_bindings()

    # What it does.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        if action == "start_here":  # on Start, Enter does it and is what is named
            return not isinstance(self.focused, StartLine)
        if action == "queue":
            return bool(self._active())
        if action == "chain":
            return len(self.form.chain(self.products)) > 1
        if action == "more":
            return self.query_one(FieldPanel).hidden > 0
        if action in ("probe", "choose"):
            return self._trains
        if action == "save":  # what --config FILE says is stronger than config.json
            return self.form.file is None
        return action != "rehearse" or self.stage.command != "rehearse"

    def _active(self) -> list[Job]:
        return [job for job in self.hatchery.jobs if job.state in ACTIVE]

    def _may_start(self) -> bool:
        """Whether all is well; if not, say so and go there."""
        form = self.form
        if form.fault_elsewhere:
            self.hatchery.tell(form.fault or HatcheryError(form.fault_elsewhere))
            return False
        if (path := form.first_fault) is not None:
            self.query_one(FieldPanel).focus_path(path)
            self.hatchery.note(f"{path}: {form.draft.faults[path]}")
            return False
        return True

    def action_start(self) -> None:
        if self._may_start():
            self._open(
                self.hatchery.start_job(
                    self.stage, self.form.arguments, name=self.form.name, retry_of=self._retry_of
                )
            )

    def action_start_here(self) -> None:
        self.action_start()

    def action_last_setting(self) -> None:
        """From Start to the setting above it, not into the card beside the settings."""
        self.query_one(FieldPanel).focus_last()

    def action_queue(self) -> None:
        if self._may_start():
            after = [job.id for job in self._active()]
            job = self.hatchery.start_job(
                self.stage,
                self.form.arguments,
                name=self.form.name,
                after=after,
                queued=True,
                retry_of=self._retry_of,
            )
            self._open(job)

    def action_chain(self) -> None:
        if not self._may_start():
            return
        steps = self.form.chain(self.products)
        started: list[Job] = []
        for step in steps:
            last = step.stage is self.stage
            job = self.hatchery.start_job(
                step.stage,
                step.arguments,
                name=self.form.name if last else None,
                after=[job.id for job in started[-1:]],
                retry_of=self._retry_of if last else None,
            )
            if job is None:
                break
            started.append(job)
        if started:
            self.hatchery.note(f"{stage_flow.in_order(steps)}: each waits for the one before it")
            self._open(started[0])

    def _open(self, job: Job | None) -> None:
        if job is None:
            return
        self.form.draft.changes.clear()
        self._leave()
        self.hatchery.open("job", job)

    def action_back(self) -> None:
        """Out of a field first, then out of the form, which keeps what was changed."""
        if isinstance(self.focused, TextLine | ChoiceLine):
            self.action_done()
        else:
            self._leave()

    def _leave(self) -> None:
        if self._trains:
            from app.tui.stage.preflight_card import PreflightCard

            self.hatchery.measured = self.query_one(PreflightCard).measured
        self.hatchery.drafts[self.stage.command] = dict(self.form.draft.changes)
        self.app.pop_screen()

    def action_done(self) -> None:
        """Done with a field; a path where the name of a corpus belongs goes where paths belong."""
        panel = self.query_one(FieldPanel)
        line = panel.focused_line
        path = self.form.take_path(line.margins.field.path) if line is not None else None
        if path is None:
            self.query_one("#start").focus()
            return
        panel.refill(forced=True)
        self._changed()
        if form_corpus.takes_texts(self.stage):
            panel.focus_path(f"{self.stage.section}.input")
        else:
            self.hatchery.open("stage", "cleanup", ["--input", str(path)])

    def action_more(self) -> None:
        self.query_one(FieldPanel).toggle()

    def action_find(self) -> None:
        """Search all settings, also the hidden ones, and go to one."""
        form, panel = self.form, self.query_one(FieldPanel)

        def go(path: str | None) -> None:
            if path is not None:
                panel.focus_path(path)

        bare = [name for name in (self.stage.section, self.stage.also) if name]
        self.app.push_screen(SettingFinder(form.draft, form.groups, bare), go)

    def action_undo(self) -> None:
        """Take back what was done to the field with the focus; where nothing was, the last save."""
        panel, draft = self.query_one(FieldPanel), self.form.draft
        line = panel.focused_line
        if line is not None and draft.origin(line.margins.field.path) == CHANGED:
            draft.undo(line.margins.field.path)
            panel.refill(forced=True)
            self._changed()
        elif not isinstance(line, TextLine):
            self.undo_save()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.form.line)
        self.hatchery.note("copied")

    def action_save(self) -> None:
        """Write the changes into config.json; they are what every start begins with from then."""
        if self._may_start():
            self.save()

    def action_rehearse(self) -> None:
        rehearse = find("rehearse")
        self.hatchery.open("stage", rehearse.command, self.form.arguments_for(rehearse))

    def action_probe(self) -> None:
        from app.tui.stage.preflight_card import PreflightCard

        self.query_one(PreflightCard).probe(self.form.arguments_for(find("train")))

    def action_choose(self, number: int) -> None:
        """Take the card's remedy of that number."""
        from app.tui.stage.preflight_card import PreflightCard

        self.query_one(PreflightCard).choose(number)

    def on_preflight_card_chosen(self, message: Any) -> None:
        """A remedy of the card; by name, since its module is not loaded for other stages."""
        self.form.draft.apply(message.changes)
        self.query_one(FieldPanel).refill()
        self._changed()


def _roughly(seconds: float) -> str:
    """A guess, in whole minutes from two on."""
    return human_seconds(60 * round(seconds / 60) if seconds >= 120 else max(1, round(seconds)))
