"""Everything in the source that advises a command, and commands run as they were printed.

A place that advises is called `file:function`, with `#2` and so on where a function does so more
than once: `commands=` of an error or event, a call of `as_typed`, and text that spells a command
out.
"""

import ast
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from app.cli import main
from utils.errors import HatcheryError, as_typed

ROOT = Path(__file__).parents[2]
PROGRAM = "python main.py"
LINE = "The small hen lays an egg under the green bush, and the old fox looks at it.\n"
Arrange = Callable[[], list[str]]
_LAYERS = ("app", "pipeline", "model", "utils")


class Place(NamedTuple):
    """A place that advises, and the lines it takes in its file."""

    name: str
    first: int
    last: int


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@cache
def places() -> dict[str, list[Place]]:
    """All places that advise, by file relative to the project."""
    found = {}
    for layer in _LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            seen: dict[str, int] = {}
            found[file] = [
                Place(_numbered(f"{file}:{name}", seen), node.lineno, node.end_lineno or 0)
                for name, node in _advising(ast.parse(path.read_text()), "")
            ]
    return {file: inside for file, inside in found.items() if inside}


def _numbered(name: str, seen: dict[str, int]) -> str:
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def _advising(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _advising(child, f"{function}.{child.name}".removeprefix("."))
        elif (isinstance(child, ast.Call) and _gives_commands(child)) or (
            isinstance(child, ast.Constant | ast.JoinedStr) and _spells(child)
        ):
            yield function, child
        else:
            yield from _advising(child, function)


def _gives_commands(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and call.func.attr == "advising":
        return len(call.args) > 1
    called = call.func.id if isinstance(call.func, ast.Name) else ""
    return called == "as_typed" or any(keyword.arg == "commands" for keyword in call.keywords)


def _spells(node: ast.Constant | ast.JoinedStr) -> bool:
    texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    whole = "".join(text for text in texts if isinstance(text, str))
    return PROGRAM in whole


@contextmanager
def recorded() -> Iterator[list[tuple[str, HatcheryError]]]:
    """The errors with commands that are made meanwhile, each with its place."""
    made: list[tuple[str, HatcheryError]] = []
    init = HatcheryError.__init__

    def recording(error: HatcheryError, *args: Any, **values: Any) -> None:
        init(error, *args, **values)
        if values.get("commands"):
            made.append((_place_of(sys._getframe(1)), error))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HatcheryError, "__init__", recording)
        yield made


def _place_of(frame: FrameType | None) -> str:
    while frame is not None:
        path, line = Path(frame.f_code.co_filename), frame.f_lineno
        file = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        inside = [p.name for p in places().get(file, []) if p.first <= line <= p.last]
        if frame.f_code.co_name not in ("__init__", "advising"):
            return inside[0] if inside else f"{file}:{line}"
        if inside and not inside[0].endswith("__init__"):
            return inside[0]
        frame = frame.f_back
    raise AssertionError("an error that nobody made")


def typed(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> Outcome:
    """Run `python main.py` with these words, in this process."""
    capfd.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Once")))
        with pytest.raises(SystemExit) as ended:
            main.main(list(words))
    shown = capfd.readouterr()
    return Outcome(int(ended.value.code or 0), shown.out, shown.err)


def pasted(line: str, capfd: pytest.CaptureFixture[str]) -> Outcome:
    """Run a command as it was printed."""
    program, script, *words = shlex.split(line)
    assert [program, script] == PROGRAM.split()
    return typed(words, capfd)


def filled(command: Sequence[str], values: Mapping[str, str]) -> str:
    """The command as printed, with what a person puts in place of words in capitals."""
    return as_typed([values.get(word, word) for word in command])


def made(*words: str) -> None:
    """Run `python main.py` with these words, which must work."""
    with pytest.raises(SystemExit) as ended:
        main.main(list(words))
    assert not ended.value.code, words


class Situation(NamedTuple):
    """`arrange` brings an error about, or returns what is to be typed for it; `values` are what a
    person puts in place of words in capitals, `then` what the advice leaves to their hands."""

    arrange: Arrange
    values: Mapping[str, str]
    then: Callable[[], None]

    def check(self, place: str, hub: str, capfd: pytest.CaptureFixture[str]) -> None:
        """Whether each command of the error made at `place` works, one after the other."""
        with recorded() as errors:
            try:
                words = self.arrange()
            except HatcheryError:
                words = []
            failed = typed(words, capfd) if words else None
        place = place.partition(" (")[0]  # where one place has several situations
        error = next((error for name, error in reversed(errors) if name == place), None)
        assert error is not None, ([name for name, _ in errors], failed)
        os.environ["HF_ENDPOINT"] = hub
        self.then()
        for command in error.commands:
            assert as_typed(command) in (failed.err if failed else error.remedy)
            line = filled(command, self.values)
            assert line != as_typed(command) or not _capitals(command), line
            done = pasted(line, capfd)
            assert done.code == 0, (line, done.err)


def _capitals(command: Sequence[str]) -> list[str]:
    return [word for word in command if re.fullmatch(r"[A-Z_]{2,}", word)]


def advises(
    known: dict[str, Situation],
    place: str,
    then: Callable[[], None] = lambda: None,
    **values: str,
) -> Callable[[Arrange], Arrange]:
    """Marks the function that makes the situation of a place; see `Situation`."""

    def noted(arrange: Arrange) -> Arrange:
        known[place] = Situation(arrange, values, then)
        return arrange

    return noted


def advised(text: str) -> list[str]:
    """The commands that a text spells out."""
    return re.findall(r"python main\.py(?: (?:'[^']*'|[^\s;,)'])+)*", text)
