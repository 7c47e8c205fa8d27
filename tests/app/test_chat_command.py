"""`chat`: what is sent, what is kept of a conversation, and one with a real checkpoint."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from app.cli import chat
from app.cli.chat import Dialogue
from app.client.client import Sampling
from app.terminal.layout import Console
from tests.conftest import ROOT
from tests.support.fake_client import FakeClient, model
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, two_runs
from utils.errors import HatcheryError

BASE, TAUGHT = model("base", 1, 3.0), model("taught", 1, 3.0, chat=True)


def talk(
    client: FakeClient, who: Any, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Dialogue:
    """A conversation in which these lines are typed."""
    typed: Iterator[str] = iter(lines)

    def read() -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(chat, "_read", read)

    async def act() -> Dialogue:
        dialogue = Dialogue(cast(Any, client), who, Sampling(seed=7))
        await chat._loop(dialogue, Console(stderr=True))
        return dialogue

    return asyncio.run(act())


def test_a_model_that_was_taught_remembers_until_reset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient([TAUGHT])
    talk(client, TAUGHT, ["hello", "and?", "/reset", "again"], monkeypatch)
    sent = [[m["content"] for m in request.messages or ()] for request in client.requests]
    assert sent[0] == ["hello"]
    assert (sent[1][0], len(sent[1]), sent[1][2]) == ("hello", 3, "and?")
    assert sent[2] == ["again"]
    assert "taught/1 answers seed 7" in capsys.readouterr().out


def test_a_base_model_goes_on_with_a_text_and_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient([BASE])
    talk(client, BASE, ["def a", "/more", "/again", "new"], monkeypatch)
    prompts = [request.prompt for request in client.requests]
    assert prompts[0] == "def a"
    assert prompts[1] is not None
    assert prompts[1].startswith("def a base/1 answers")
    assert prompts[2] == prompts[1]
    assert prompts[3] == "new"
    assert all(request.messages is None for request in client.requests)


@pytest.mark.parametrize("typed_at", [True, False])
def test_the_end_of_input_leaves_the_cursor_on_a_line_of_its_own(
    typed_at: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: typed_at, raising=False)
    talk(FakeClient([BASE]), BASE, [], monkeypatch)
    assert capsys.readouterr().err == "\n" * typed_at


@pytest.mark.parametrize("line", ["/exit", "/quit", "/EXIT", "/q", "/ exit"])
def test_exit_leaves_and_nothing_after_it_is_sent(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient([BASE])
    talk(client, BASE, [line, "more"], monkeypatch)
    assert client.requests == []


def test_commands_are_explained_and_a_wrong_one_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient([BASE])
    talk(client, BASE, ["/help", "/nope", "/more", "/again", "", "//usr"], monkeypatch)
    told = capsys.readouterr().err
    assert "/reset" in told
    assert "There is no command /nope" in told
    assert told.count("There is nothing yet") == 2
    assert [request.prompt for request in client.requests] == ["/usr"]


def test_a_refused_message_is_as_if_it_had_not_been_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient([TAUGHT])
    client.refuses = HatcheryError("The text is too long.")
    dialogue = talk(client, TAUGHT, ["much"], monkeypatch)
    assert dialogue.messages == []
    assert "too long" in capsys.readouterr().err


def test_what_a_model_writes_is_never_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient([BASE])
    client.words[BASE.id] = "a \x1b]52;c;aGk=\x07 \x9b2J \u202e end"
    talk(client, BASE, ["x"], monkeypatch)
    shown = capsys.readouterr().out
    assert "end" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e")


def test_control_c_gives_up_the_line_and_not_the_conversation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, typed = FakeClient([BASE]), iter(["a", None, "b", None, "/exit"])

    def read() -> str:
        line = next(typed)
        if line is None:
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr(chat, "_read", read)
    asyncio.run(chat._loop(Dialogue(cast(Any, client), BASE, Sampling()), Console(stderr=True)))
    assert [request.prompt for request in client.requests] == ["a", "b"]
    assert capsys.readouterr().err.count("/exit leaves") == 2


@pytest.mark.slow
def test_a_piped_conversation_with_a_real_checkpoint(workspace: Path) -> None:
    byte_tokenizer()
    two_runs([lively_model(seed) for seed in (1, 2, 3)])
    line = [sys.executable, str(ROOT / "main.py"), "chat", "--max-length", "5", "--seed", "1"]
    done = subprocess.run(line, input="ab\n/more\n", capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "This is a base model" in done.stderr
    assert len(done.stdout.encode()) >= 2
    assert "Traceback" not in done.stderr
