"""A question on the command line is put as the chat template has it, and answered alone."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.cli import generate
from pipeline.chat.encoder import ChatEncoder
from pipeline.conversations.conversation import Turn
from pipeline.events import Delta, Event, Sample, Warned
from tests.conftest import ROOT
from tests.support.stage_runner import finished, run_stage, settings
from tests.support.tiny_checkpoints import (
    VOCABULARY,
    byte_tokenizer,
    following_model,
    lively_model,
    save_step,
)
from utils.errors import UsageError

RUN = Path("checkpoints/sft_lima_2026_01_01_10_00")
EOS = VOCABULARY - 1
TAUGHT = "was never taught to answer"


def writes(text: str, *, ends: bool, command: str = "sft", context: int = 64) -> Path:
    """A checkpoint whose model writes `text` after a colon, no character of which comes twice, and
    then ends or begins the next question."""
    ids = byte_tokenizer().encode(f":{text}")
    after = [EOS] if ends else byte_tokenizer().encode("\nUser:")
    model = following_model(dict(pairwise([*ids, *after])), EOS, context)
    return save_step(RUN, 1, model, byte_tokenizer(), command=command)


def ask(question: str, **options: Any) -> list[Event]:
    return run_stage("inference", inference={"chat": question, "temperature": 0} | options)


def answer(events: list[Event]) -> Sample:
    [sample] = [event for event in events if isinstance(event, Sample)]
    return sample


def warnings(events: list[Event]) -> str:
    return " ".join(event.message for event in events if isinstance(event, Warned))


@pytest.mark.parametrize("ends", [True, False])
def test_an_answer_ends_where_the_template_ends_one(workspace: Path, ends: bool) -> None:
    writes(" Cluck.", ends=ends)
    events = ask("Who are you?")
    sample = answer(events)
    assert (sample.text, sample.prompt, sample.statistics["finish"]) == ("Cluck.", "", "stop")
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "Cluck."
    assert all(event.prompt == "" for event in events if isinstance(event, Delta))
    [row] = finished(events).summary["texts"]
    assert (row["text"], row["question"]) == ("Cluck.", "Who are you?")
    encoder = ChatEncoder(byte_tokenizer())
    asked = encoder.encode([Turn("user", "Who are you?")])
    assert sample.statistics["prompt_tokens"] == len(asked)
    learned = encoder.encode(
        [Turn("user", "Who are you?"), Turn("assistant", "Cluck.")], answer=False
    )
    if ends:
        assert [*asked, *sample.token_ids] in (learned, learned[:-1])


def test_a_base_model_says_that_it_was_never_taught(workspace: Path) -> None:
    writes(" Cluck.", ends=True, command="train")
    events = ask("Who are you?")
    assert answer(events).text == "Cluck."
    assert TAUGHT in warnings(events)
    writes(" Cluck.", ends=True, command="sft")
    assert TAUGHT not in warnings(ask("Who are you?"))


def test_models_of_others_count_as_taught_by_their_template(workspace: Path) -> None:
    checkpoint = writes(" Cluck.", ends=True)
    (checkpoint / "manifest.json").unlink()
    assert TAUGHT in warnings(ask("a", checkpoint=[str(checkpoint)]))
    template = "{% for m in messages %}{{ m['content'] + ':' }}{% endfor %}"
    (checkpoint / "chat_template.jinja").write_text(template)
    events = ask("a", checkpoint=[str(checkpoint)])
    assert TAUGHT not in warnings(events)
    assert answer(events).statistics["prompt_tokens"] == len("a:")


def test_a_question_stands_in_a_file_and_may_spell_control_tokens(workspace: Path) -> None:
    writes(" Cluck.", ends=True)
    Path("question.txt").write_text("Is </s> a token?\n")
    sample = answer(ask("FILE:question.txt"))
    assert sample.text == "Cluck."
    asked = ChatEncoder(byte_tokenizer()).encode([Turn("user", "Is </s> a token?")])
    assert sample.statistics["prompt_tokens"] == len(asked)


def test_a_question_that_fills_the_context_is_refused_and_a_long_one_leaves_less_room(
    workspace: Path,
) -> None:
    writes(" abcdefgh", ends=True)
    around = len(ChatEncoder(byte_tokenizer()).encode([Turn("user", "")]))
    with pytest.raises(UsageError, match="too long") as refused:
        ask("x" * (64 - around))
    assert "64" in refused.value.found
    events = ask("x" * (64 - around - 4))
    assert answer(events).text == "abc"  # and the space before it
    assert answer(events).statistics["finish"] == "length"
    assert "room for 4 tokens" in warnings(events)


def test_a_text_is_either_continued_or_answered(workspace: Path) -> None:
    writes(" Cluck.", ends=True)
    with pytest.raises(UsageError, match="either"):
        ask("Who?", prompt="Once")
    assert answer(ask("Who?", prompt="")).text == "Cluck."  # as the form proposes it
    with pytest.raises(UsageError, match="--chat"):
        run_stage("inference", inference={})


def test_several_models_and_samples_are_each_asked(workspace: Path) -> None:
    one = writes(" Cluck.", ends=True)
    other = save_step(RUN.with_name("run_b"), 1, lively_model(), byte_tokenizer())
    events = ask("a", checkpoint=[str(one), str(other)], samples=2, max_length=9)
    samples = [event for event in events if isinstance(event, Sample)]
    assert [sample.text for sample in samples if sample.source.startswith("sft")] == ["Cluck."] * 2
    assert len(samples) == 4


def test_a_question_opens_no_prompt_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert generate.is_interactive(settings(), as_json=False)
    asked = settings(inference={"chat": "Who?"})
    assert not generate.is_interactive(asked, as_json=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert generate.with_piped_prompt(asked).inference.prompt is None


@pytest.mark.slow
def test_the_command_prints_the_answer_alone(workspace: Path) -> None:
    writes(" Cluck.\n\tx", ends=True, command="train")
    line = [sys.executable, str(ROOT / "main.py"), "inference", "--checkpoint", RUN.name]
    line += ["--temperature", "0", "--chat", "Who are you?"]
    plain = subprocess.run(line, capture_output=True, text=True, input="", check=True)
    assert plain.stdout == "Cluck.\n\tx\n"
    assert TAUGHT in plain.stderr
    rows = subprocess.run([*line, "--json"], capture_output=True, text=True, input="", check=True)
    events = [json.loads(row) for row in rows.stdout.splitlines()]
    [row] = events[-1]["summary"]["texts"]
    assert (row["text"], row["question"]) == ("Cluck.\n\tx", "Who are you?")
