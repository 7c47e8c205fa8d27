"""Opens the app so that the terminal survives it.

The app runs as a child in the same terminal and the same process group. However it ends, this
process puts the terminal back and hands on the exit code. It draws nothing and loads nothing
large: everything heavy is imported after the fork, by the child, or when something went wrong.
"""

import codecs
import gc
import os
import signal
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

# What the app switches on, off again: end of a sequence cut in half, synchronized output, pasting
# in brackets, mouse in all its forms, window sizes, the kitty keyboard, the second screen, focus
# reports; and line wrap, cursor and plain colours on again.
RESTORE = (
    "\x1b\\\x1b[?2026l\x1b[?2004l"
    "\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?2048l"
    "\x1b[<u\x1b[?1049l\x1b[?1004l\x1b[?7h\x1b[?25h\x1b[0m"
)
_PATIENCE = 5  # seconds that the app has to leave after a signal before it is killed
_USAGE = 2


def main() -> NoReturn:
    """Open the app and exit with its code; where it cannot be shown, with 2 and the short help."""
    if "TEXTUAL_DRIVER" in os.environ:  # another program draws it, as `web` does
        sys.exit(open_app())
    streams = (sys.stdin, sys.stdout, sys.stderr)
    terminal = all(stream is not None and stream.isatty() for stream in streams)
    encoding = codecs.lookup(sys.stderr.encoding).name if sys.stderr else "utf-8"
    problem = obstacle(os.environ, encoding, terminal=terminal)
    if problem:
        _refuse(problem)
    sys.exit(launch())


def obstacle(environment: Mapping[str, str], encoding: str, *, terminal: bool) -> str:
    """Why the app cannot be shown here, with the way out; empty where it can.

    A locale without a character set of its own, such as C, says nothing about the terminal: the
    app then draws in UTF-8, which every present one understands.
    """
    if not terminal:
        return "The app needs a terminal for input and output; here one of them is not."
    if environment.get("TERM") in ("dumb", "unknown"):
        return (
            f"The app cannot draw in a terminal of the kind TERM={environment['TERM']}; "
            "if yours can do more: TERM=xterm-256color python main.py"
        )
    if encoding not in ("utf-8", "ascii"):
        return (
            f"The app draws in UTF-8, this locale is {encoding}; "
            "if your terminal knows UTF-8: LC_ALL=C.UTF-8 python main.py"
        )
    return ""


def _refuse(problem: str) -> NoReturn:
    from app.cli.main import main as command_line

    with suppress(SystemExit):
        command_line(())
    if sys.stderr is not None:
        sys.stderr.write(f"\n{problem}\n")
    sys.exit(_USAGE)


def open_app() -> int:
    """The app in this process."""
    try:
        sys.stderr.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
        gc.disable()  # nothing that is made before the first frame is garbage
        from app.tui.app import run

        return run()
    except KeyboardInterrupt:  # before the app listens for keys
        return 128 + signal.SIGINT


def launch() -> int:
    """Run the app in a child, wait for its end, mend the terminal; the exit code."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        sys.exit(open_app())
    _stand_by(child)
    status = _wait(child)
    if os.WIFSIGNALED(status) or termios.tcgetattr(terminal) != before:
        _mend(terminal, before)
    if os.WIFSIGNALED(status):
        _report_death(os.WTERMSIG(status))
        return 128 + os.WTERMSIG(status)
    return os.waitstatus_to_exitcode(status)


def _stand_by(child: int) -> None:
    """Keys of the terminal are the app's; signals meant to end it are passed on to it."""

    def hand_on(number: int, _: FrameType | None) -> None:
        _send(child, number)
        signal.alarm(_PATIENCE)

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    signal.signal(signal.SIGALRM, lambda *_: _send(child, signal.SIGKILL))


def _send(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _wait(child: int) -> int:
    """The child's exit status. While it is stopped this process is too, so that the shell has
    the terminal; `fg` wakes both, as they are one process group."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return status
        os.kill(os.getpid(), signal.SIGSTOP)


def _mend(terminal: int, before: list[Any]) -> None:
    """Put the terminal back as it was; where it is gone there is nothing to mend."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), RESTORE.encode())
    with suppress(termios.error):
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _report_death(number: int) -> None:
    """How the app died, and which jobs go on."""
    from app.commands.settings import load_config
    from app.terminal.layout import Console
    from app.tui.shutdown import say_farewell
    from utils.errors import HatcheryError

    with suppress(OSError):
        Console(stderr=True).say(f"The app was ended by {signal.Signals(number).name}.")
        try:
            logs = load_config({}).config.paths.logs_dir
        except HatcheryError:
            from pipeline.options.config import Config

            logs = Config().paths.logs_dir
        say_farewell(logs)
