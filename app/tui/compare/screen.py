"""Several models, one prompt: their answers side by side as they are written, and a vote."""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import ContentSwitcher

from app.client.client import Client, Model, Sampling
from app.tui.compare.body import CompareBody
from app.tui.compare.comparison import Comparison
from app.tui.compare.inputs import EndpointForm
from app.tui.compare.model_picker import ModelPicker
from app.tui.compare.selection import LOCAL, Candidate, matching, shortage
from app.tui.compare.wording import trouble
from app.tui.forms import config_file
from app.tui.forms.draft import Draft
from app.tui.screen import HatcheryScreen
from app.tui.system import Reading
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.text import plain
from utils.errors import HatcheryError

_DRAW_EVERY = 0.2  # seconds


class CompareScreen(HatcheryScreen):
    """The choice of models, then their panes; one comes back to it as one left it."""

    HELP = (
        "One prompt, put to several models at once with the same settings and the same seed. "
        "Space, or numbers such as 1,3,5 or 2-4 or all, choose them; u adds a model of another "
        "server by its address. Tab walks between prompt and answers, ↑ in the prompt brings back "
        "earlier ones.\n\n"
        "b makes it blind: names, order and speeds are kept back until 1-9 votes for an answer "
        "(0: none is better). Votes are kept in benchmark_results/votes.jsonl, v shows what they "
        "say together. ← and → walk through the checkpoints of a run with the same prompt. Local "
        "models share this machine while they write, so each is slower than alone.\n\n"
        "Esc stops what is being written, and else leaves; under a screen that Ctrl+P opens it is "
        "written on. Whoever comes back finds all of it as it was, until the app is left."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "models", "Models", id="compare.models"),
        Binding("r", "again", "Again", id="compare.again"),
        Binding("u", "remote", "Add a server", id="compare.remote"),
        Binding("v", "votes", "What the votes say", show=False, id="compare.votes"),
    ]
    AUTO_FOCUS = None
    DEFAULT_CSS = """
    CompareScreen {
        ContentSwitcher { height: 1fr; }
        &.-narrow.-settings AnswerPanes { display: none; }
        &.-narrow SamplingPanel { width: 1fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__("compare")
        self._requested: tuple[str, ...] = ()
        self._draft = Draft([])
        config_file.reread(self._draft)
        self.comparison = Comparison(Sampling.from_options(self._draft.config.inference), Random())
        self._begun = False
        self._remote: dict[str, Client] = {}
        self._fault: HatcheryError | None = None  # why the models could not be listed

    def content(self) -> ComposeResult:
        with ContentSwitcher(initial="model-picker"):
            yield ModelPicker()
            yield CompareBody(self.comparison, self._draft, [], self._connect)
        yield EndpointForm()

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)  # what lies in the switcher is mounted after this

    def _begin(self) -> None:
        self._begun = True
        self._show("compare-body")  # one may write while the server starts
        self.set_interval(_DRAW_EVERY, self._draw)
        self._look()

    def request_models(self, models: Sequence[str]) -> None:
        """Let these stand: ids of the server, names of runs or checkpoint folders; with none, or
        none that is there, all stays as it is."""
        self._requested = tuple(models)
        if self._begun:
            self._look()

    def on_screen_resume(self) -> None:
        if config_file.reread(self._draft):
            self._body.take_settings()

    async def on_unmount(self) -> None:
        for client in self._remote.values():
            await client.close()

    @property
    def _picker(self) -> ModelPicker:
        return self.query_one(ModelPicker)

    @property
    def _body(self) -> CompareBody:
        return self.query_one(CompareBody)

    @property
    def _picking(self) -> bool:
        return self.query_one(ContentSwitcher).current == "model-picker"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self._begun:
            return True
        shown = {
            "remote": self._picking,
            "models": not self._picking,
            "again": self._fault is not None if self._picking else self.comparison.round.retriable,
        }
        return shown.get(action, True)

    # The models there are.

    async def _connect(self, where: str) -> Client:
        return self._remote[where] if where else await self.hatchery.serving.client()

    @work(group="look", exclusive=True)
    async def _look(self) -> None:
        """Ask the app's own server what it has, which starts it."""
        self._fault = None
        try:
            models = await (await self._connect(LOCAL)).models()
        except HatcheryError as error:
            self._fault = error
        else:
            self.comparison.listed(models)
        self._fill(matching([one.name for one in self._picker.chosen], self.comparison.there))
        self._listed()
        names, self._requested = self._requested, ()
        requested = matching(names, self.comparison.there)
        if names and not requested and self._fault is None:
            self.hatchery.note(f"Not offered: {', '.join(names)}")
        if requested and (self._picking or self._body.may_change()):
            await self._choose(requested)
        self.refresh_bindings()

    def _listed(self) -> None:
        """The models are known, or why not: on to the choice, unless one writes a prompt."""
        standing = self._picking or self.comparison.candidates or self._requested
        if standing or (self._body.writes and self._fault is None):
            return
        self._show("model-picker")

    def _fill(self, chosen: Sequence[Candidate]) -> None:
        self._picker.fill(self.comparison.there, chosen, free_memory(self.hatchery.reading))

    @on(EndpointForm.Given)
    @work(group="remote", exclusive=True)
    async def _add(self, event: EndpointForm.Given) -> None:
        """Add a model of a remote server, or all that it lists."""
        form = self.query_one(EndpointForm)
        client, where = Client(event.endpoint), event.endpoint.base
        form.say("asking what it has …")
        try:
            models = [Model(event.model)] if event.model else await client.models()
        except HatcheryError as error:
            form.say(f"{error.problem} {error.found}", wrong=True)
            await client.close()
            return
        before, self._remote[where] = self._remote.get(where), client
        if before is not None:
            await before.close()
        new = self.comparison.add(models, where)
        form.close()
        self._fill([*self._picker.chosen, *(new if event.model else [])])

    @on(ModelPicker.Done)
    async def _done(self, event: ModelPicker.Done) -> None:
        await self._choose(event.chosen)

    async def _choose(self, chosen: list[Candidate]) -> None:
        """Let them stand, after a warning where their weights do not fit into the memory."""
        new = [one for one in chosen if one not in self.comparison.candidates]
        warning = shortage(new, free_memory(self.hatchery.reading))

        async def answered(yes: bool | None) -> None:
            if yes:
                await self._stand(chosen)

        if warning:
            text = Content("\n").join([plain(warning), plain("Load them all the same?", "bold")])
            self.app.push_screen(ConfirmDialog(text, "Load"), answered)
        else:
            await self._stand(chosen)

    async def _stand(self, chosen: list[Candidate]) -> None:
        await self._body.stand(chosen)
        self._show("compare-body")
        await self._body.send_unsent()

    @on(CompareBody.Unanswered)
    def _unanswered(self) -> None:
        """A prompt was sent, and nobody stands who could answer."""
        if self.comparison.there or self._fault is not None:
            self._show("model-picker")
        self._draw()

    # What is shown.

    def _show(self, view: str) -> None:
        """The choice, or the panes with the prompt."""
        self.query_one(ContentSwitcher).current = view
        (self._picker.focus_list if self._picking else self._body.action_prompt)()
        self.refresh_bindings()
        self._draw()

    def _draw(self) -> None:
        if not self._picking:
            self._body.waiting = self._waiting_for()
            self.header.fact(self._body.settings_line(short=self.app.size.width < 100))
            return
        there = len(self.comparison.there)
        self.header.fact(f"{there} {'model' if there == 1 else 'models'}" if there else "")
        if self._fault is not None:
            self._picker.say(trouble(self._fault, "r tries again"))
        elif not there:
            note = self.hatchery.serving.note or "starting the model server …"
            self._picker.say(plain(note, "italic"))

    def _waiting_for(self) -> str:
        """What a prompt waits for while nobody stands who could answer."""
        if self.comparison.candidates:
            return ""
        then = "then your prompt is sent" if self._body.unsent else "write a prompt meanwhile"
        if self.comparison.there:
            return f"{len(self.comparison.there)} models are there: Enter chooses who answers"
        return f"{self.hatchery.serving.note or 'starting the model server …'}  ({then})"

    # Keys.

    def action_back(self) -> None:
        """Stop what is being written; else back to the panes, else leave."""
        self._body.unsent = None
        if not self._picking and self._body.answer_workers.stop():
            return
        if self._picking and self.comparison.candidates:
            self._show("compare-body")
        else:
            super().action_back()

    def action_again(self) -> None:
        """List the models again, or ask again what failed; a server that has ended is started."""
        (self._look if self._picking else self._body.answer_workers.again)()

    def action_models(self) -> None:
        if self._body.may_change():
            self._fill(self.comparison.candidates)
            self._show("model-picker")
            self._look()

    def action_remote(self) -> None:
        self.query_one(EndpointForm).ask()

    def action_done(self) -> None:
        """Enter in a setting."""
        self._body.close_settings()

    def action_votes(self) -> None:
        self.hatchery.open("votes")


def free_memory(reading: Reading | None) -> int | None:
    """Bytes free where models are loaded: on the emptiest GPU, where one is used, else in RAM."""
    if reading is None:
        return None
    own = [gpu.total - gpu.used for gpu in reading.gpus if gpu.total and gpu.used is not None]
    if own and not reading.gpu_note:
        return max(own)
    return reading.memory_total - reading.memory_used
