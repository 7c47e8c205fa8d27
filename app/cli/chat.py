"""`chat`: a conversation with a checkpoint in a terminal.

The checkpoint is held by the same model server that the app uses, which ends with this process.
Ctrl-C stops the text being written, Ctrl-D or /exit leaves.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from app.client.client import Client, Model, Request, Sampling
from app.client.server_process import COMMAND, ServerProcess
from app.commands.flags import EVERYWHERE
from app.commands.help import new_app
from app.commands.settings import load_config
from app.terminal.layout import Console, report_failure
from pipeline.runs import inventory
from pipeline.runs.inventory import LOOSE, Checkpoint
from utils.errors import ExitCode, HatcheryError
from utils.text import safe

if TYPE_CHECKING:
    from pipeline.options.config import Config

_HELP = """\
  TEXT      say it; a base model goes on with it
  /more     let a base model go on with what is there
  /again    another answer to the same
  /reset    begin a new conversation
  /exit     leave, as Ctrl-D does
  Ctrl-C stops the text being written. A message that begins with / is typed with two: //usr/bin"""
_BASE = """\
  This is a base model: it was taught to go on with a text, not to answer. Begin a text and it
  goes on; /more lets it go on further, /reset begins anew."""
_TAUGHT = "  This model was taught to answer. It remembers this conversation until /reset."

# Seconds for what the event loop missed while a line was typed: that the server has closed a
# connection that was silent for long.
_CATCH_UP = 0.01

_Where = Annotated[
    str | None,
    Parameter(help="Run, checkpoint folder, Hugging Face folder or id; default: the newest run"),
]
_Config = Annotated[
    Path | None,
    Parameter(name="--config", help="Settings stronger than config.json", group=EVERYWHERE),
]
_Temperature = Annotated[float | None, Parameter(help="0: always the likeliest token")]
_Length = Annotated[int | None, Parameter(help="Tokens of an answer at most")]
_Seed = Annotated[int | None, Parameter(help="The same answers again")]


def chat_app() -> App:
    """The command `chat`, which is an application of its own."""
    app = new_app(
        name="main.py chat",
        help="Talk to a checkpoint in the terminal, message after message.",
        version_flags=[],
    )
    app.default(chat)
    return app


def chat(
    checkpoint: _Where = None,
    *,
    temperature: _Temperature = None,
    max_length: _Length = None,
    seed: _Seed = None,
    config: _Config = None,
) -> int:
    """Talk to a checkpoint in the terminal, message after message."""
    given = {"temperature": temperature, "max_length": max_length, "seed": seed}
    flat = {f"inference.{name}": value for name, value in given.items() if value is not None}
    settings = load_config(flat, config).config
    folder = settings.paths.checkpoints_dir
    chosen = inventory.resolve(checkpoint, folder) if checkpoint else inventory.newest(settings)
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  # line editing and history for input()
    try:
        asyncio.run(_talk(chosen, settings))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.DONE


async def _talk(chosen: Checkpoint, config: "Config") -> None:
    console = Console(stderr=True)
    command = (*COMMAND, "--checkpoint", str(chosen.path))
    server = ServerProcess(config.paths.logs_dir, token=config.serve.token, command=command)
    try:
        with console.status(safe(f"loading {chosen.label}", lines=False)):
            client = await server.client()
            model = (await client.models())[0]
            await client.load(model.id)
        conversation = Dialogue(client, model, Sampling.from_options(config.inference))
        name = chosen.name if chosen.run == LOOSE else chosen.label
        console.say(f"{console.sign('●')} {name}", "bold")
        console.say(_TAUGHT if model.chat else _BASE, "dim")
        console.say("  /help shows what else there is.", "dim")
        await _loop(conversation, console)
    finally:
        await server.stop()


class Dialogue:
    """What was said so far: messages of a model that was taught to answer, else one text."""

    def __init__(self, client: Client, model: Model, sampling: Sampling) -> None:
        self._client, self._model, self._sampling = client, model, sampling
        self.messages: list[dict[str, str]] = []
        self.text = ""
        self._before = ""  # the text that the last answer went on from

    @property
    def started(self) -> bool:
        return bool(self.messages or self._before)

    def reset(self) -> None:
        """Forget all of it."""
        self.messages, self.text, self._before = [], "", ""

    def say(self, text: str) -> None:
        """The user's turn."""
        if self._model.chat:
            self.messages.append({"role": "user", "content": text})
        else:
            self.text = self._before = text

    def again(self) -> None:
        """Take back the last answer."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages.pop()
        self.text = self._before

    def more(self) -> None:
        """Go on from the end of the text."""
        self._before = self.text

    async def answer(self, write: Callable[[str], None]) -> None:
        """Stream the model's turn; cancelled, what has come of it stays.

        Raises:
            HatcheryError: the server refuses, or is gone.
        """
        taught, written = self._model.chat, ""
        request = Request(
            self._model.id,
            prompt=None if taught else self.text,
            messages=tuple(self.messages) if taught else None,
            sampling=self._sampling,
        )
        try:
            async with aclosing(self._client.stream(request)) as pieces:
                async for piece in pieces:
                    written += piece.text
                    write(piece.text)
        except HatcheryError:
            if taught and not written:
                self.messages.pop()  # as if it had not been said
            raise
        finally:
            if taught and written:
                self.messages.append({"role": "assistant", "content": written})
            self.text += written


async def _loop(dialogue: Dialogue, console: Console) -> None:
    """Message after message, until the end of input or /exit."""
    while True:
        try:
            line = _read()
            await asyncio.sleep(_CATCH_UP)
        except EOFError:
            if sys.stdin.isatty():
                console.say("")  # the shell's next line does not follow the question
            return
        except KeyboardInterrupt:
            console.say("\n  Ctrl-D or /exit leaves.", "dim")
            continue
        command = line[1:].strip().lower() if line[:1] == "/" and line[:2] != "//" else ""
        if command in ("exit", "quit", "q"):
            return
        if command == "help":
            console.say(_HELP)
        elif command == "reset":
            dialogue.reset()
            console.say("  A new conversation.", "dim")
        elif command in ("more", "again"):
            if not dialogue.started:
                console.say("  There is nothing yet: type a text.", "dim")
                continue
            dialogue.more() if command == "more" else dialogue.again()
            await _answered(dialogue, console)
        elif command:
            console.say(f"  There is no command /{command}. /help lists them all.", "yellow")
        elif line.strip():
            dialogue.say(line.removeprefix("/") if line.startswith("//") else line)
            await _answered(dialogue, console)


def _read() -> str:
    """A line of the terminal, where Ctrl-C gives it up, or of what is piped in.

    Raises:
        EOFError: there is no more.
    """
    if sys.stdin.isatty():
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in place of asyncio's
        try:
            return input("> ")
        finally:
            signal.signal(signal.SIGINT, before)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


async def _answered(dialogue: Dialogue, console: Console) -> None:
    """One answer, which Ctrl-C ends."""

    def write(text: str) -> None:
        sys.stdout.write(safe(text))
        sys.stdout.flush()

    task = asyncio.ensure_future(dialogue.answer(write))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        console.say("\n  stopped", "dim")
        return
    except HatcheryError as error:
        report_failure(error)
        return
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    sys.stdout.write("\n")
    sys.stdout.flush()
