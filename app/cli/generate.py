"""Talking to checkpoints in a terminal: choose, load once, then prompt after prompt.

Ctrl-C stops the text being written and comes back to the prompt; Ctrl-D or /quit leaves. Torch
comes in only with the checkpoints.
"""

import difflib
import json
import os
import select
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Any

from app.cli.picker import pick
from app.jobs.folder import JOB_FOLDER
from app.jobs.runner import StopRequest, describe
from app.terminal.event_renderers import report
from app.terminal.layout import Console, readable, report_failure, spaced
from app.terminal.streams import Streams
from pipeline.events import Delta, Finished, Sample, Warned
from pipeline.inference.prompts import STANDARD_INPUT, read_prompt
from pipeline.options.config import Config, InferenceOptions
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from utils.config import Layer, resolve
from utils.errors import ExitCode, HatcheryError, UsageError
from utils.hardware import keep_heap

if TYPE_CHECKING:
    from pipeline.inference.stage import InferenceSession

SETTINGS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "max_length",
    "samples",
    "seed",
)
_PASTE_SECONDS = 0.05  # a pasted line follows the one before it faster than anybody types
_HELP = """\
  TEXT                 continue it; a pasted text of several lines is one prompt
  FILE:path            continue the text of a file
  (Enter alone)        begin a new document
  /again               the same prompt once more
  /set NAME VALUE      change a setting; /NAME VALUE does the same; VALUE none: unset
  /settings            show them all
  /model               choose other checkpoints
  /quit                leave, as Ctrl-D does
  Ctrl-C stops the text being written. A prompt that begins with / is typed with two: //usr/bin"""
_COMMANDS = ("again", "set", "settings", "model", "help", "quit", *SETTINGS)


def is_interactive(config: Config, *, as_json: bool) -> bool:
    """Whether somebody is there to talk to, and neither prompt nor question was given."""
    return (
        config.inference.prompt is None
        and config.inference.chat is None
        and not as_json
        and JOB_FOLDER not in os.environ
        and sys.stdin.isatty()
        and sys.stdout.isatty()
    )


def with_piped_prompt(config: Config) -> Config:
    """`config`, with standard input as the prompt where neither that nor a question was given and
    it is no terminal."""
    options = config.inference
    if options.prompt is not None or options.chat is not None or sys.stdin.isatty():
        return config
    piped = config.inference.model_copy(update={"prompt": STANDARD_INPUT})
    return config.model_copy(update={"inference": piped})


def run(config: Config) -> int:
    """Talk until the user leaves; returns the exit code.

    Raises:
        HatcheryError: there is nothing to load, or `--checkpoint` named what cannot be loaded.
    """
    keep_heap()
    with suppress(ImportError):
        import readline  # noqa: F401  # line editing and history for input()
    with _terminated():
        try:
            prompts = PromptLoop(config)
            prompts.begin()
            prompts.loop()
        except EOFError:
            print()  # noqa: T201
        except KeyboardInterrupt:
            print()  # noqa: T201
            return ExitCode.INTERRUPTED
    return ExitCode.DONE


