"""Talking to checkpoints in a terminal, through a real one (a pty)."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.picker import parse_choice
from app.terminal.streams import Streams
from pipeline.events import Delta, Sample
from tests.conftest import ROOT
from tests.support.tiny_checkpoints import (
    byte_tokenizer,
    counting_model,
    lively_model,
    save_step,
    two_runs,
)
from utils.errors import UsageError

DEADLINE = 60.0


class Terminal:
    """`python main.py inference` on a pty of 100 columns, and all that it has shown."""

    def __init__(self, *arguments: str) -> None:
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        line = [sys.executable, str(ROOT / "main.py"), "inference", *arguments]
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "HATCHERY_JOB")}
        self.process = subprocess.Popen(
            line,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def expect(self, words: str) -> str:
        """Wait until `words` are shown after what was expected before; the text up to them."""
        deadline = time.monotonic() + DEADLINE
        while (at := self.shown.find(words, self._seen)) < 0:
            self._read(deadline, words)
        found = self.shown[self._seen : at]
        self._seen = at + len(words)
        return found

    def _read(self, deadline: float, words: str) -> None:
        ready = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]
        try:
            data = os.read(self._fd, 65536) if ready else b""
        except OSError:  # Linux says so when the other side is closed
            data = b""
        if not data:
            raise AssertionError(f"{words!r} never came; shown:\n{self.shown[-3000:]}")
        self.shown += data.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def ask(self, text: str) -> str:
        """Type a line at the prompt; what is shown until the next prompt."""
        self.type(f"{text}\r")
        return self.expect("> ")

    def interrupt(self, words: str) -> None:
        """Ctrl-C until `words` come, a second apart: Python does not notice one that reaches it
        just before it waits."""
        while True:
            self.type("\x03")
            until = time.monotonic() + 1.0
            while select.select([self._fd], [], [], max(0.0, until - time.monotonic()))[0]:
                self._read(until, words)
                if words in self.shown[self._seen :]:
                    return

    def end(self) -> int:
        """The exit code, once everything was shown."""
        deadline = time.monotonic() + DEADLINE
        try:
            while True:
                self._read(deadline, "the end")
        except AssertionError:
            return self.process.wait(timeout=DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(workspace: Path) -> Iterator[Open]:
    """Opens terminals in a working directory with two runs."""
    two_runs([counting_model()] * 3)
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.slow
def test_pick_talk_change_settings_and_quit(terminal: Open) -> None:
    t = terminal("--max-length", "8", "--seed", "3")
    runs = t.expect("Run [")
    assert "run_2026_01_01_10_00_old" in runs
    assert runs.index("run_2026_01_02_10_00") < runs.index("run_2026_01_01_10_00_old")
    t.type("9\r")
    t.expect("There is no 9")
    t.expect("Run [")
    t.type("1\r")
    table = t.expect("Checkpoint [")
    assert "▲ best" in table
    assert "● latest" in table
    assert "3.2500" in table
    t.type("\r")  # the best
    t.expect("step 10 on cpu")
    t.expect("> ")
    answer = t.ask("héllo 北京")
    assert "héllo 北京\x1b[0m01234567" in answer
    assert "8 tokens in" in answer
    assert "temperature: 0" in t.ask("/set temperature 0")
    assert "samples: 2" in t.ask("/samples 2")
    two = t.ask("x")
    assert two.index("sample 1") < two.index("sample 2")
    assert "valid integer" in t.ask("/top-k many")
    assert "Did you mean /samples" in t.ask("/sampels 3")
    assert "repetition penalty" in t.ask("/settings")
    assert "cannot be read" in t.ask("FILE:nowhere")
    assert "/again" in t.ask("/help")
    t.type("/quit\r")
    assert t.end() == 0
    assert "Traceback" not in t.shown


@pytest.mark.slow
def test_ctrl_c_ends_the_text_and_ctrl_d_the_conversation(terminal: Open) -> None:
    t = terminal("--checkpoint", "old", "--max-length", "1000000")
    t.expect("> ")
    t.type("go\r")
    t.expect("at once")
    t.expect("go")
    t.type("\x03")
    assert "interrupted" in t.expect("> ")
    assert "8 tokens in" not in t.ask("/max-length 4")
    assert "4 tokens in" in t.ask("again")  # nothing was loaded anew
    t.interrupt("leaves.")
    t.expect("leaves.")
    t.expect("> ")
    t.type("\x04")
    assert t.end() == 0
    assert t.shown.count("on cpu") == 1


@pytest.mark.slow
def test_several_are_chosen_by_number_and_compared_and_exchanged(terminal: Open) -> None:
    t = terminal("--max-length", "4")
    t.expect("Run [")
    t.type("all\r")
    assert "run_2026_01_01_10_00_old step 5" in t.expect("Checkpoint [")
    t.type("1,3\r")
    t.expect("free memory")
    t.expect("> ")
    answer = t.ask("a")
    assert answer.count("4 tokens in") == 2
    assert "fastest: " in answer
    assert "highest speed: " in answer
    t.type("/model\r")
    t.expect("Run [")
    t.type("\x04")
    t.expect("Nothing changed")
    t.expect("> ")
    assert t.ask("a").count("4 tokens in") == 2
    t.type("/model\r")
    t.expect("Run [")
    t.type("2\r")  # its only checkpoint needs no second question
    t.expect("old step 5 on cpu")
    t.expect("> ")
    assert t.ask("a").count("4 tokens in") == 1


@pytest.mark.slow
def test_a_pasted_text_of_several_lines_is_one_prompt(terminal: Open) -> None:
    t = terminal("--checkpoint", "old", "--max-length", "3")
    t.expect("> ")
    t.type("\x1b[200~one\ntwo\nthree\x1b[201~\r")  # as a terminal with bracketed paste sends it
    assert "prompt 14 tokens" in t.expect("> ")
    t.type("one\rtwo\rthree\r")  # as one without sends it
    assert "prompt 14 tokens" in t.expect("\n> ")


@pytest.mark.slow
def test_leaving_the_picker_and_a_termination_have_their_exit_codes(terminal: Open) -> None:
    t = terminal()
    t.expect("Run [")
    t.expect("]: ")
    t.interrupt("\n")
    assert t.end() == 130
    t = terminal("--checkpoint", "old")
    t.expect("> ")
    t.process.send_signal(signal.SIGTERM)
    assert t.end() == 143


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_loaded_is_named_and_another_chosen(terminal: Open) -> None:
    shutil.rmtree("checkpoints/run_2026_01_02_10_00/checkpoint_step_000020")
    weights = Path("checkpoints/run_2026_01_02_10_00/checkpoint_step_000010/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4])
    t = terminal("--max-length", "4")
    t.expect("Run [")
    t.type("1\r")  # its only checkpoint
    t.expect("is damaged")
    t.expect("Run [")
    t.type("2\r")
    t.expect("Checkpoint [")
    t.type("\r")
    t.expect("> ")
    assert "4 tokens in" in t.ask("a")


@pytest.mark.slow
def test_a_folder_deleted_while_choosing_is_no_disaster(terminal: Open) -> None:
    t = terminal()
    t.expect("Run [")
    t.type("1\r")
    t.expect("Checkpoint [")
    Path("checkpoints/run_2026_01_02_10_00").rename("gone")
    t.type("1\r")
    t.expect("not there any more")
    t.expect("Run [")
    t.type("\x04")
    assert t.end() == 0


@pytest.mark.slow
def test_a_name_with_escape_codes_cannot_touch_the_screen(terminal: Open) -> None:
    run = Path("checkpoints/run_\x1b[2Jevil")
    save_step(run, 1, lively_model(), byte_tokenizer())
    t = terminal()
    assert "\x1b[2J" not in t.expect("Run [")
    assert "evil" in t.shown


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("2", [1]),
        ("1,3,5", [0, 2, 4]),
        ("all", [0, 1, 2, 3, 4]),
        ("2-4 1", [1, 2, 3, 0]),
        ("3 3", [2]),
    ],
)
def test_choices_are_numbers_ranges_or_all(answer: str, places: list[int]) -> None:
    assert parse_choice(answer, 5) == places


@pytest.mark.parametrize("answer", ["0", "6", "x", "4-2", "1-9", "-1", ",", "²"])
def test_a_choice_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(UsageError):
        parse_choice(answer, 5)


class Screen:
    """The two consoles of a terminal, which write to the same place."""

    is_terminal = lively = False

    def __init__(self) -> None:
        self.text = ""
        self.file = self

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing is held back."""

    def sign(self, symbol: str) -> str:
        return symbol

    def print(self, text: Any = "", **_: Any) -> None:
        self.text += f"{text}\n"

    def say(self, text: str, _style: str = "") -> None:
        self.text += f"{text}\n"


def test_texts_written_together_are_printed_one_after_the_other() -> None:
    screen: Any = Screen()
    streams = Streams(screen, screen)
    streams.headings = True
    for event in (
        Delta("", prompt="P", index=0),
        Delta("", prompt="P", index=1),
        Delta("a", index=0),
        Delta("x", index=1),
        Sample("x", prompt="P", index=1),
        Delta("\x1b[2J", index=0),
    ):
        streams.take(event)
    assert screen.text == "== sample 1 ==\nPa␛[2J"
    streams.take(Sample("a", prompt="P", index=0))
    assert screen.text == "== sample 1 ==\nPa␛[2J\n== sample 2 ==\nPx\n"
