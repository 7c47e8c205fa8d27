"""The panes of a comparison, the prompt below them, and what one does with both."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from app.tui.compare.comparison import AnswerWorkers, Comparison, Connect
from app.tui.compare.inputs import Prompt, SamplingPanel
from app.tui.compare.pane import Pane
from app.tui.compare.panes import AnswerPanes
from app.tui.compare.round import Answer
from app.tui.compare.selection import Candidate
from app.tui.compare.transcript import write_transcript
from app.tui.compare.wording import ruler_step, sampling_line
from app.tui.forms.draft import Draft
from app.tui.widgets.text import plain
from pipeline.evaluation import votes
from utils.errors import HatcheryError

if TYPE_CHECKING:
    from app.tui.core import AppCore

_DRAW_EVERY = 0.1  # seconds; pieces may come a thousand times as often
_NOT_HIDDEN = "Vote first, or b shows the names"


class CompareBody(Vertical, can_focus=True):
    """`stand` shows models side by side; `comparison` holds their answers. While none stand,
    `waiting` says what for, and `unsent` is the prompt that was sent meanwhile."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "prompt", "Prompt", id="compare.prompt"),
        Binding("tab", "walk(1)", "Next pane", show=False),
        Binding("shift+tab", "walk(-1)", "Pane before", show=False),
        Binding("1", "vote_for(1)", "Vote", key_display="1-9", id="compare.vote"),
        *(
            Binding(str(n), f"vote_for({n})", f"Vote for pane {n}", show=False)
            for n in range(2, 10)
        ),
        Binding("0", "vote_for(0)", "None is better", show=False),
        Binding("x", "vote_here", "Vote for this pane", show=False, id="compare.vote_here"),
        Binding("b", "blind", "Blind", id="compare.blind"),
        Binding("p", "colour", "Likely", id="compare.colour"),
        Binding("right", "step_by(1)", "Steps", key_display="←→", id="compare.later"),
        Binding("left", "step_by(-1)", "The checkpoint before", show=False, id="compare.earlier"),
        Binding("t", "settings", "Settings for all", show=False, id="compare.settings"),
        Binding("delete", "remove", "Take this model out", show=False, key_display="Del"),
        Binding("m", "mode", "Continue the prompt, or chat", show=False, id="compare.mode"),
        Binding("e", "export", "Export as Markdown", show=False, id="compare.export"),
        Binding("y", "copy", "Copy this answer", show=False, id="compare.copy"),
    ]
    DEFAULT_CSS = """
    CompareBody {
        height: 1fr;
        & #compare-panes { height: 1fr; }
        & AnswerPanes { width: 1fr; }
        & #compare-prompt { height: auto; max-height: 4; margin-bottom: 1; padding: 0 1; }
        & #compare-prompt Static { width: 2; color: $accent; text-style: bold; }
    }
    """

    class Unanswered(Message):
        """A prompt was sent while no model stands here; it waits in `unsent`."""

    def __init__(
        self, comparison: Comparison, draft: Draft, history: list[str], connect: Connect
    ) -> None:
        super().__init__(id="compare-body")
        self.comparison = comparison
        self.answer_workers = AnswerWorkers(self, comparison, connect, self._changed)
        self._draft, self._history = draft, history
        self._coloured = False
        self.waiting = ""
        self.unsent: str | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="compare-panes"):
            yield AnswerPanes(self.comparison.course)
            yield SamplingPanel(self._draft)
        with Horizontal(id="compare-prompt"):
            yield Static(plain(">"))
            yield Prompt(self._history)

    def on_mount(self) -> None:
        self.set_interval(_DRAW_EVERY, self.draw)

    @property
    def hatchery(self) -> "AppCore":
        """The app, by its own type."""
        return cast("AppCore", self.app)

    @property
    def _panes_view(self) -> AnswerPanes:
        return self.query_one(AnswerPanes)

    @property
    def _prompt(self) -> Prompt:
        return self.query_one(Prompt)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.comparison.round.votable or not action.startswith("vote_")

    def settings_line(self, *, short: bool) -> Content:
        """The settings of the next round; while they are those of this one, its drawn seed too."""
        sampling, found = self.comparison.sampling, self.comparison.round
        if found.asked and replace(found.sampling, seed=None) == sampling:
            sampling = found.sampling
        return sampling_line(sampling, chat=self.comparison.chat, short=short)

    async def stand(self, candidates: Sequence[Candidate]) -> None:
        """Let these stand; those that are new are asked at once where the others were."""
        to_ask = self.comparison.choose(candidates)
        await self._panes_view.begin(len(self.comparison.round.answers))
        self._changed()
        self.answer_workers.all(to_ask)

    def draw(self) -> None:
        """Show how far all are, where somebody sees it."""
        if not (self.display and self.screen.is_current):
            return
        if self.waiting:
            self._panes_view.say(self.waiting)
            return
        serving = self.hatchery.serving
        died = serving.state == "died" and self.comparison.round.failed
        fault = serving.fault if died else None
        self._panes_view.draw(self.comparison.round, coloured=self._coloured, fault=fault)

    def _changed(self) -> None:
        self.refresh_bindings()
        self.draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    # Asking.

    @on(Prompt.Sent)
    async def _sent(self, event: Prompt.Sent) -> None:
        if self.comparison.round.busy:
            self.hatchery.note("They are still writing: Esc stops them")
        elif self.comparison.chat and not event.text.strip():
            self.hatchery.note("A chat begins with a message")
        elif not self.comparison.candidates:
            self.unsent = event.text
            self.post_message(self.Unanswered())
        else:
            await self._ask(event.text)

    async def _ask(self, prompt: str) -> None:
        found = self.comparison.begin(prompt)
        await self._panes_view.begin(len(found.answers))
        self.answer_workers.all(found.answers)
        self._panes_view.focus_pane(0)

    async def send_unsent(self) -> None:
        """Put the prompt to all that was sent before anybody stood here."""
        prompt, self.unsent = self.unsent, None
        if prompt is not None:
            await self._ask(prompt)

    @property
    def writes(self) -> bool:
        """Whether a prompt is being written that has not been sent."""
        return bool(self._prompt.text) and self.unsent is None

    @on(Prompt.Left)
    def _prompt_left(self) -> None:
        self.action_walk(1)

    @on(Prompt.Unread)
    def _unread(self, event: Prompt.Unread) -> None:
        self.hatchery.tell(event.error)

    # Walking about.

    def action_prompt(self) -> None:
        self._prompt.focus()

    def action_walk(self, by: int) -> None:
        """Prompt, first pane, second, ..., and round again."""
        count = len(self.comparison.round.answers)
        at = -1 if self._prompt.has_focus else self._panes_view.current
        to = (at + 1 + by) % (count + 1) - 1
        if to < 0:
            self.action_prompt()
        else:
            self._panes_view.focus_pane(to)

    def action_step_by(self, by: int) -> None:
        place = self._panes_view.current
        answer = self.comparison.round.answers[place]
        steps = self.comparison.course(answer.candidate)
        if answer.candidate in steps:
            self._step(place, steps.index(answer.candidate) + by)
        else:
            self.hatchery.note("Only a run with several checkpoints has steps")

    @on(Pane.Step)
    def _ruler_clicked(self, event: Pane.Step) -> None:
        pane = event.pane
        one = self.comparison.round.answers[pane.place].candidate
        steps = self.comparison.course(one)
        if one in steps:
            self._step(pane.place, ruler_step(len(steps), steps.index(one), pane.inner, event.x))

    def _step(self, place: int, step: int) -> None:
        """Show what the checkpoint at this step of the run makes of the prompt."""
        if self.comparison.round.hidden:
            self.hatchery.note(_NOT_HIDDEN)
        elif self.answer_workers.is_running:
            self.hatchery.note("Esc stops what is being written")
        else:
            self.answer_workers.step(place, step)
            self.draw()

    # What one does with the answers.

    def may_change(self) -> bool:
        """Whether other models may stand here now; where not, it says why."""
        found = self.comparison.round
        if found.busy:
            self.hatchery.note("They are still writing: Esc stops them")
        elif found.hidden and found.votable:
            self.hatchery.note(_NOT_HIDDEN)
        else:
            return True
        return False

    async def action_remove(self) -> None:
        if self.may_change() and len(self.comparison.candidates) > 1:
            place = self._panes_view.current
            self.comparison.remove(place)
            await self._panes_view.begin(len(self.comparison.round.answers))
            self._panes_view.focus_pane(min(place, len(self.comparison.round.answers) - 1))
            self._changed()

    def action_blind(self) -> None:
        if not self.comparison.round.busy:
            self.comparison.toggle_blind()
            if self.comparison.blind:
                self.action_prompt()
            self.refresh_bindings()
            self.draw()

    def action_vote_for(self, number: int) -> None:
        answers = self.comparison.round.answers
        if 1 <= number <= len(answers):
            self._vote(answers[number - 1])
        elif number == 0:
            self._vote(None)

    def action_vote_here(self) -> None:
        self._vote(self.comparison.round.answers[self._panes_view.current])

    @on(Pane.Voted)
    def _pane_voted(self, event: Pane.Voted) -> None:
        self.action_vote_for(event.place + 1)

    @work(group="vote", exclusive=True)
    async def _vote(self, winner: Answer | None) -> None:
        """Keep the vote, then tell the names."""
        found = self.comparison.round
        if not found.votable or (winner is not None and winner not in found.eligible):
            return
        ballot = found.ballot(winner, time=time.time())
        try:
            await asyncio.to_thread(votes.add, votes.FOLDER, ballot)
        except HatcheryError as error:
            self.hatchery.tell(error)
            return
        found.decide(winner)
        self._changed()

    def action_colour(self) -> None:
        self._coloured = not self._coloured
        self.draw()

    def action_mode(self) -> None:
        """Whether the next prompt is continued or answered."""
        self.comparison.chat = not self.comparison.chat
        self._prompt.ask_for(chat=self.comparison.chat)
        self.draw()

    def action_settings(self) -> None:
        self.query_one(SamplingPanel).ask()

    def close_settings(self) -> None:
        """The settings are as they should be."""
        self.query_one(SamplingPanel).action_close()

    def take_settings(self) -> None:
        """The settings are others, from a file."""
        panel = self.query_one(SamplingPanel)
        panel.refill()
        self.comparison.sampling = panel.sampling
        self.draw()

    @on(SamplingPanel.Changed)
    def _settings_changed(self, event: SamplingPanel.Changed) -> None:
        self.comparison.sampling = event.sampling
        self.draw()

    @on(SamplingPanel.Closed)
    def _settings_closed(self) -> None:
        self._panes_view.focus_pane(self._panes_view.current)

    def action_copy(self) -> None:
        answer = self.comparison.round.answers[self._panes_view.current]
        self.app.copy_to_clipboard(answer.text)
        self.hatchery.note(f"Copied {len(answer.text):,} characters")

    @work(group="export", exclusive=True)
    async def action_export(self) -> None:
        """All of it as Markdown."""
        if not self.comparison.round.asked:
            self.hatchery.note("There is nothing to export yet: Enter sends a prompt")
            return
        try:
            path = await asyncio.to_thread(write_transcript, self.comparison.round, votes.FOLDER)
        except HatcheryError as error:
            self.hatchery.tell(error)
        else:
            self.hatchery.note(f"Wrote {path}")
