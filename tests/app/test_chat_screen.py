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
from app.tui.app import HatcheryApp
from app.tui.chat.message_log import ChatLog
from app.tui.chat.prompt import PromptArea
from app.tui.chat.screen import ChatScreen
from app.tui.chat.storage import ChatStore
from app.tui.themes import LIGHT
from tests.support.fake_models import MODELS, ONE, FakeClient, FakeServing
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import NOW, check
from utils.errors import HatcheryError

BEST = "exp2/600"
HOSTILE = "[/foo]\x1b[2J\u202e [bold"


class Desk:
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

    async def ask(self, text: str) -> None:
        """Send a text and wait for the whole answer."""
        await self.type(text)
        await self.pilot.press("enter")
        await self.done()

    async def done(self) -> None:
        await until(self.pilot, lambda: self.screen._desk.answer is None and not self.client.open)
        await self.pilot.pause()

    async def texts(self) -> None:
        """Go to the texts."""
        self.screen.query_one(ChatLog).focus()
        await self.pilot.pause()


@asynccontextmanager
async def talking(
    size: tuple[int, int] = WIDE,
    client: FakeClient | None = None,
    *,
    model: str | None = None,
    ready: bool = True,
) -> AsyncIterator[Desk]:
    """The chat screen on a fake server."""
    async with opened(size) as (app, pilot):
        fake = client or FakeClient()
        app._serving = FakeServing(fake)  # type: ignore[assignment]
        app.open_chat(model)
        await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.is_mounted)
        desk = Desk(app, pilot, fake)
        if ready:
            await until(pilot, lambda: fake.loads and not desk.screen._link.waits)
            await pilot.pause()
        yield desk


def scene(act: Callable[[Desk], Awaitable[None]], **options: Any) -> None:
    """Play one scene on the screen."""

    async def run() -> None:
        async with talking(**options) as desk:
            await act(desk)

    play(run)


