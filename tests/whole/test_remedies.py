"""Every error that advises a command carries it as data, and the command line understands it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.chat import chat_app
from app.cli.jobs import job_app
from app.cli.runs import runs_app
from app.commands.parser import parse_stage
from pipeline.stages import STAGES
from tests.whole.test_layers import ROOT, SOURCES
from utils.errors import HatcheryError

PROGRAM = "python main.py"
OTHERS = {"jobs": job_app, "runs": runs_app, "chat": chat_app}
IN_WORDS = {
    "app/jobs/dependencies.py": "a warning of a job that goes on waiting, which nobody starts",
    "pipeline/server/engine/catalogue.py": "the answer to a request, read by a person elsewhere",
}
SAMPLE = {"port": "8001", "other": "8001"}
"""Values in place of those that a raise site only knows when it raises; others are a word."""


def _calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node


def _argument(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _texts(node: ast.AST) -> str:
    """All literal text under a node; what is put in is left out."""
    parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return "".join(part for part in parts if isinstance(part, str))


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return next((SAMPLE[name] for name in names if name in SAMPLE), "python")


def _commands(call: ast.Call) -> Iterator[tuple[str, ...]]:
    """The commands that stand at a raise site, with sample values; those made elsewhere not."""
    given = _argument(call, "commands")
    for node in ast.walk(given) if given is not None else ():
        if isinstance(node, ast.Tuple) and all(not isinstance(e, ast.Tuple) for e in node.elts):
            words = [e for e in node.elts if not isinstance(e, ast.Starred)]
            if words and isinstance(words[0], ast.Constant) and isinstance(words[0].value, str):
                yield tuple(_word(word) for word in words)


RAISED = [
    pytest.param(command, id=f"{path.relative_to(ROOT)}:{call.lineno}:{command[0]}")
    for path in SOURCES
    for call in _calls(path)
    for command in _commands(call)
]


@pytest.mark.slow
def test_no_remedy_spells_a_command_out() -> None:
    """Those that do could not be started by whoever reads the failure."""
    spelt = {
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        if str(path.relative_to(ROOT)) not in IN_WORDS
        for call in _calls(path)
        for name in ("remedy", "found")
        if (text := _argument(call, name)) is not None and PROGRAM in _texts(text)
    }
    assert spelt == set()


@pytest.mark.slow
def test_a_remedy_has_a_place_for_each_command_at_its_side() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for call in _calls(path)
        if isinstance(given := _argument(call, "commands"), ast.List)
        and (remedy := _argument(call, "remedy")) is not None
        and not any(isinstance(node, ast.Name) for node in ast.walk(remedy))
        and _texts(remedy).count("{}") != len(given.elts)
    }
    assert wrong == set()


def test_there_are_raise_sites_to_look_at() -> None:
    assert len(RAISED) > 40


@pytest.mark.parametrize("command", RAISED)
def test_the_command_line_understands_every_advised_command(
    command: tuple[str, ...], workspace: Path
) -> None:
    if command[0] in {stage.command for stage in STAGES}:
        assert parse_stage(command).stage.command == command[0]
    elif command[0] in OTHERS:
        other = OTHERS[command[0]]()
        other.parse_args(list(command[1:]), exit_on_error=False, print_error=False)
    else:
        assert command[0] in ("web", "--help")


def test_a_sentence_is_made_of_the_commands() -> None:
    commands = [("train",), ("inference", "--prompt", "a {} b")]
    error = HatcheryError("a", remedy="do {}; or {} {}", commands=commands)
    typed = "do python main.py train; or python main.py inference --prompt 'a {} b' {}"
    assert (error.remedy, error.commands) == (typed, tuple(commands))
    assert HatcheryError("a", remedy="mend {}").remedy == "mend {}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_ends_where_its_sentence_pauses(path: Path) -> None:
    """So that nobody copies a word too many."""
    running_on = {
        f"{call.lineno}: {words}"
        for call in _calls(path)
        if _argument(call, "commands") is not None
        and (remedy := _argument(call, "remedy")) is not None
        for node in ast.walk(remedy)
        if isinstance(node, ast.Constant) and isinstance(words := node.value, str)
        if re.search(r"\{\}(?![,;)]|$| or | and \{)", words)
    }
    assert running_on == set()
