"""The ways into the widgets of the screen Chat."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from textual.content import Content
from textual.widgets import Static

from app.client.client import Ask, Model, Sampling
from app.tui.chat import panels, wording
from app.tui.chat.conversation import Answer as Written
from app.tui.chat.conversation import Block, Conversation, Turn
from app.tui.chat.message_log import ChatLog
from app.tui.chat.panels import ChatSide, Talk
from app.tui.chat.prompt import PromptArea
from app.tui.chat.storage import Kept
from app.tui.forms.field_panel import FieldPanel
from tests.support.sink_tools import Sink, Told, fault, fill_panel, lines, model, spans


def talked(log: ChatLog, texts: Sequence[str]) -> None:
    """Headers, answers, which are shaded, and figures."""
    blocks = []
    for a, b, c in zip(texts[::3], texts[1::3], [*texts[2::3], "", ""], strict=False):
        turn = Turn(1, None, "assistant", b, "chat", model=a, finish=c, sampling={"seed": c})
        blocks.append(Block(turn, turn, b, len(b) // 4, spans(b), 1, 2))
    log.show([*blocks, *(_said(text) for text in texts[len(blocks) * 3 :])])
    log.shade(on=True)


def _said(text: str) -> Block:
    turn = Turn(1, None, "assistant", text, "complete", model=text)
    return Block(turn, turn, text, 0, ())


def grown(log: ChatLog, texts: Sequence[str]) -> None:
    """An answer that comes in pieces."""
    log.show([_said("")])
    log.shade(on=True)
    for text in texts:
        log.extend(f"{text}\n", [*spans(text), (len(text) % 3 + 1, -1.0)])


def greeted(talk: Talk, texts: Sequence[str]) -> None:
    desk: Any = SimpleNamespace(talk=Conversation(), mode="chat")
    talk.show(desk, None, Model(" ".join(texts)))


def told(talk: Talk, texts: Sequence[str]) -> None:
    talk.say(wording.status(None, fault(texts), "", None, False), Sampling())


def working(text: str) -> Content:
    """The lines that tell of a model, of what it writes, and of a token."""
    answer = Written(1, 1, "chat", Ask(text))
    doing = wording.status(answer, None, text, None, False)
    token = wording.status(None, None, "", None, (text, -1.0))
    return Content("\n").join([wording.facts(model(text)).append(doing), token])


class Shelf:
    """In place of the folder of conversations."""

    kept: Sequence[Kept] = ()

    def recent(self) -> Sequence[Kept]:
        return self.kept


def beside() -> ChatSide:
    return ChatSide(Told(), cast(Any, Shelf()))


def offered(side: ChatSide, texts: Sequence[str]) -> None:
    side.turn("models")
    side.show_models([model(text) for text in texts], texts[1])


def recalled(side: ChatSide, texts: Sequence[str]) -> None:
    cast(Shelf, side._store).kept = [Kept(text, text, text, 0.0) for text in texts]
    side.turn("chats")


def settings(side: ChatSide, texts: Sequence[str]) -> None:
    fill_panel(side.query_one(FieldPanel), texts)


def prompted(area: PromptArea, texts: Sequence[str]) -> None:
    area.fill("\n".join(texts))


SINKS: tuple[Sink, ...] = (
    Sink("conversation", 45, ChatLog, talked, (ChatLog,)),
    Sink("answer", 25, ChatLog, grown),
    Sink("welcome", 100, Talk, greeted, (Talk,)),
    Sink("what goes on", 60, Talk, told),
    Sink("chat words", 25, Static, lines(working)),
    Sink("models", 90, beside, offered, (ChatSide,)),
    Sink("facts of models", 20, Static, lines(lambda text: panels._facts(model(text)))),
    Sink("conversations", 100, beside, recalled),
    Sink("sampling", 60, beside, settings),
    Sink("chat prompt", 25, PromptArea, prompted, (PromptArea,)),
)  # fmt: skip
