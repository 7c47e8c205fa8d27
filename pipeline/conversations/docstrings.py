"""Questions and answers about Python's library, from its own docstrings and signatures.

The files are read and parsed, never imported, so that no code runs. The answers are the first
sentences of docstrings, signatures, and lists of names; the forms of the questions stand below.
Modules that training holds out for validation are left out here too: the tests that a model of the
library is judged by are made of them. On one version of Python the set is always the same.
"""

import ast
import builtins
import hashlib
import inspect
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from pipeline.conversations.conversation import Conversation, Turn, evenly
from pipeline.evaluation.embedded.held_out import is_held_out
from pipeline.sources.python_library import library_inputs

PURPOSE = (
    "What does {} do?",
    "What is {} for?",
    "Explain {}.",
    "Describe {}.",
)
CLASS = ("What is {}?", "What is the class {}?", "Explain the class {}.", "Describe {}.")
MODULE = (
    "What is the module {} for?",
    "What does the module {} do?",
    "Explain the module {}.",
    "What is {}?",
)
CALL = ("How do I call {}?", "What is the signature of {}?", "What arguments does {} take?")
CREATE = ("How do I create {}?", "How do I make {}?", "How is {} created?")
NAMES = ("What is in the module {}?", "What does the module {} offer?")
WHERE = ("Which module has {}?", "Where do I find {}?", "In which module is {}?")
BASE = ("What is the base class of {}?", "Which class does {} extend?")
THEN_CALL = ("How do I call it?", "And how do I call it?", "Show me how to call it.")
"""The forms of the questions; which one asks for a name follows from a hash of the name."""

PER_MODULE = 50
"""Questions about one module at most, those that lie evenly over it: tkinter alone has 1,500."""

