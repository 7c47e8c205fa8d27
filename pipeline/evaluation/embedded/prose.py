"""English in Python's library: docstrings, comments and pages of the language reference."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from pipeline.sources.documents import Document

_COMMENT = re.compile(r"(?:^[ \t]*#(?: .*)?\n)+", re.MULTILINE)
_COMMENTED = re.compile(
    r"(?P<comment>(?:^(?P<indent>[ ]+)#[ ].*\n)+)(?P=indent)(?P<line>[^#\s].{12,70})\n",
    re.MULTILINE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)\s+(?=[A-Z\"'`(])")
# Examples, tables, headings and lists are no sentences.
_NO_PROSE = re.compile(r"^(?:\s*>>>|\s{4}|\s*[-*=~+#.|]|.*::$)", re.MULTILINE)
_SENTENCE = re.compile(r"[A-Z][^\n]*[a-z)\"'`][.!?]")
_LONGEST_SIGNATURE = 160  # characters

_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Definition(NamedTuple):
    """A function or class, as it is written up to its colon (a method below its class), its name,
    the first sentence of its docstring, and whether it is in a class."""

    signature: str
    name: str
    sentence: str
    in_class: bool


def passages(document: Document) -> Iterator[list[str]]:
    """The sentences of each stretch of prose in docstrings, comments or a page of reference."""
    for text in _texts(document):
        yield from stretches(text)


def stretches(text: str) -> Iterator[list[str]]:
    """The sentences of a text, blanks evened; a new list behind what is no prose."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        pieces = [] if _NO_PROSE.search(paragraph) else _SENTENCE_END.split(_evened(paragraph))
        for piece in pieces or [""]:
            if _SENTENCE.fullmatch(piece):
                found.append(piece)
            elif found:
                yield found
                found = []
    if found:
        yield found


def first_sentence(docstring: str) -> str:
    """The first sentence or the title of a docstring, without a full stop; may be nothing."""
    paragraph = re.split(r"\n\s*\n", docstring.strip())[0]
    if _NO_PROSE.search(paragraph):
        paragraph = paragraph.split("\n")[0]
    return _SENTENCE_END.split(_evened(paragraph))[0].removesuffix(".")


def _evened(text: str) -> str:
    return " ".join(text.split())


def definitions(document: Document) -> Iterator[Definition]:
    """The functions and classes of a module that have a docstring."""
    tree = _tree(document)
    if tree is not None:
        yield from _definitions_in(tree, "")


def commented_lines(document: Document) -> Iterator[tuple[str, str]]:
    """Comments with the line of code below them, both at the depth of a function's body."""
    for match in _COMMENTED.finditer(document.text):
        lines = [line.strip() for line in match["comment"].splitlines()]
        if match["line"][-1] not in "(,\\" and _tree(document) is not None:
            yield "\n".join(f"    {line}" for line in lines), match["line"]


def _definitions_in(parent: ast.AST, lead: str) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(parent):
        if not isinstance(node, _Definition):
            if isinstance(node, ast.stmt):
                yield from _definitions_in(node, lead)
            continue
        signature = _signature(node)
        first = first_sentence(ast.get_docstring(node) or "")
        if first and len(lead + signature) <= _LONGEST_SIGNATURE:
            yield Definition(lead + signature, node.name, first, bool(lead))
        if isinstance(node, ast.ClassDef):
            yield from _definitions_in(node, f"class {node.name}:\n    ")


def _signature(node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{keyword} {node.name}({ast.unparse(node.args)}):"


def _texts(document: Document) -> Iterator[str]:
    tree = _tree(document)
    if tree is None:
        _, _, page = document.text.partition("\n\n")  # behind its heading
        yield page
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | _Definition):
            yield ast.get_docstring(node) or ""
    for block in _COMMENT.finditer(document.text):
        lines = [line.strip().removeprefix("#")[1:] for line in block[0].splitlines()]
        yield inspect.cleandoc("\n".join(lines))


@functools.lru_cache(maxsize=1)
def _tree(document: Document) -> ast.Module | None:
    """A module parsed, empty where it is for another Python; None for a page of the reference."""
    if not document.id.endswith(".py"):
        return None
    try:
        return ast.parse(document.text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])