class PromptLoop:
    """Checkpoints in memory, the settings that may change, and the last prompt."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._options = config.inference
        self._out, self._notes = Console(), Console(stderr=True)
        self._session: InferenceSession | None = None
        self._prompt = ""

    def begin(self) -> None:
        """Load what `--checkpoint` names, else what the user picks."""
        directory = self._config.paths.checkpoints_dir
        if self._options.checkpoint:
            self._load([inventory.resolve(c, directory) for c in self._options.checkpoint])
        else:
            self._pick()
        self._notes.say(
            "  Type a text to continue and press Enter. /help shows what else there is.", "dim"
        )

    def loop(self) -> None:
        """Prompt after prompt, until EOFError or /quit."""
        while True:
            try:
                line = _read("> ")
                if line.startswith("/") and not line.startswith("//"):
                    if not self._command(line[1:]):
                        return
                else:
                    self._generate(read_prompt(line.removeprefix("/")))
            except EOFError:
                raise
            except UnicodeDecodeError:
                self._notes.say("  ! That line was not UTF-8 text.", "yellow")
            except KeyboardInterrupt:
                self._out.print()
                self._notes.say("  Ctrl-D or /quit leaves.", "dim")
            except Exception as error:  # out of memory and the like: the conversation goes on
                report(describe(error))

    def _pick(self) -> None:
        again = False
        while True:
            chosen = pick(self._notes, input, self._config, again=again)
            try:
                self._load(chosen)
            except HatcheryError as error:
                report_failure(error)
                again = True
            else:
                return

    def _load(self, checkpoints: Sequence[Checkpoint]) -> None:
        names = checkpoints[0].label if len(checkpoints) == 1 else f"{len(checkpoints)} checkpoints"
        with self._notes.status(f"loading {names}"):
            from pipeline.inference.stage import (
                InferenceSession,  # torch: seconds, when it is needed
            )

            self._session = None  # its memory first
            session = InferenceSession(self._config, self._options, checkpoints)
            self._notes.say(f"{self._notes.sign('●')} {session.title}", "bold")
            for event in session.load(StopRequest()):
                if isinstance(event, Warned):
                    self._notes.say(f"  ! {event.message} {event.remedy}".rstrip(), "yellow")
        self._session = session

    def _generate(self, prompt: str) -> None:
        assert self._session is not None
        self._prompt = prompt
        streams = Streams(self._out, self._notes)
        streams.headings = len(self._session.checkpoints) * self._options.samples > 1
        with _interruptible() as stop:
            for event in self._session.generate(prompt, self._options, stop):
                if isinstance(event, Delta | Sample):
                    streams.take(event)
                elif isinstance(event, Warned):
                    self._notes.say(f"  ! {event.message} {event.remedy}".rstrip(), "yellow")
                elif isinstance(event, Finished):
                    self._compare(event.summary)

    def _compare(self, summary: dict[str, Any]) -> None:
        for name, value in summary.items():
            if isinstance(value, str):
                self._notes.say(f"  {spaced(name)}: {value}")

    def _command(self, line: str) -> bool:
        """Do what was asked; False ends the loop."""
        name, _, rest = line.strip().partition(" ")
        name = name.replace("-", "_").lower()
        if name in ("quit", "exit", "q"):
            return False
        if name == "help":
            self._notes.say(_HELP)
        elif name == "model":
            self._change_model()
        elif name == "again":
            self._generate(self._prompt)
        elif name == "settings":
            for setting in SETTINGS:
                self._show_setting(setting)
        elif name == "set":
            self._set(*rest.strip().partition(" ")[::2])
        elif name in SETTINGS:
            self._set(name, rest)
        else:
            close = difflib.get_close_matches(name, _COMMANDS, n=1)
            meant = f"Did you mean /{close[0]}? " if close else ""
            raise UsageError(f"There is no command /{name}.", remedy=f"{meant}/help lists them all")
        return True

    def _change_model(self) -> None:
        before = self._session
        try:
            self._pick()
        except (EOFError, KeyboardInterrupt):
            self._session = before
            self._notes.say("\n  Nothing changed.", "dim")

    def _set(self, name: str, value: str) -> None:
        """Change a setting, or show it where no value is given."""
        name, value = name.replace("-", "_").lower(), value.strip()
        if name not in SETTINGS:
            raise UsageError(
                f"/set knows no setting {name}." if name else "/set needs a name and a value.",
                remedy=f"one of {', '.join(SETTINGS)}",
            )
        if value:
            layers = [
                Layer("the settings", self._options.model_dump(mode="json")),
                Layer("what you typed", {name: _parsed(value)}),
            ]
            self._options = resolve(InferenceOptions, layers)
        self._show_setting(name)

    def _show_setting(self, name: str) -> None:
        value = getattr(self._options, name)
        shown = "none: a new one each time" if name == "seed" and value is None else readable(value)
        self._notes.say(f"  {spaced(name)}: {shown}")


def _parsed(value: str) -> Any:
    """A number or none where it is one, else the text, which validation will refuse."""
    try:
        return None if value == "none" else json.loads(value)
    except ValueError:
        return value


def _read(question: str) -> str:
    """One prompt: a line, or all lines of a text that was pasted."""
    lines = [input(question)]
    while not lines[0].startswith("/") and _more_lines_wait():
        lines.append(input())
    return "\n".join(lines).removesuffix("\n")


def _more_lines_wait() -> bool:
    return bool(select.select([sys.stdin], [], [], _PASTE_SECONDS)[0])


@contextmanager
def _interruptible() -> Iterator[StopRequest]:
    """The first Ctrl-C asks for an end after the current token; the second does not wait."""
    stop = StopRequest()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process at once, with the terminal as it was.

    A thread waits for them: a handler would not be run while line editing waits for a key that
    may never come. Ctrl-C is heard even where whoever started us ignores it.
    """
    ends = {getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)}
    terminal = termios.tcgetattr(sys.stdin)

    def wait() -> None:
        signal.sigwait(ends)
        termios.tcsetattr(sys.stdin, termios.TCSANOW, terminal)
        os._exit(ExitCode.TERMINATED)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        signal.signal(signal.SIGINT, before)