_LONGEST, _SHORTEST = 220, 16  # characters of an answer from a docstring
_LONGEST_CALL = 100  # characters of a signature
_NAMES = 6  # of a module at most, in an answer
_SAME = 3  # items at most that give the same answer
_FOLLOWED = 4  # of so many functions one is asked about in two turns
_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`[~!]?([^`<]{1,80})(?:<[^`]{0,80}>)?`")
_CODE = re.compile(r"``?([^`\n]{1,80})``?'?")
_MARKED = re.compile(r"\*\*([^*\n]{1,80})\*\*|\*(\w{1,30})\*")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.)(?<!cf\.)(?<! [A-Z]\.)\s+(?=[A-Z\"'(])"
)
_NO_PROSE = re.compile(r"^(?:\s*>>>|\s{2,}\S|\s*[-*=~+#.|@:]|.*::$|.*[:=]$)", re.MULTILINE)
_SIGNATURE = re.compile(
    r"[\w.]+\(.*?\)(?: ?(?:->|=>) ?[\w\[\], ]{1,40}?)?(?:\.$|:|\s--?\s|\s*\n|$)\s*"
)
_TITLED = re.compile(r"(?:[Mm]odule )?([\w.]+?)(?:\.py)?\s*(?:--?|—|:)\s+")
_UNCLEAR = re.compile(
    r"XXX|TODO|FIXME|https?://|[<>{}|\\_^]{2}|\bPEP \d|\.\.\.|see (?:above|below)|^\W|--|\bRFC\b|"
    r"docstring| [:=<>]+ |^\w+ -> |"
    r"^(?:See|Test|Internal|Helper|Implementation|Same as|Like|Ditto|The above)\b",
)
_VERBS = re.compile(r"[A-Z][\w-]*(?: [\w'\"(].*)?")
_LEFT_OUT = frozenset({"test", "tests", "__main__", "turtledemo", "lib2to3", "idlelib"})

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class _Item(NamedTuple):
    """A question about `name` with its answer, and what follows on it in a second turn."""

    kind: str
    forms: Sequence[str]
    name: str
    answer: str
    call: str = ""


class _Module(NamedTuple):
    name: str
    tree: ast.Module


def library_questions() -> Iterator[Conversation]:
    """The questions of every module, in the order of their names.

    Raises:
        HatcheryError: this Python has no library as files.
    """
    found: list[tuple[str, list[_Item]]] = []
    places: Counter[str] = Counter()
    for module in _modules():  # a tree is large: each goes before the next is read
        items = list(_items(module))
        places.update(item.name for item in items if item.kind == "where")
        found.append((module.name, items))
    said: Counter[str] = Counter()
    for name, items in found:
        clear = [item for item in items if item.kind != "where" or places[item.name] == 1]
        for item in evenly(clear, PER_MODULE):
            said[item.answer] += 1
            if said[item.answer] <= _SAME:
                yield _conversation(item, name)


def module_questions(path: str, source: str) -> Iterator[Conversation]:
    """The questions about one module of anybody's, which is called as its path says; none of what
    cannot be parsed. Where a name is defined is not asked: others may define it too."""
    module = _parsed(path, source)
    if module is not None:
        items = [item for item in _items(module) if item.kind != "where"]
        for item in evenly(items, PER_MODULE):
            yield _conversation(item, path)


def _modules() -> Iterator[_Module]:
    """Public modules of the library; what is for another Python is passed over."""
    for source in library_inputs():
        private = any(
            part.startswith("_") or part in _LEFT_OUT
            for part in source.name.removesuffix(".py").removesuffix("/__init__").split("/")
        )
        if source.form != "code" or private or is_held_out(source.name):
            continue
        module = _parsed(source.name, source.path.read_bytes())
        if module is not None:
            yield module


def _parsed(path: str, source: str | bytes) -> _Module | None:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the author of the code should mend
            return _Module(name, ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _public(parent: ast.Module | ast.ClassDef) -> Iterator[_Function | ast.ClassDef]:
    """Functions and classes that are defined directly in a module or class, each name once."""
    seen: set[str] = set()
    for node in parent.body:
        if not isinstance(node, _Function | ast.ClassDef):
            continue
        if not node.name.startswith("_") and node.name not in seen:
            seen.add(node.name)
            yield node


def _items(module: _Module) -> Iterator[_Item]:
    name, tree = module
    if answer := summary(ast.get_docstring(tree) or "", title=name):
        yield _Item("module", MODULE, name, answer)
    names = [node.name for node in _public(tree)]
    if 1 < len(names) <= _NAMES:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        yield _Item("names", NAMES, name, f"The module {name} has {listed}.")
    for node in _public(tree):
        full = f"{name}.{node.name}"
        if len(node.name) > 3 and not hasattr(builtins, node.name):
            yield _Item("where", WHERE, node.name, f"{node.name} is in the module {name}.")
        if isinstance(node, ast.ClassDef):
            yield from _class(full, node)
        else:
            yield from _function(full, node, call=f"{full}({arguments(node)})")


def _class(full: str, node: ast.ClassDef) -> Iterator[_Item]:
    if answer := summary(ast.get_docstring(node) or "", title=node.name):
        yield _Item("class", CLASS, full, answer)
    if len(node.bases) == 1 and isinstance(node.bases[0], ast.Name | ast.Attribute):
        base = ast.unparse(node.bases[0])
        if base != "object" and not base.rpartition(".")[2].startswith("_"):
            yield _Item("base", BASE, full, f"The base class of {full} is {base}.")
    made = next((one for one in node.body if getattr(one, "name", "") == "__init__"), None)
    if isinstance(made, _Function):
        call = f"{full}({arguments(made, method=True)})"
        if len(call) <= _LONGEST_CALL:
            yield _Item("create", CREATE, full, call)
    for method in _public(node):
        if isinstance(method, _Function):
            static = any(getattr(one, "id", "") == "staticmethod" for one in method.decorator_list)
            call = f"{method.name}({arguments(method, method=not static)})"
            yield from _function(
                f"{full}.{method.name}", method, call=f"{call}, called on an instance of {full}."
            )


def _function(full: str, node: _Function, call: str) -> Iterator[_Item]:
    """What it does, and how it is called; nothing of one without a docstring, or that is read like
    a variable."""
    answer = summary(ast.get_docstring(node) or "")
    decorators = {ast.unparse(one) for one in node.decorator_list}
    plain = not decorators - {"staticmethod", "classmethod"}
    short = len(call) <= _LONGEST_CALL + len(full)
    if answer:
        yield _Item("purpose", PURPOSE, full, answer, call if plain and short else "")
        if plain and short:
            yield _Item("call", CALL, full, call)


def arguments(node: _Function, *, method: bool = False) -> str:
    """The arguments of a function as they are written, without types, and without the object of
    a `method`."""
    given = node.args
    posonly, plain, named = (
        [ast.arg(one.arg) for one in part]
        for part in (given.posonlyargs, given.args, given.kwonlyargs)
    )
    if method:
        del (posonly or plain)[:1]
    more, keywords = (one and ast.arg(one.arg) for one in (given.vararg, given.kwarg))
    return ast.unparse(
        ast.arguments(posonly, plain, more, named, given.kw_defaults, keywords, given.defaults)
    )


def summary(docstring: str, title: str = "") -> str:
    """The first sentences of a docstring as plain text; empty where it has none that are clean.

    Marks of reStructuredText go, as does a signature or the module's `title` in front. A first
    paragraph that is a list, an example or a table gives its first line, if that is a sentence.
    """
    text = inspect.cleandoc(docstring).strip()
    if found := _SIGNATURE.match(text):
        text = text[found.end() :].strip()
    paragraph = re.split(r"\n\s*\n", text)[0]
    titled = _TITLED.match(paragraph)
    if titled and titled[1].lower() in (title.lower(), title.lower().rpartition(".")[2]):
        paragraph = paragraph[titled.end() :]
    if _NO_PROSE.search(paragraph):
        paragraph = paragraph.split("\n")[0]
    sentences = _SENTENCE_END.split(" ".join(_plain(paragraph).split()))
    answer = ""
    for sentence in sentences:
        if _is_clean(sentence) and len(f"{answer} {sentence}") <= _LONGEST:
            answer = f"{answer} {_whole(sentence)}".strip()
        else:
            break
    return answer if len(answer) >= _SHORTEST else ""


def _plain(text: str) -> str:
    """Text without the marks of reStructuredText."""
    text = _CODE.sub(r"\1", _ROLE.sub(r"\1", text))
    return _MARKED.sub(lambda found: found[1] or found[2], text)


def _whole(sentence: str) -> str:
    """A sentence with a capital and a full stop."""
    first = sentence.split(" ", 1)[0]
    if first.islower() and first.isalpha():
        sentence = sentence[0].upper() + sentence[1:]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _is_clean(sentence: str) -> bool:
    """Whether it reads as a sentence: words, brackets and quotes in pairs, no reference to what
    stands elsewhere."""
    words = sentence.split()
    paired = all(sentence.count(a) == sentence.count(b) for a, b in ("()", "[]", "{}"))
    quoted = sentence.count('"') % 2 == 0 and sentence.count("`") == 0
    letters = sum(map(str.isalpha, sentence)) >= 0.6 * len(sentence)
    ends = sentence[-1:].isalnum() or sentence.endswith((".", "!", "?", ")", "'", '"'))
    clear = _UNCLEAR.search(sentence) is None and _VERBS.match(_whole(sentence)) is not None
    return len(words) > 2 and paired and quoted and letters and ends and clear


def _conversation(item: _Item, module: str) -> Conversation:
    number = int.from_bytes(hashlib.sha256(item.name.encode()).digest()[:4], "big")
    question = item.forms[number % len(item.forms)].format(item.name)
    turns = [Turn("user", question), Turn("assistant", item.answer)]
    if item.call and number // 64 % _FOLLOWED == 0:
        turns += [
            Turn("user", THEN_CALL[number % len(THEN_CALL)]),
            Turn("assistant", item.call),
        ]
    return Conversation(tuple(turns), module, item.kind)
