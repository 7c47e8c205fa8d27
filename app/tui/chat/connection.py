"""From a screen to a model: starts the server, chooses a model and loads it; says what is waited
for or has failed. Knows no widgets."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from app.client.client import Model
from app.tui.chat.conversation import Mode
from app.tui.chat.wording import loading
from utils.errors import HatcheryError

if TYPE_CHECKING:
    from app.client.server_process import ServerProcess

_STARTING = "starting the model server"


class ModelConnection:
    """`models` are those the server offers, None until it was asked; `model` is the one that
    answers. `waiting_for` says what is waited for, `fault` what went wrong."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.models: list[Model] | None = None
        self.model: Model | None = None
        self.fault: HatcheryError | None = None
        self.waiting_for = ""
        self._newest = ""
        self._changed = changed

    async def connect(self, serving: "ServerProcess", requested: str | None) -> None:
        """Reach the server, starting it where none runs, and bring the model of the id or run
        `requested` into its memory; without one the model before, or the best of the newest run
        where that is another than it was."""
        self.fault, self.waiting_for = None, "" if serving.state == "up" else _STARTING
        self._changed()
        try:
            client = await serving.client()
            self.models = await client.models()
            newest = choose(self.models, None)
            if newest is None or newest.id == self._newest:
                requested = requested or (self.model.id if self.model else None)
            self._newest = newest.id if newest else ""
            self.model = choose(self.models, requested)
            if self.model is not None:
                self.waiting_for = loading(self.model)
                self._changed()
                await client.load(self.model.id)
                self.models = await client.models()
        except HatcheryError as error:
            self.fault = error
        self.waiting_for = ""
        self._changed()

    def server_changed(self, serving: "ServerProcess") -> None:
        """The server's state has changed."""
        if serving.state == "died" and serving.fault is not None:
            self.fault, self.waiting_for = serving.fault, ""
        elif serving.state == "starting":
            self.waiting_for = f"{_STARTING}: {serving.note}" if serving.note else _STARTING
        self._changed()

    def failed(self, serving: "ServerProcess", error: HatcheryError) -> None:
        """An answer broke off: because the server died, or for the reason `error`."""
        self.fault = serving.fault if serving.state == "died" and serving.fault else error


def default_mode(model: Model) -> Mode:
    """A model tuned to answer takes messages, a base model continues a text."""
    return "chat" if model.chat else "complete"


def choose(models: Sequence[Model], requested: str | None) -> Model | None:
    """The model that is meant by an id or the name of a run; else the best of the first run."""
    exact = next((model for model in models if model.id == requested), None)
    if exact is not None or not models:
        return exact
    run = next((model.run for model in models if model.run == requested), models[0].run)
    own = [model for model in models if model.run == run]
    return max(own, key=lambda model: (model.best, model.latest))
