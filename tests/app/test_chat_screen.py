"""The chat screen as a user meets it: keys and clicks in, what it says out."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from app.client.client import Model
from app.client.responses import RequestRefusedError
from app.tui.app import HatcheryApp
from app.tui.chat.message_log import MessageLog
from app.tui.chat.saved_list import ChatList
from app.tui.chat.screen import ChatScreen
from app.tui.chat.storage import ChatStore
from app.tui.themes import LIGHT
from app.tui.widgets.prompt_area import PromptArea
from tests.support.fake_client import MODELS, ONE, FakeClient, FakeServerProcess
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import NOW, check
from utils.errors import HatcheryError

BEST = "exp2/600"
HOSTILE = "[/foo]\x1b[2J\u202e [bold"


class ChatPilot:
    """The open screen and what is behind it."""

    def __init__(self, app: HatcheryApp, pilot: Pilot[None], client: FakeClient) -> None:
        self.app, self.pilot, self.client = app, pilot, client
        self.serving = app._serving

    @property
    def screen(self) -> ChatScreen:
        assert isinstance(self.app.screen, ChatScreen)
        return self.app.screen

    @property
    def text(self) -> str:
        """The screen and its notices."""
        notices = "\n".join(notice.message for notice in self.app._notifications)
        return f"{notices}\n{shown(self.app)}"

    async def see(self, *words: str) -> None:
        await until(self.pilot, lambda: all(word in self.text for word in words))

    async def type(self, text: str) -> None:
        await self.pilot.press(*("space" if c == " " else c for c in text))

    async def request_for(self, text: str) -> None:
        """Send a text and wait for the whole answer."""
        await self.type(text)
        await self.pilot.press("enter")
        await self.answered()

    async def request_for_later(self, text: str) -> None:
        """Send a text that cannot be answered yet."""
        await self.type(text)
        await self.pilot.press("enter")
        await self.pilot.pause()

    async def answered(self) -> None:
        await until(
            self.pilot, lambda: self.screen._session.answer is None and not self.client.open
        )
        await self.pilot.pause()

    async def texts(self) -> None:
        """Go to the texts."""
        self.screen.query_one(MessageLog).focus()
        await self.pilot.pause()


@asynccontextmanager
async def chat_screen(
    size: tuple[int, int] = WIDE,
    client: FakeClient | None = None,
    *,
    model: str | None = None,
    ready: bool = True,
) -> AsyncIterator[ChatPilot]:
    """The chat screen on a fake server."""
    async with opened(size) as (app, pilot):
        fake = client or FakeClient()
        app._serving = FakeServerProcess(fake)  # type: ignore[assignment]
        app.open_chat(model)
        await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.is_mounted)
        chat = ChatPilot(app, pilot, fake)
        if ready:
            await until(pilot, lambda: fake.loads and not chat.screen._connection.waiting_for)
            await pilot.pause()
        yield chat


def scene(act: Callable[[ChatPilot], Awaitable[None]], **options: Any) -> None:
    """Play one scene on the screen."""

    async def run() -> None:
        async with chat_screen(**options) as chat:
            await act(chat)

    play(run)


@pytest.mark.slow
def test_a_newcomer_writes_a_beginning_and_sees_it_go_on(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        assert chat.client.loads == {MODELS[2].id: 1}
        await chat.see("Write the beginning", BEST, "Ctrl+L", "Begin a text")
        await chat.request_for("Once")
        (asked,) = chat.client.requests
        assert (asked.prompt, asked.messages, asked.logprobs) == ("Once", None, True)
        assert asked.sampling.temperature == 0.8
        await chat.see("Once ", "answers seed", "tokens/s · first 32 ms · 62 tokens", "full length")

    scene(act)


@pytest.mark.slow
def test_a_model_that_was_taught_to_answer_is_talked_to(workspace: Path) -> None:
    models = [Model("base/step-1", "base"), Model("tuned/step-1", "tuned", chat=True)]

    async def act(chat: ChatPilot) -> None:
        await chat.see("Write a message below", "Message")
        await chat.request_for("hello")
        (asked,) = chat.client.requests
        assert asked.messages == ({"role": "user", "content": "hello"},)

    scene(act, client=FakeClient(models), model="tuned")


@pytest.mark.slow
def test_the_board_and_its_digit_lead_to_the_chat(workspace: Path) -> None:
    async def run() -> None:
        async with opened() as (app, pilot):
            app._serving = FakeServerProcess(FakeClient([]))  # type: ignore[assignment]
            await pilot.press("6")
            await until(pilot, lambda: isinstance(app.screen, ChatScreen))
            await until(pilot, lambda: "no checkpoint to talk to yet" in shown(app))
            assert "5 trains" in shown(app)
            await pilot.press("a", "enter")
            await until(pilot, lambda: app._notifications)
            assert "no model to ask yet" in next(iter(app._notifications)).message
            await pilot.press("escape")
            assert not isinstance(app.screen, ChatScreen)

    play(run)


def test_a_named_checkpoint_answers_and_one_that_is_gone_is_said(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        assert chat.client.loads == {f"{ONE}/200": 1}
        chat.app.open_chat("gone/step-7")
        await chat.see("gone/step-7 is not offered")

    scene(act, model=f"{ONE}/200")


@pytest.mark.slow
def test_several_lines_are_one_prompt_written_or_pasted(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.pilot.press("a", "ctrl+j", "b", "alt+enter", "c", "shift+enter")
        prompt = chat.screen.query_one(PromptArea)
        prompt.post_message(events.Paste("two\r\nlines\x1b"))
        await until(chat.pilot, lambda: "lines" in prompt.text)
        await chat.pilot.press("enter")
        await chat.answered()
        assert chat.client.requests[0].prompt == "a\nb\nc\ntwo\nlines\u241b"

    scene(act)


@pytest.mark.slow
def test_nothing_begins_a_document_but_is_no_message(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.pilot.press("enter")
        await chat.answered()
        assert chat.client.requests[0].prompt == ""
        await chat.pilot.press("ctrl+n", "ctrl+b", "enter")
        await chat.see("Write a message first")
        await chat.request_for("Hello")
        await chat.request_for("And you")
        roles = [message["role"] for message in chat.client.requests[-1].messages or ()]
        assert roles == ["user", "assistant", "user"]
        await chat.see("Chat", "you", "Hello")

    scene(act)


@pytest.mark.slow
def test_the_text_of_a_file_is_sent(workspace: Path) -> None:
    Path("start.txt").write_text("The hen\nlays\n")

    async def act(chat: ChatPilot) -> None:
        await chat.request_for("FILE:start.txt")
        await until(chat.pilot, lambda: chat.client.requests)
        await chat.answered()
        assert chat.client.requests[0].prompt == "The hen\nlays"
        await chat.type("FILE:none.txt")
        await chat.pilot.press("enter")
        await chat.see("none.txt cannot be read")
        assert chat.screen.query_one(PromptArea).text == "FILE:none.txt"

    scene(act)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
def test_the_first_key_stops_the_answer_and_the_second_leaves(key: str, workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.hold = asyncio.Event()
        await chat.type("Once")
        await chat.pilot.press("enter")
        await chat.see("answers", "Esc stops")
        await chat.type("more")
        await chat.pilot.press("enter")
        await chat.see("still writes")  # and what was typed stays
        assert chat.screen.query_one(PromptArea).text == "more"
        await chat.pilot.press(key)
        await chat.answered()
        await chat.see("stopped")
        assert chat.client.open == 0
        await chat.pilot.press(key)
        await until(chat.pilot, lambda: not isinstance(chat.app.screen, ChatScreen))

    scene(act)


@pytest.mark.slow
def test_another_answer_has_another_seed_and_both_can_be_seen(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.request_for("Once")
        await chat.pilot.press("ctrl+r")
        await chat.answered()
        first, second = (asked.sampling.seed for asked in chat.client.requests)
        assert first != second
        await chat.see(f"seed {second}", "2 of 2")
        await chat.texts()
        await chat.pilot.press("left_square_bracket")
        await chat.see("1 of 2", f"answers seed {first}")
        await chat.pilot.press("ctrl+g")
        await chat.answered()
        assert chat.client.requests[-1].prompt == f"Once {MODELS[2].id} answers seed {first}"

    scene(act)


@pytest.mark.slow
def test_an_edited_prompt_is_asked_beside_the_old_one(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.request_for("Once")
        await chat.texts()
        await chat.pilot.press("e")
        await chat.see("keeps what was")
        await chat.pilot.press("escape")
        assert chat.screen.query_one(PromptArea).text == ""
        await chat.texts()
        await chat.pilot.press("e")
        await chat.request_for(" more")
        assert chat.client.requests[-1].prompt == "Once more"
        await chat.see("2 of 2", "Once more")

    scene(act)


@pytest.mark.slow
def test_the_sampling_of_the_sidebar_is_what_is_asked_with(workspace: Path) -> None:
    Path("config.json").write_text('{"inference": {"temperature": 0.3, "stop": ["End."]}}')

    async def act(chat: ChatPilot) -> None:
        await chat.pilot.press("ctrl+o")
        await until(chat.pilot, lambda: isinstance(chat.app.focused, Input))
        field = chat.app.focused
        assert isinstance(field, Input)
        field.value = "-1"
        await chat.see("must be at least 0")
        await chat.pilot.press("escape")
        await chat.request_for("Once")
        assert not chat.client.requests
        await chat.see("A setting of the sampling")
        field.value = "0.5"
        await chat.pilot.press("enter")
        await chat.answered()
        sampling = chat.client.requests[0].sampling
        assert (sampling.temperature, sampling.stop) == (0.5, ("End.",))
        await chat.pilot.press("escape")
        chat.app.open_chat()
        await chat.see("0.5")  # it is remembered

    scene(act)


@pytest.mark.slow
def test_another_model_is_picked_with_the_keys_or_a_click(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.pilot.press("ctrl+l")
        await chat.see("Models", "▲", "●", "14.2 M parameters")
        await chat.pilot.press("down", "enter")
        await until(chat.pilot, lambda: chat.client.loads[MODELS[1].id])
        await chat.see("exp2/400")
        assert chat.app.focused is chat.screen.query_one(PromptArea)
        await chat.request_for("a")
        assert chat.client.requests[0].model == MODELS[1].id
        await chat.pilot.press("ctrl+l")
        await chat.pilot.pause()
        line = next(n for n, text in enumerate(shown(chat.app).splitlines()) if "exp1/800" in text)
        for _ in range(2):
            await chat.pilot.click(offset=(95, line))
        await until(chat.pilot, lambda: chat.client.loads[MODELS[7].id])

    scene(act)


@pytest.mark.slow
def test_earlier_conversations_are_listed_and_go_on(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.request_for("The first")
        await chat.pilot.press("ctrl+n")
        await chat.see("Write the beginning")
        await chat.request_for("Second")
        await chat.pilot.press("f2")
        await chat.see("Conversations", "+ a new one", "The first", "Second")
        await chat.pilot.press("down", "down", "enter")
        await chat.see("chat › The first")
        await chat.request_for("again")
        lines = {path.name: path.read_text() for path in Path("logs/chats").glob("*.jsonl")}
        await until(chat.pilot, lambda: chat.client.requests[-1].prompt == "again")
        assert len(lines) == 2

    scene(act)


@pytest.mark.slow
def test_tokens_are_coloured_on_demand_and_say_their_number(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.words[MODELS[2].id] = "likely open rare odd last"
        await chat.request_for("Once")
        await chat.texts()
        await chat.pilot.press("p")
        await chat.see("token ' likely'", "90.5 %", "50 % and more", "below 1 %")
        await chat.pilot.press("right", "right", "right")
        await chat.see("token ' odd'", "0.25 %")
        row = next(
            n for n, text in enumerate(shown(chat.app).splitlines()) if "Once likely" in text
        )
        column = shown(chat.app).splitlines()[row].index("rare")
        await chat.pilot.click(offset=(column, row))
        await chat.see("token ' rare'", "5.0 %")
        await chat.pilot.press("p")
        await until(chat.pilot, lambda: "token" not in chat.text.splitlines()[-5])

    scene(act)


@pytest.mark.slow
def test_an_answer_is_copied_and_a_transcript_saved_where_it_says(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(HatcheryApp, "copy_to_clipboard", lambda self, text: copied.append(text))

    async def act(chat: ChatPilot) -> None:
        await chat.pilot.press("ctrl+s")
        await chat.see("nothing to save")
        await chat.request_for("Once")
        await chat.texts()
        await chat.pilot.press("y")
        assert copied == [f" {MODELS[2].id} answers seed {chat.client.requests[0].sampling.seed}"]
        await chat.pilot.press("ctrl+s")
        await chat.see("Saved logs/chats/")
        (saved,) = Path("logs/chats").glob("*.md")
        assert "## Prompt" in saved.read_text("utf-8")

    scene(act)


@pytest.mark.slow
def test_a_failing_answer_says_why_and_keeps_what_had_come(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        remedy = "choose a smaller one"
        chat.client.fails[MODELS[2].id] = HatcheryError("Memory is used up.", remedy=remedy)
        await chat.request_for("Once")
        await chat.see("Memory is used up.", remedy, "answers", "broken off")
        del chat.client.fails[MODELS[2].id]
        await chat.pilot.press("ctrl+r")
        await chat.answered()
        await chat.see("full length")
        assert "used up" not in chat.text

    scene(act)


@pytest.mark.slow
def test_a_dead_server_is_explained_and_started_again_by_one_key(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        serving = chat.serving
        assert isinstance(serving, FakeServerProcess)
        serving.state = "died"
        serving.fault = HatcheryError("The model server has ended.", found="signal 9")
        chat.app.server_changed.publish(serving)  # type: ignore[arg-type]
        await chat.see("The model server has ended.", "signal 9", "F5")
        await chat.pilot.press("f5")
        await until(chat.pilot, lambda: serving.starts == 1)
        await until(chat.pilot, lambda: "has ended" not in chat.text)
        await chat.request_for("Once")
        await chat.see("full length")

    scene(act)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_said_and_another_can_be_chosen(workspace: Path) -> None:
    fake = FakeClient()
    fake.load_fails[MODELS[2].id] = HatcheryError("It needs 9 GiB.", remedy="--quantize int8")

    async def act(chat: ChatPilot) -> None:
        await chat.see("It needs 9 GiB.", "--quantize int8")
        await chat.pilot.press("ctrl+l", "down", "enter")
        await until(chat.pilot, lambda: "It needs" not in chat.text)

    scene(act, client=fake)


@pytest.mark.slow
def test_hostile_texts_of_people_and_models_are_shown_harmless(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.words[MODELS[2].id] = HOSTILE
        chat.screen.query_one(PromptArea).fill(HOSTILE)
        await chat.pilot.press("enter")
        await chat.answered()
        await chat.see("[/foo]␛[2J")
        await chat.texts()
        await chat.pilot.press("p", "right", "f2")
        await chat.see("+ a new one", "[/foo]")
        assert "\x1b" not in chat.text
        assert "\u202e" not in chat.text

    scene(act)


@pytest.mark.slow
def test_a_long_answer_is_drawn_as_it_comes_and_survives_a_resize(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.words[MODELS[2].id] = " ".join(f"w{n}" for n in range(5000))
        chat.client.hold = asyncio.Event()
        await chat.type("Once")
        await chat.pilot.press("enter")
        await chat.see("w4998")
        await chat.pilot.resize_terminal(100, 30)
        await chat.see("w4998")
        chat.client.hold.set()
        await chat.answered()
        await chat.see("w4999", "118 tokens/s")
        await chat.texts()
        await chat.pilot.press("home")
        await chat.see("Once w0 w1")

    scene(act)


@pytest.mark.slow
def test_in_a_small_window_the_sampling_is_one_line_that_opens(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.see("temperature 0.8 · top-k 50 · top-p 0.95 · 200 tokens")
        assert "Repetition" not in chat.text
        await chat.pilot.press("ctrl+o")
        await chat.see("Repetition penalty")
        await chat.pilot.press("escape")
        await chat.see("Begin a text")
        await chat.pilot.press("escape")
        assert not isinstance(chat.app.screen, ChatScreen)

    scene(act, size=NARROW)


@pytest.mark.slow
def test_a_conversation_that_is_left_goes_on_and_is_found_again(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.hold = asyncio.Event()
        await chat.type("Once")
        await chat.pilot.press("enter")
        await chat.see("answers")
        chat.app.open_jobs()
        await until(chat.pilot, lambda: not isinstance(chat.app.screen, ChatScreen))
        chat.client.hold.set()
        await until(chat.pilot, lambda: not chat.client.open)
        chat.app.open_chat()
        await chat.see("Once", "full length", "Begin a text")
        await chat.type("The old")
        await chat.pilot.press("escape")
        assert not isinstance(chat.app.screen, ChatScreen)
        chat.app.open_chat(f"{ONE}/200")
        await chat.see("Once", "full length", "The old", "exp1/200")
        await until(chat.pilot, lambda: chat.client.loads[f"{ONE}/200"])
        store = ChatStore(Path("logs"))
        (kept,) = store.recent()
        assert len(store.load(kept.name).path) == 2

    scene(act)


@pytest.mark.slow
def test_an_answer_that_ends_out_of_sight_is_whole_and_the_next_one_is_seen(
    workspace: Path,
) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.hold = asyncio.Event()
        await chat.type("Once")
        await chat.pilot.press("enter")
        await chat.see("answers")
        screen = chat.screen
        chat.app.pop_screen()
        await until(chat.pilot, lambda: not isinstance(chat.app.screen, ChatScreen))
        chat.client.hold.set()
        await until(chat.pilot, lambda: screen._session.answer is None)
        chat.app.open_chat()
        await chat.see("full length")
        await chat.request_for("Twice")
        await chat.see("Twice")

    scene(act)


@pytest.mark.slow
def test_whoever_was_chosen_answers_again_until_there_is_a_newer_run(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.app.open_chat(f"{ONE}/200")
        await chat.see("exp1/200")
        await chat.pilot.press("escape")
        chat.app.open_chat()
        await until(chat.pilot, lambda: chat.client.loads[f"{ONE}/200"] == 2)
        await chat.see("exp1/200")
        await chat.pilot.press("escape")
        chat.client.listed = [Model("new/step-1", "new", best=True), *chat.client.listed]
        chat.app.open_chat()
        await chat.see("new/step-1")

    scene(act)


@pytest.mark.slow
def test_the_app_that_is_left_while_a_model_writes_keeps_what_had_come(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        chat.client.hold = asyncio.Event()
        await chat.type("Once")
        await chat.pilot.press("enter")
        await chat.see("answers")

    scene(act)
    store = ChatStore(Path("logs"))
    (kept,) = store.recent()
    assert [turn.text[:4] for turn in store.load(kept.name).path] == ["Once", " run"]


@pytest.mark.slow
def test_tab_goes_from_the_prompt_to_the_texts_and_back(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.pilot.press("tab")
        assert chat.screen._side.has_cursor  # there are no texts yet
        await chat.pilot.press("escape")
        await chat.request_for("Once")
        await chat.pilot.press("tab")
        await until(chat.pilot, lambda: chat.screen.query_one(MessageLog).has_focus)
        await chat.pilot.press("tab")
        await until(chat.pilot, lambda: chat.screen.query_one(PromptArea).has_focus)

    scene(act)


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_screen_looks_as_it_did(
    size: tuple[int, int], workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tui.chat.session.secrets.randbelow", lambda top: 7)
    monkeypatch.setattr("app.tui.chat.conversation.StreamedAnswer.speed", 120.0)
    fake = FakeClient()
    fake.words[MODELS[2].id] = "upon a time there was a small hen that laid an egg every day"

    async def act(chat: ChatPilot) -> None:
        await check(chat.pilot, "chat_empty")
        await chat.request_for("Once")
        await chat.request_for("The old fox looks")
        await chat.texts()
        await chat.pilot.press("p", "right", "right")
        await check(chat.pilot, "chat")
        await chat.pilot.press("p", "ctrl+l")
        await check(chat.pilot, "chat_models")
        for path in Path("logs/chats").iterdir():
            os.utime(path, (NOW - 60, NOW - 60))
        await chat.pilot.press("escape", "f2")
        await check(chat.pilot, "chat_list")

    scene(act, size=size, client=fake)
    assert time.time() == NOW


@pytest.mark.slow
def test_the_light_theme_looks_as_it_did(
    workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tui.chat.session.secrets.randbelow", lambda top: 7)

    async def act(chat: ChatPilot) -> None:
        chat.app.theme = LIGHT.name
        await chat.pilot.press("ctrl+b")
        await chat.request_for("Hello")
        await chat.texts()
        await chat.pilot.press("p", "right")
        await check(chat.pilot, "chat_light")

    scene(act)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["Once", "two words", "[/foo] \u202e ｗｉｄｅ", "FILE:", "x" * 3000]
)
def test_a_refused_text_comes_back_into_the_prompt(workspace: Path, text: str) -> None:
    async def act(chat: ChatPilot) -> None:
        refused = RequestRefusedError("The prompt has 900 tokens.", remedy="shorten it")
        chat.client.refuses = refused
        prompt = chat.screen.query_one(PromptArea)
        prompt.fill(text if text != "FILE:" else "FILE")
        sent = prompt.text
        await chat.pilot.press("enter")
        await chat.see("The prompt has 900 tokens.", "shorten it")
        await until(chat.pilot, lambda: prompt.text == sent)
        assert "F5" not in chat.text  # which could not help
        assert chat.screen._session.conversation.turns == {}
        chat.client.refuses = None
        await chat.pilot.press("enter")
        await chat.answered()
        await chat.see("full length")
        assert prompt.text == ""

    scene(act)


@pytest.mark.slow
def test_what_was_typed_since_stays_behind_a_refused_text(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.request_for("Once")
        chat.client.refuses = RequestRefusedError("It is too long.")
        chat.client.hold = asyncio.Event()
        await chat.type("more")
        await chat.pilot.press("enter")
        prompt = chat.screen.query_one(PromptArea)
        await until(chat.pilot, lambda: prompt.text == "")
        await chat.type("and")
        chat.client.hold.set()
        await until(chat.pilot, lambda: prompt.text == "more\nand")
        texts = [turn.text for turn in chat.screen._session.conversation.path]
        assert texts[0] == "Once"
        assert len(texts) == 2

    scene(act)


@pytest.mark.slow
def test_tokens_are_counted_while_one_types_and_better_after_an_answer(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        prompt = chat.screen.query_one(PromptArea)
        prompt.fill("a" * 700)
        await chat.see("about 200 of 256 tokens")
        assert "too long" not in chat.text
        prompt.fill("a" * 1400)
        await chat.see("about 400 of 256 tokens: too long")
        chat.client.prompt_tokens = 700
        prompt.fill("a" * 700)
        await chat.pilot.press("enter")
        await chat.answered()
        prompt.fill("a" * 255)
        await chat.see("about 255 of 256 tokens")
        prompt.fill("")
        await until(chat.pilot, lambda: "tokens: too long" not in chat.text)
        await until(chat.pilot, lambda: "about" not in chat.text)

    scene(act)


@pytest.mark.slow
def test_what_is_sent_while_the_server_starts_is_asked_when_it_is_there(workspace: Path) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.see("Begin a text")
        await chat.request_for_later("Once")
        await chat.see("then your text is sent")
        assert chat.client.requests == []
        chat.client.reachable.set()
        await until(chat.pilot, lambda: [one.prompt for one in chat.client.requests] == ["Once"])
        await chat.answered()
        assert chat.screen.query_one(PromptArea).text == ""

    scene(act, client=FakeClient(reachable=False), ready=False)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["x", "escape"])
def test_what_is_written_on_or_called_back_is_not_sent_by_itself(workspace: Path, key: str) -> None:
    async def act(chat: ChatPilot) -> None:
        await chat.request_for_later("Once")
        await chat.see("then your text is sent")
        await chat.pilot.press(key)
        await until(chat.pilot, lambda: "then your text is sent" not in chat.text)
        chat.client.reachable.set()
        await until(chat.pilot, lambda: chat.client.loads)
        await chat.pilot.pause(0.2)
        assert chat.client.requests == []
        assert chat.screen.query_one(PromptArea).text.startswith("Once")

    scene(act, client=FakeClient(reachable=False), ready=False)


@asynccontextmanager
async def with_chats(*texts: str) -> AsyncIterator[ChatPilot]:
    """Several conversations, the last one open, and the list of all."""
    async with chat_screen() as chat:
        for text in texts:
            await chat.pilot.press("ctrl+n")
            await chat.request_for(text)
        await chat.pilot.press("f2")
        await until(chat.pilot, lambda: all(f"{text} " in chat.text for text in texts))
        await chat.see("Conversations", "a new one")
        await until(chat.pilot, lambda: chat.screen.query_one("#chat-list").has_focus)
        yield chat


def _listed(chat: ChatPilot) -> list[str]:
    saved = chat.screen.query_one(ChatList)
    return [saved._saved[key].title for key in saved._rows._keys if key in saved._saved]


@pytest.mark.slow
def test_conversations_are_searched_as_one_types(workspace: Path) -> None:
    async def run() -> None:
        async with with_chats("hens", "foxes", "words") as chat:
            await chat.pilot.press("slash")
            await chat.type("fox")
            await until(chat.pilot, lambda: _listed(chat) == ["foxes"])
            await chat.pilot.press("enter")
            await until(chat.pilot, lambda: chat.screen.query_one("#chat-list").has_focus)
            await chat.pilot.press("enter")
            await until(chat.pilot, lambda: chat.screen._session.conversation.title == "foxes")
            await chat.pilot.press("f2", "slash", "escape")
            await until(chat.pilot, lambda: len(_listed(chat)) == 3)

    play(run)


@pytest.mark.slow
def test_a_conversation_is_given_a_name_in_the_list(workspace: Path) -> None:
    async def run() -> None:
        async with with_chats("hens", "foxes") as chat:
            await chat.pilot.press("down")
            open_name = chat.screen._session.name
            await until(chat.pilot, lambda: chat.screen.query_one(ChatList)._chosen is not None)
            assert chat.screen.query_one(ChatList)._chosen.name == open_name  # type: ignore[union-attr]
            await chat.pilot.press("r", *["backspace"] * 9)
            await chat.type("My tale")
            await chat.pilot.press("enter")
            await until(chat.pilot, lambda: "My tale" in _listed(chat))
            await until(chat.pilot, lambda: "chat › My tale" in shown(chat.app))

    play(run)


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("n", 2)])
def test_a_conversation_is_deleted_after_a_question(
    workspace: Path, answer: str, left: int
) -> None:
    async def run() -> None:
        async with with_chats("hens", "foxes") as chat:
            await chat.pilot.press("down", "delete")
            await chat.see("Delete the conversation foxes?")
            await chat.pilot.press(answer)
            await until(chat.pilot, lambda: isinstance(chat.app.screen, ChatScreen))
            await until(chat.pilot, lambda: len(_listed(chat)) == left)
            assert len(list(Path("logs/chats").glob("*.jsonl"))) == left
            assert bool(chat.screen._session.conversation.turns) == (answer == "n")

    play(run)


@pytest.mark.slow
def test_the_conversation_that_is_written_in_is_not_deleted(workspace: Path) -> None:
    async def run() -> None:
        async with with_chats("hens") as chat:
            await chat.pilot.press("escape")
            chat.client.hold = asyncio.Event()
            await chat.type("more")
            await chat.pilot.press("enter", "f2", "down", "delete")
            await chat.see("Esc stops it")
            assert isinstance(chat.app.screen, ChatScreen)
            chat.client.hold.set()
            await chat.answered()

    play(run)
