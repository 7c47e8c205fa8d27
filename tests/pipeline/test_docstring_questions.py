"""Questions about Python's library: what becomes of a docstring, and the set as a whole."""

import ast
import sys
from collections import Counter

import pytest

from pipeline.conversations import docstrings
from pipeline.conversations.conversation import Conversation, evenly
from pipeline.conversations.docstrings import arguments, library_questions, summary
from pipeline.evaluation.embedded.held_out import is_held_out


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Remove blanks\n    from every line.\n\n    More.\n", "Remove blanks from every line."),
        ("return the name of the file", "Return the name of the file."),
        ("Call :meth:`~a.b.run` or ``stop()`` on it.", "Call a.b.run or stop() on it."),
        ("Open it, e.g. for reading. Close it then.", "Open it, e.g. for reading. Close it then."),
        ("copy(x) -> y\n\nReturn a shallow copy.", "Return a shallow copy."),
        ("Add two numbers.\n>>> add(1, 2)\n3\n", "Add two numbers."),
        ("Count the *lines* of a **file**.", "Count the lines of a file."),
        ("Send all of the data. Returns:\n\n  nothing", "Send all of the data."),
        ("Do nothing at all. See above for (more.", "Do nothing at all."),
        ("Run it (at once.", ""),
        ("XXX should be documented one day.", ""),
        ("Short.", ""),
        ("* first item\n* second item", ""),
        ("", ""),
        ("One sentence that goes on " + "and on " * 40 + ".", ""),
    ],
)  # fmt: skip
def test_a_docstring_gives_its_first_clean_sentences_or_nothing(
    docstring: str, expected: str
) -> None:
    assert summary(docstring) == expected


def test_the_title_of_a_module_is_not_said_again() -> None:
    assert summary("text.wrap - Wrap text\n\nmore", "text.wrap") == ""
    assert summary("wrap.py -- Wrap long lines of text", "text.wrap") == "Wrap long lines of text."


@pytest.mark.parametrize(
    ("source", "method", "expected"),
    [
        ("def f(a: int, /, b='x', *c: str, d=1, **e): ...", False, "a, /, b='x', *c, d=1, **e"),
        ("def f(self, a=None): ...", True, "a=None"),
        ("def f(self, /, a): ...", True, "a"),
        ("def f(*args): ...", True, "*args"),
        ("async def f(): ...", True, ""),
    ],
)  # fmt: skip
def test_arguments_are_given_as_written_without_types(
    source: str, method: bool, expected: str
) -> None:
    [node] = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    assert arguments(node, method=method) == expected


@pytest.fixture(scope="module")
def asked() -> list[Conversation]:
    return list(library_questions())


@pytest.mark.slow
def test_the_library_gives_enough_short_answers_and_no_module_outweighs(
    asked: list[Conversation],
) -> None:
    assert len(asked) >= 2_000
    answers = [turn.content for one in asked for turn in one.turns[1::2]]
    assert max(map(len, answers)) <= 260
    assert max(Counter(one.where for one in asked).values()) <= docstrings.PER_MODULE
    assert max(Counter(answers).values()) <= 6  # three as first answers, as many as second ones
    assert Counter(one.rule for one in asked).keys() == {
        "module", "names", "where", "class", "base", "create", "purpose", "call",
    }  # fmt: skip
    assert all(one.turns[0].role == "user" and len(one.turns) in (2, 4) for one in asked)


@pytest.mark.slow
def test_tests_private_modules_and_what_is_held_out_are_not_asked_about(
    asked: list[Conversation],
) -> None:
    parts = {part for one in asked for part in one.where.split(".")}
    assert not parts & {"test", "tests", "idlelib", "lib2to3"}
    assert not any(part.startswith("_") for part in parts)
    for module in {one.where for one in asked}:
        path = module.replace(".", "/")
        names = [f"{path}.py", f"{path}/__init__.py"]
        assert not all(map(is_held_out, names)), module


def test_reading_the_library_imports_none_of_it_and_gives_the_same_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = [
        one
        for one in docstrings.library_inputs()
        if one.name.startswith(("antig", "cal", "json", "curses"))
    ]
    monkeypatch.setattr(docstrings, "library_inputs", lambda: some)
    before = set(sys.modules)
    first = list(library_questions())
    assert first == list(library_questions()) != []
    assert set(sys.modules) - before == set()


def test_what_lies_evenly_is_in_order_and_never_more_than_asked_for() -> None:
    assert evenly(range(3), 5) == [0, 1, 2]
    assert evenly(range(10), 5) == [1, 3, 5, 7, 9]
    assert len(evenly(range(1000), 7)) == 7
