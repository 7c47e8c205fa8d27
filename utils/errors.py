"""One exception base and the exit codes.

An error the user can meet has three parts: what is missing, what was found, and the exact next
command. Anything else that escapes is our own mistake and keeps its traceback.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a process of ours ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    INTERRUPTED = 130
    TERMINATED = 143


class HatcheryError(Exception):
    """A failure with a cause and a remedy; `str()` is one paragraph fit for a terminal."""

    exit_code = ExitCode.FAILED

    def __init__(self, problem: str, *, found: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.found = found
        self.remedy = remedy
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