def test_a_newcomer_writes_a_beginning_and_sees_it_go_on(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        assert desk.client.loads == {MODELS[2].id: 1}
        await desk.see("Write the beginning", BEST, "Ctrl+L", "Begin a text")
        await desk.ask("Once")
        (asked,) = desk.client.asked
        assert (asked.prompt, asked.messages, asked.logprobs) == ("Once", None, True)
        assert asked.sampling.temperature == 0.8
        await desk.see("Once ", "answers seed", "tokens/s · first 32 ms · 62 tokens", "full length")

    scene(act)


def test_a_model_that_was_taught_to_answer_is_talked_to(workspace: Path) -> None:
    models = [Model("base/step-1", "base"), Model("tuned/step-1", "tuned", chat=True)]

    async def act(desk: Desk) -> None:
        await desk.see("Write a message below", "Message")
        await desk.ask("hello")
        (asked,) = desk.client.asked
        assert asked.messages == ({"role": "user", "content": "hello"},)

    scene(act, client=FakeClient(models), model="tuned")


def test_the_board_and_its_digit_lead_to_the_chat(workspace: Path) -> None:
    async def run() -> None:
        async with opened() as (app, pilot):
            app._serving = FakeServing(FakeClient([]))  # type: ignore[assignment]
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
    async def act(desk: Desk) -> None:
        assert desk.client.loads == {f"{ONE}/200": 1}
        desk.app.open_chat("gone/step-7")
        await desk.see("gone/step-7 is not offered")

    scene(act, model=f"{ONE}/200")


def test_several_lines_are_one_prompt_written_or_pasted(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.pilot.press("a", "ctrl+j", "b", "alt+enter", "c", "shift+enter")
        prompt = desk.screen.query_one(PromptArea)
        prompt.post_message(events.Paste("two\r\nlines\x1b"))
        await until(desk.pilot, lambda: "lines" in prompt.text)
        await desk.pilot.press("enter")
        await desk.done()
        assert desk.client.asked[0].prompt == "a\nb\nc\ntwo\nlines\u241b"

    scene(act)


def test_nothing_begins_a_document_but_is_no_message(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.pilot.press("enter")
        await desk.done()
        assert desk.client.asked[0].prompt == ""
        await desk.pilot.press("ctrl+n", "ctrl+b", "enter")
        await desk.see("Write a message first")
        await desk.ask("Hello")
        await desk.ask("And you")
        roles = [message["role"] for message in desk.client.asked[-1].messages or ()]
        assert roles == ["user", "assistant", "user"]
        await desk.see("Chat", "you", "Hello")

    scene(act)


def test_the_text_of_a_file_is_sent(workspace: Path) -> None:
    Path("start.txt").write_text("The hen\nlays\n")

    async def act(desk: Desk) -> None:
        await desk.ask("FILE:start.txt")
        await until(desk.pilot, lambda: desk.client.asked)
        await desk.done()
        assert desk.client.asked[0].prompt == "The hen\nlays"
        await desk.type("FILE:none.txt")
        await desk.pilot.press("enter")
        await desk.see("none.txt cannot be read")
        assert desk.screen.query_one(PromptArea).text == "FILE:none.txt"

    scene(act)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
def test_the_first_key_stops_the_answer_and_the_second_leaves(key: str, workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.client.hold = asyncio.Event()
        await desk.type("Once")
        await desk.pilot.press("enter")
        await desk.see("answers", "Esc stops")
        await desk.type("more")
        await desk.pilot.press("enter")
        await desk.see("still writes")  # and what was typed stays
        assert desk.screen.query_one(PromptArea).text == "more"
        await desk.pilot.press(key)
        await desk.done()
        await desk.see("stopped")
        assert desk.client.open == 0
        await desk.pilot.press(key)
        await until(desk.pilot, lambda: not isinstance(desk.app.screen, ChatScreen))

    scene(act)


def test_another_answer_has_another_seed_and_both_can_be_seen(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.ask("Once")
        await desk.pilot.press("ctrl+r")
        await desk.done()
        first, second = (asked.sampling.seed for asked in desk.client.asked)
        assert first != second
        await desk.see(f"seed {second}", "2 of 2")
        await desk.texts()
        await desk.pilot.press("left_square_bracket")
        await desk.see("1 of 2", f"answers seed {first}")
        await desk.pilot.press("ctrl+g")
        await desk.done()
        assert desk.client.asked[-1].prompt == f"Once {MODELS[2].id} answers seed {first}"

    scene(act)


def test_an_edited_prompt_is_asked_beside_the_old_one(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.ask("Once")
        await desk.texts()
        await desk.pilot.press("e")
        await desk.see("keeps what was")
        await desk.pilot.press("escape")
        assert desk.screen.query_one(PromptArea).text == ""
        await desk.texts()
        await desk.pilot.press("e")
        await desk.ask(" more")
        assert desk.client.asked[-1].prompt == "Once more"
        await desk.see("2 of 2", "Once more")

    scene(act)


def test_the_sampling_of_the_sidebar_is_what_is_asked_with(workspace: Path) -> None:
    Path("config.json").write_text('{"inference": {"temperature": 0.3, "stop": ["End."]}}')

    async def act(desk: Desk) -> None:
        await desk.pilot.press("ctrl+o")
        await until(desk.pilot, lambda: isinstance(desk.app.focused, Input))
        field = desk.app.focused
        assert isinstance(field, Input)
        field.value = "-1"
        await desk.see("must be at least 0")
        await desk.pilot.press("escape")
        await desk.ask("Once")
        assert not desk.client.asked
        await desk.see("A setting of the sampling")
        field.value = "0.5"
        await desk.pilot.press("enter")
        await desk.done()
        sampling = desk.client.asked[0].sampling
        assert (sampling.temperature, sampling.stop) == (0.5, ("End.",))
        await desk.pilot.press("escape")
        desk.app.open_chat()
        await desk.see("0.5")  # it is remembered

    scene(act)


def test_another_model_is_picked_with_the_keys_or_a_click(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.pilot.press("ctrl+l")
        await desk.see("Models", "▲", "●", "14.2 M parameters")
        await desk.pilot.press("down", "enter")
        await until(desk.pilot, lambda: desk.client.loads[MODELS[1].id])
        await desk.see("exp2/400")
        assert desk.app.focused is desk.screen.query_one(PromptArea)
        await desk.ask("a")
        assert desk.client.asked[0].model == MODELS[1].id
        await desk.pilot.press("ctrl+l")
        await desk.pilot.pause()
        line = next(n for n, text in enumerate(shown(desk.app).splitlines()) if "exp1/800" in text)
        for _ in range(2):
            await desk.pilot.click(offset=(95, line))
        await until(desk.pilot, lambda: desk.client.loads[MODELS[7].id])

    scene(act)


def test_earlier_conversations_are_listed_and_go_on(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.ask("The first")
        await desk.pilot.press("ctrl+n")
        await desk.see("Write the beginning")
        await desk.ask("Second")
        await desk.pilot.press("f2")
        await desk.see("Conversations", "+ a new one", "The first", "Second")
        await desk.pilot.press("down", "down", "enter")
        await desk.see("chat › The first")
        await desk.ask("again")
        lines = {path.name: path.read_text() for path in Path("logs/chats").glob("*.jsonl")}
        await until(desk.pilot, lambda: desk.client.asked[-1].prompt == "again")
        assert len(lines) == 2

    scene(act)


def test_tokens_are_coloured_on_demand_and_say_their_number(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.client.words[MODELS[2].id] = "likely open rare odd last"
        await desk.ask("Once")
        await desk.texts()
        await desk.pilot.press("p")
        await desk.see("token ' likely'", "90.5 %", "50 % and more", "below 1 %")
        await desk.pilot.press("right", "right", "right")
        await desk.see("token ' odd'", "0.25 %")
        row = next(
            n for n, text in enumerate(shown(desk.app).splitlines()) if "Once likely" in text
        )
        column = shown(desk.app).splitlines()[row].index("rare")
        await desk.pilot.click(offset=(column, row))
        await desk.see("token ' rare'", "5.0 %")
        await desk.pilot.press("p")
        await until(desk.pilot, lambda: "token" not in desk.text.splitlines()[-5])

    scene(act)


def test_an_answer_is_copied_and_a_transcript_saved_where_it_says(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(HatcheryApp, "copy_to_clipboard", lambda self, text: copied.append(text))

    async def act(desk: Desk) -> None:
        await desk.pilot.press("ctrl+s")
        await desk.see("nothing to save")
        await desk.ask("Once")
        await desk.texts()
        await desk.pilot.press("y")
        assert copied == [f" {MODELS[2].id} answers seed {desk.client.asked[0].sampling.seed}"]
        await desk.pilot.press("ctrl+s")
        await desk.see("Saved logs/chats/")
        (saved,) = Path("logs/chats").glob("*.md")
        assert "## Prompt" in saved.read_text("utf-8")

    scene(act)


def test_a_failing_answer_says_why_and_keeps_what_had_come(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        remedy = "choose a smaller one"
        desk.client.fails[MODELS[2].id] = HatcheryError("Memory is used up.", remedy=remedy)
        await desk.ask("Once")
        await desk.see("Memory is used up.", remedy, "answers", "broken off")
        del desk.client.fails[MODELS[2].id]
        await desk.pilot.press("ctrl+r")
        await desk.done()
        await desk.see("full length")
        assert "used up" not in desk.text

    scene(act)


def test_a_dead_server_is_explained_and_started_again_by_one_key(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        serving = desk.serving
        assert isinstance(serving, FakeServing)
        serving.state = "died"
        serving.fault = HatcheryError("The model server has ended.", found="signal 9")
        desk.app.server_changed.publish(serving)  # type: ignore[arg-type]
        await desk.see("The model server has ended.", "signal 9", "F5")
        await desk.pilot.press("f5")
        await until(desk.pilot, lambda: serving.starts == 1)
        await until(desk.pilot, lambda: "has ended" not in desk.text)
        await desk.ask("Once")
        await desk.see("full length")

    scene(act)


def test_a_model_that_cannot_be_loaded_is_said_and_another_can_be_chosen(workspace: Path) -> None:
    fake = FakeClient()
    fake.load_fails[MODELS[2].id] = HatcheryError("It needs 9 GiB.", remedy="--quantize int8")

    async def act(desk: Desk) -> None:
        await desk.see("It needs 9 GiB.", "--quantize int8")
        await desk.pilot.press("ctrl+l", "down", "enter")
        await until(desk.pilot, lambda: "It needs" not in desk.text)

    scene(act, client=fake)


def test_hostile_texts_of_people_and_models_are_shown_harmless(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.client.words[MODELS[2].id] = HOSTILE
        desk.screen.query_one(PromptArea).fill(HOSTILE)
        await desk.pilot.press("enter")
        await desk.done()
        await desk.see("[/foo]␛[2J")
        await desk.texts()
        await desk.pilot.press("p", "right", "f2")
        await desk.see("+ a new one", "[/foo]")
        assert "\x1b" not in desk.text
        assert "\u202e" not in desk.text

    scene(act)


def test_a_long_answer_is_drawn_as_it_comes_and_survives_a_resize(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.client.words[MODELS[2].id] = " ".join(f"w{n}" for n in range(5000))
        desk.client.hold = asyncio.Event()
        await desk.type("Once")
        await desk.pilot.press("enter")
        await desk.see("w4998")
        await desk.pilot.resize_terminal(100, 30)
        await desk.see("w4998")
        desk.client.hold.set()
        await desk.done()
        await desk.see("w4999", "118 tokens/s")
        await desk.texts()
        await desk.pilot.press("home")
        await desk.see("Once w0 w1")

    scene(act)


def test_in_a_small_window_the_sampling_is_one_line_that_opens(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.see("temperature 0.8 · top-k 50 · top-p 0.95 · 200 tokens")
        assert "Repetition" not in desk.text
        await desk.pilot.press("ctrl+o")
        await desk.see("Repetition penalty")
        await desk.pilot.press("escape")
        await desk.see("Begin a text")
        await desk.pilot.press("escape")
        assert not isinstance(desk.app.screen, ChatScreen)

    scene(act, size=NARROW)


def test_a_conversation_that_is_left_goes_on_and_is_found_again(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.client.hold = asyncio.Event()
        await desk.type("Once")
        await desk.pilot.press("enter")
        await desk.see("answers")
        desk.app.open_jobs()
        await until(desk.pilot, lambda: not isinstance(desk.app.screen, ChatScreen))
        desk.client.hold.set()
        await until(desk.pilot, lambda: not desk.client.open)
        desk.app.open_chat()
        await desk.see("Once", "full length", "Begin a text")
        await desk.type("The old")
        await desk.pilot.press("escape")
        assert not isinstance(desk.app.screen, ChatScreen)
        desk.app.open_chat(f"{ONE}/200")
        await desk.see("Once", "full length", "The old", "exp1/200")
        await until(desk.pilot, lambda: desk.client.loads[f"{ONE}/200"])
        store = ChatStore(Path("logs"))
        (kept,) = store.recent()
        assert len(store.load(kept.name).path) == 2

    scene(act)


def test_an_answer_that_ends_out_of_sight_is_whole_and_the_next_one_is_seen(
    workspace: Path,
) -> None:
    async def act(desk: Desk) -> None:
        desk.client.hold = asyncio.Event()
        await desk.type("Once")
        await desk.pilot.press("enter")
        await desk.see("answers")
        screen = desk.screen
        desk.app.pop_screen()
        await until(desk.pilot, lambda: not isinstance(desk.app.screen, ChatScreen))
        desk.client.hold.set()
        await until(desk.pilot, lambda: screen._desk.answer is None)
        desk.app.open_chat()
        await desk.see("full length")
        await desk.ask("Twice")
        await desk.see("Twice")

    scene(act)


def test_whoever_was_chosen_answers_again_until_there_is_a_newer_run(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.app.open_chat(f"{ONE}/200")
        await desk.see("exp1/200")
        await desk.pilot.press("escape")
        desk.app.open_chat()
        await until(desk.pilot, lambda: desk.client.loads[f"{ONE}/200"] == 2)
        await desk.see("exp1/200")
        await desk.pilot.press("escape")
        desk.client.listed = [Model("new/step-1", "new", best=True), *desk.client.listed]
        desk.app.open_chat()
        await desk.see("new/step-1")

    scene(act)


def test_the_app_that_is_left_while_a_model_writes_keeps_what_had_come(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        desk.client.hold = asyncio.Event()
        await desk.type("Once")
        await desk.pilot.press("enter")
        await desk.see("answers")

    scene(act)
    store = ChatStore(Path("logs"))
    (kept,) = store.recent()
    assert [turn.text[:4] for turn in store.load(kept.name).path] == ["Once", " run"]


def test_tab_goes_from_the_prompt_to_the_texts_and_back(workspace: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.pilot.press("tab")
        assert desk.screen._side.has_cursor  # there are no texts yet
        await desk.pilot.press("escape")
        await desk.ask("Once")
        await desk.pilot.press("tab")
        await until(desk.pilot, lambda: desk.screen.query_one(ChatLog).has_focus)
        await desk.pilot.press("tab")
        await until(desk.pilot, lambda: desk.screen.query_one(PromptArea).has_focus)

    scene(act)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_screen_looks_as_it_did(
    size: tuple[int, int], workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tui.chat.session.secrets.randbelow", lambda top: 7)
    monkeypatch.setattr("app.tui.chat.conversation.Answer.speed", 120.0)
    fake = FakeClient()
    fake.words[MODELS[2].id] = "upon a time there was a small hen that laid an egg every day"

    async def act(desk: Desk) -> None:
        await check(desk.pilot, "chat_empty")
        await desk.ask("Once")
        await desk.ask("The old fox looks")
        await desk.texts()
        await desk.pilot.press("p", "right", "right")
        await check(desk.pilot, "chat")
        await desk.pilot.press("p", "ctrl+l")
        await check(desk.pilot, "chat_models")
        for path in Path("logs/chats").iterdir():
            os.utime(path, (NOW - 60, NOW - 60))
        await desk.pilot.press("escape", "f2")
        await check(desk.pilot, "chat_list")

    scene(act, size=size, client=fake)
    assert time.time() == NOW


def test_the_light_theme_looks_as_it_did(
    workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.tui.chat.session.secrets.randbelow", lambda top: 7)

    async def act(desk: Desk) -> None:
        desk.app.theme = LIGHT.name
        await desk.pilot.press("ctrl+b")
        await desk.ask("Hello")
        await desk.texts()
        await desk.pilot.press("p", "right")
        await check(desk.pilot, "chat_light")

    scene(act)
