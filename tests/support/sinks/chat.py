"""The ways into the widgets of the screen Chat."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from textual.content import Content
from textual.widgets import Static

from app.client.client import Model, Request, Sampling
from app.tui.chat import panels, wording
from app.tui.chat.conversation import Block, Conversation, StreamedAnswer, Turn
from app.tui.chat.message_log import MessageLog
from app.tui.chat.panels import ConversationPanel, SidePanel
from app.tui.chat.saved_list import ChatList
from app.tui.chat.storage import SavedChat
from app.tui.forms.field_panel import FieldPanel
from app.tui.widgets.prompt_area import PromptArea
from tests.support.sinks.sink import Sink, Told, fault, fill_panel, lines, model, spans


def show_conversation(log: MessageLog, texts: Sequence[str]) -> None:
    """Headers, answers, which are shaded, and figures."""
    blocks = []
    for a, b, c in zip(texts[::3], texts[1::3], [*texts[2::3], "", ""], strict=False):
        turn = Turn(1, None, "assistant", b, "chat", model=a, finish=c, sampling={"seed": c})
        blocks.append(Block(turn, turn, b, len(b) // 4, spans(b), 1, 2))
    log.show([*blocks, *(_block(text) for text in texts[len(blocks) * 3 :])])
    log.shade(on=True)


def _block(text: str) -> Block:
    turn = Turn(1, None, "assistant", text, "complete", model=text)
    return Block(turn, turn, text, 0, ())


def stream_answer(log: MessageLog, texts: Sequence[str]) -> None:
    """An answer that comes in pieces."""
    log.show([_block("")])
    log.shade(on=True)
    for text in texts:
        log.extend(f"{text}\n", [*spans(text), (len(text) % 3 + 1, -1.0)])


def show_welcome(panel: ConversationPanel, texts: Sequence[str]) -> None:
    session: Any = SimpleNamespace(conversation=Conversation(), mode="chat")
    panel.show(session, None, Model(" ".join(texts)))


def show_status(panel: ConversationPanel, texts: Sequence[str]) -> None:
    panel.say(wording.status(None, fault(texts), "", None, False), Sampling())


def model_lines(text: str) -> Content:
    """The lines that tell of a model, of what it writes, and of a token."""
    answer = StreamedAnswer(1, 1, "chat", Request(text))
    doing = wording.status(answer, None, text, None, False)
    token = wording.status(None, None, "", None, (text, -1.0))
    return Content("\n").join([wording.facts(model(text)).append(doing), token])


class FakeChatStore:
    """In place of the folder of conversations."""

    saved: Sequence[SavedChat] = ()

    def recent(self) -> Sequence[SavedChat]:
        return self.saved


def side_panel() -> SidePanel:
    return SidePanel(Told(), cast(Any, FakeChatStore()))


def show_models(side: SidePanel, texts: Sequence[str]) -> None:
    side.turn("models")
    side.show_models([model(text) for text in texts], texts[1])


def show_chats(side: SidePanel, texts: Sequence[str]) -> None:
    cast(FakeChatStore, side._store).saved = [SavedChat(text, text, text, 0.0) for text in texts]
    side.turn("chats")


def settings(side: SidePanel, texts: Sequence[str]) -> None:
    fill_panel(side.query_one(FieldPanel), texts)


def prompted(area: PromptArea, texts: Sequence[str]) -> None:
    area.fill("\n".join(texts))


SINKS: tuple[Sink, ...] = (
    Sink("conversation", 45, MessageLog, show_conversation, (MessageLog,)),
    Sink("answer", 25, MessageLog, stream_answer),
    Sink("welcome", 100, ConversationPanel, show_welcome, (ConversationPanel,)),
    Sink("what goes on", 60, ConversationPanel, show_status),
    Sink("chat words", 25, Static, lines(model_lines)),
    Sink("models", 90, side_panel, show_models, (SidePanel,)),
    Sink("facts of models", 20, Static, lines(lambda text: panels._facts(model(text)))),
    Sink("conversations", 100, side_panel, show_chats, (ChatList,)),
    Sink("sampling", 60, side_panel, settings),
    Sink("chat prompt", 25, PromptArea, prompted, (PromptArea,)),
)  # fmt: skip
