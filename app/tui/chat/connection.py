"""The way from a screen to a model: the server up, the model chosen and in memory, and what is
waited for or wrong on that way. Knows no widgets."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.client.client import Model
from app.tui.chat.conversation import choose
from app.tui.chat.wording import loading
from utils.errors import HatcheryError

if TYPE_CHECKING:
    from app.client.server_process import Serving

_STARTING = "starting the model server"


class Link:
    """`models` are those the server offers, None until it was asked; `model` is the one that
    answers. `waits` says what is waited for, `fault` what went wrong."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.models: list[Model] | None = None
        self.model: Model | None = None
        self.fault: HatcheryError | None = None
        self.waits = ""
        self._newest = ""
        self._changed = changed

    async def connect(self, serving: "Serving", wanted: str | None) -> None:
        """Reach the server, starting it where none runs, and bring the model of the id or run
        `wanted` into its memory; without one the model before, or the best of the newest run
        where that is another than it was."""
        self.fault, self.waits = None, "" if serving.state == "up" else _STARTING
        self._changed()
        try:
            client = await serving.client()
            self.models = await client.models()
            newest = choose(self.models, None)
            if newest is None or newest.id == self._newest:
                wanted = wanted or (self.model.id if self.model else None)
            self._newest = newest.id if newest else ""
            self.model = choose(self.models, wanted)
            if self.model is not None:
                self.waits = loading(self.model)
                self._changed()
                await client.load(self.model.id)
                self.models = await client.models()
        except HatcheryError as error:
            self.fault = error
        self.waits = ""
        self._changed()

    def heard(self, serving: "Serving") -> None:
        """The server's state is another."""
        if serving.state == "died" and serving.fault is not None:
            self.fault, self.waits = serving.fault, ""
        elif serving.state == "starting":
            self.waits = f"{_STARTING}: {serving.note}" if serving.note else _STARTING
        self._changed()

    def failed(self, serving: "Serving", error: HatcheryError) -> None:
        """An answer broke off: because the server died, or for the reason `error`."""
        self.fault = serving.fault if serving.state == "died" and serving.fault else error
