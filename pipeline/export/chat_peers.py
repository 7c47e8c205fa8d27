"""What an export has written, read as other programs read it: conversations to token ids by
transformers, by llama.cpp, or by the fields of a GGUF file where llama.cpp is not installed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from pipeline.chat.renderer import TemplateError, TemplateRenderer
from pipeline.export import peer_process
from pipeline.export.proof_conversations import Turns
from utils.errors import HatcheryError

SECONDS = 300.0  # an import alone takes many where the machine is busy
Ids: TypeAlias = list[int]


class Request(NamedTuple):
    """A conversation, and whether the beginning of an answer is to follow it."""

    turns: Turns
    answer: bool

    @property
    def messages(self) -> list[dict[str, str]]:
        return [turn._asdict() for turn in self.turns]


class Encoded(NamedTuple):
    """What a program, called by name and version, made of requests in their order: ids, or why it
    does not take one."""

    program: str
    ids: list[Ids | str]


class Peer(Protocol):
    """Another program with the folder or file that was exported."""

    def encode(self, requests: Sequence[Request]) -> Encoded | None:
        """Ids of each; None where the program is not installed.

        Raises:
            HatcheryError: it cannot open what was exported, or does not answer.
        """
        ...


class Transformers:
    """transformers with the model folder at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def encode(self, requests: Sequence[Request]) -> Encoded | None:
        """See `Peer`."""
        return _by_program("transformers", self._path, requests)


class LlamaCpp:
    """llama.cpp with the GGUF file at `path`; where it is not installed, what the file's own fields
    say."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def encode(self, requests: Sequence[Request]) -> Encoded | None:
        """See `Peer`."""
        return _by_program("llama.cpp", self._path, requests) or self._by_fields(requests)

    def _by_fields(self, requests: Sequence[Request]) -> Encoded:
        from pipeline.export.gguf_reading import GgufTokenizer  # 200 ms

        file = GgufTokenizer(self._path)
        template = TemplateRenderer(file.template)
        known = {"bos_token": file.bos, "eos_token": file.eos, "tools": None}
        ids: list[Ids | str] = []
        for request in requests:
            given = known | {"messages": request.messages, "add_generation_prompt": request.answer}
            try:
                ids.append(file.encode(template.render(given)))
            except TemplateError as error:
                ids.append(str(error))
        return Encoded("the GGUF file", ids)


def _by_program(program: str, path: Path, requests: Sequence[Request]) -> Encoded | None:
    """What `pipeline.export.peer_process` answers; None where the program is not installed."""
    asked = {
        "program": program,
        "path": str(path.absolute()),
        "requests": [(request.messages, request.answer) for request in requests],
    }
    problem = f"{program} does not read the chat template of what was exported."
    try:
        done = subprocess.run(
            [sys.executable, "-P", peer_process.__file__],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HatcheryError(
            problem, found=f"no answer within {SECONDS:g} seconds", remedy="export it again"
        ) from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise HatcheryError(
            problem,
            found=lines[-1] if lines else f"it ended with {done.returncode}",
            remedy=f"open it there yourself, or install another version of {program}",
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "missing" in answer:
        return None
    return Encoded(f"{program} {answer['version']}", answer["ids"])
