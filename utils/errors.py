"""One exception base, the exit codes, and what counts as being out of memory.

An error the user can meet has three parts: what is missing, what was found, and the exact next
command. Anything else that escapes is our own mistake and keeps its traceback.
"""

import errno
import shlex
from collections.abc import Container, Sequence
from enum import IntEnum

# What torch and the libraries of a GPU say in exceptions that are RuntimeErrors otherwise.
_MEMORY_MESSAGES = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_GPU_WORDS = ("CUDA", "CUBLAS", "MPS")

# What costs less memory, by the setting that a command may have.
_HELPING = {"batch_size": "a smaller --batch-size", "workers": "--workers 1"}
_HELPING_GPU = {"batch_size": "a smaller --batch-size", "device": "--device cpu"}


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, the system, torch, a GPU's library or our own says that
    memory is used up. torch's own class is known by its name: torch is not imported here."""
    if isinstance(error, MemoryError) or type(error).__name__ == OutOfMemoryError.__name__:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_MESSAGES)


def explain_memory(error: BaseException, settings: Container[str] = ()) -> OutOfMemoryError:
    """The general explanation of an error for which `is_out_of_memory` holds, for places that
    know nothing of the work that needed so much. `settings` are those that its command has, by
    name: only flags of these are advised."""
    text = str(error)
    found = text.splitlines()[0].split(". ")[0] if text else type(error).__name__
    on_gpu = any(word in text for word in _GPU_WORDS)
    helping = _HELPING_GPU if on_gpu else _HELPING
    flags = [flag for name, flag in helping.items() if name in settings]
    remedy = ", ".join([*flags, "less text at a time or a smaller model"])
    return OutOfMemoryError(
        "The memory of the GPU is used up." if on_gpu else "This machine's memory is used up.",
        found=found,
        remedy=f"use {remedy}, or close other programs",
    )


class NetworkError(HatcheryError):
    """Something on the network could not be reached."""


class RefusedError(HatcheryError):
    """Things that do not belong together or do not match their checksum."""

    exit_code = ExitCode.REFUSED
