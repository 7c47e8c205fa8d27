"""One exception base and the exit codes.

An error the user can meet has three parts: what is missing, what was found, and the exact next
command. Anything else that escapes is our own mistake and keeps its traceback.
"""

import shlex
from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a process of ours ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    INTERRUPTED = 130
    TERMINATED = 143


def as_typed(command: Sequence[str]) -> str:
    """A command, the words after `python main.py`, the way it is typed into a terminal."""
    return shlex.join(["python", "main.py", *command])


class HatcheryError(Exception):
    """A failure with a cause and a remedy; `str()` is one paragraph fit for a terminal.

    `commands` are those that the remedy advises, each the words after `python main.py`. Every `{}`
    in `remedy` stands for the next of them, as it is typed. A word in capitals, such as FOLDER, is
    to be replaced by the user.
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self,
        problem: str,
        *,
        found: str = "",
        remedy: str = "",
        commands: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self.problem = problem
        self.found = found
        before, *after = remedy.split("{}", len(commands))
        typed = [as_typed(command) + text for command, text in zip(commands, after, strict=False)]
        self.remedy = before + "".join(typed)
        self.commands = tuple(commands)
        super().__init__(problem)

    def __str__(self) -> str:
        parts = [self.problem]
        if self.found:
            parts.append(f"Found: {self.found}")
        if self.remedy:
            parts.append(f"Next: {self.remedy}")
        return "\n".join(parts)


class UsageError(HatcheryError):
    """A command line, config file or input that cannot be understood."""

    exit_code = ExitCode.USAGE


class OutOfMemoryError(HatcheryError):
    """The machine's or the GPU's memory does not hold what was asked for."""


class NetworkError(HatcheryError):
    """Something on the network could not be reached."""


class RefusedError(HatcheryError):
    """Things that do not belong together or do not match their checksum."""

    exit_code = ExitCode.REFUSED
