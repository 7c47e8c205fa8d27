"""Every flag that a sentence of the source or README.md names is one that its command has, with the
value that stands behind it, and README.md's command lines are understood."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from cyclopts import CycloptsError

from app.cli.chat import chat_app
from app.cli.jobs import job_app
from app.cli.runs import runs_app
from app.commands.parser import parse_stage
from pipeline.stages import STAGES
from tests.conftest import ROOT
from tests.whole.test_layers import SOURCES
from utils.errors import HatcheryError

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [stage.command for stage in STAGES]
OTHERS = {"jobs": job_app, "runs": runs_app, "chat": chat_app}
LOADING = "inference serve"
TRAINING = "train rehearse plan"

SAID_BY = {
    "app/": "train",
    "app/tui/board/corpora_screen.py": "cleanup tokenize prepare train rehearse",
    "model/checkpoint.py": "train",
    "model/device.py": f"{TRAINING} {LOADING} bench",
    "model/generation/batch.py": "inference",
    "model/layers/attention.py": f"{TRAINING} {LOADING} bench",
    "pipeline/benchmark/": "benchmark",
    "pipeline/benchmark/speed/": "bench",
    "pipeline/cleaner/": "cleanup",
    "pipeline/conversations/": "lima",
    "pipeline/corpora.py": "cleanup tokenize prepare train rehearse",
    "pipeline/evaluation/": "benchmark",
    "pipeline/export/": "export",
    "pipeline/inference/": LOADING,
    "pipeline/inference/prompts.py": "inference",
    "pipeline/inference/stage.py": "inference",
    "pipeline/options/config.py": TRAINING,
    "pipeline/options/data.py": "cleanup prepare",
    "pipeline/options/inference.py": "benchmark",
    "pipeline/options/tuning.py": "lima",
    "pipeline/options/training.py": TRAINING,
    "pipeline/planning/": "plan",
    "pipeline/prep/": "prepare",
    "pipeline/quickstart.py": "quickstart",
    "pipeline/rehearsal/": "rehearse train",
    "pipeline/rehearsal/model_stages.py": "rehearse",
    "pipeline/runs/": TRAINING,
    "pipeline/runs/inventory.py": "train inference serve export bench",
    "pipeline/server/": "serve",
    "pipeline/sft/": "sft",
    "pipeline/source_table.py": "cleanup",
    "pipeline/sources/": "cleanup prepare",
    "pipeline/sources/fetch.py": "download",
    "pipeline/tokenizer/": "tokenize",
    "pipeline/tokenizer/load.py": f"{LOADING} export",
    "pipeline/tokens/": TRAINING,
    "pipeline/train/": TRAINING,
    "pipeline/workers.py": "cleanup prepare",
}
"""The commands that show what is said in a file or folder; the longest name that fits counts."""

ELSEWHERE = {
    "app/cli/jobs.py": "flags of jobs",
    "app/cli/runs.py": "flags of runs",
    "app/web/command.py": "flags of web",
    "utils/errors.py": "flags of the command, by tests/utils/test_errors.py",
}
WORDS = {"and", "as", "calls", "costs", "counts", "each", "exclude", "for", "holds", "means"}
WORDS |= {"measures", "names", "needs", "of", "or", "silences", "so", "that", "to", "with", "would"}
WORDS |= {"writes", "away", "chooses", "in", "keeps", "learns", "says", "trains", "instead", "took"}
"""What may stand behind a flag without being its value."""

FILLED_IN = "\0"
SAMPLES = ([], ["1"], ["auto"], ["tiny"], ["bpe"], ["http://localhost:3000"])
"""Values for flags that are named without one."""


class Sentence(NamedTuple):
    """A text of the source that names flags; what is put in is `FILLED_IN`."""

    file: str
    line: int
    text: str


def _sentences() -> Iterator[Sentence]:
    for path in SOURCES:
        file = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        inside = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
        statements = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in inside | statements or not isinstance(
                node, ast.Constant | ast.JoinedStr
            ):
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                str(p.value) if isinstance(p, ast.Constant) else FILLED_IN for p in parts
            )
            if " " in text.strip() and re.search(r"(?<![\w-])--[a-z]", text) and "{\n" not in text:
                yield Sentence(file, node.lineno, text)


SENTENCES = [pytest.param(s, id=f"{s.file}:{s.line}") for s in _sentences()]


def _commands_of(file: str) -> list[str]:
    fitting = [place for place in SAID_BY if file.startswith(place)]
    assert fitting, f"which commands show what {file} says?"
    return SAID_BY[max(fitting, key=len)].split()


@cache
def _accepts(command: str, *words: str) -> bool:
    """Whether a command line is understood; that values may not go together is its own matter."""
    try:
        if command in OTHERS:
            OTHERS[command]().parse_args(list(words), exit_on_error=False, print_error=False)
        else:
            parse_stage([command, *words])
    except (HatcheryError, CycloptsError) as error:
        problem = str(error)
        return not re.search("Unknown option|requires an argument|Invalid value|not valid", problem)
    return True


def _has(command: str, flag: str, behind: str) -> bool:
    """Whether a command has `flag`, with the value `behind` it unless that is no value."""
    value = re.match(r"(?:\"([^\"]*)\"|([^\s,;:()]+))", behind.removeprefix(" ").replace("'", ""))
    word = (value[1] if value and value[1] is not None else value and value[2]) or ""
    given = word.rstrip(".")
    is_value = behind.startswith(" ") and re.match(r"[\w./*]", given) and given not in WORDS
    if not is_value or given.isupper():
        return any(_accepts(command, flag, *some) for some in SAMPLES)
    return _accepts(command, flag, given)


def _named(text: str) -> Iterator[tuple[str, str, str]]:
    """The flags in a text, each with the last command that is named before, or none, and with what
    stands behind it."""
    known = "|".join([*COMMANDS, *OTHERS])
    for found in re.finditer(r"(?<![\w-])--[a-z][\w.-]*\w", text):
        if text[found.end() :].startswith((f".{FILLED_IN}", FILLED_IN)):
            continue  # known only when it is said
        before = re.split(r"[;:]|, or ", text[: found.start()])[-1]
        commands = re.findall(rf"(?<![\w./-])({known})(?![\w.-])", before)
        yield commands[-1] if commands else "", found[0], text[found.end() :]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_flag_that_a_sentence_names_is_one_of_its_command(sentence: Sentence) -> None:
    if sentence.file in ELSEWHERE:
        return
    missing = [
        f"{command} {flag}{behind[:20]}"
        for said, flag, behind in _named(sentence.text)
        for command in ([said] if said else _commands_of(sentence.file))
        if not _has(command, flag, behind)
    ]
    assert missing == []


def test_there_are_sentences_to_look_at() -> None:
    assert len(SENTENCES) > 70


@pytest.mark.parametrize(
    "said", ["--max-new-tokens instead", "--precision fp8", "--wide", "--top-k or", "--dtype bf16"]
)
def test_what_a_command_does_not_have_is_noticed(said: str) -> None:
    [(_, flag, behind)] = _named(said)
    assert _has("inference", flag, behind) is (flag == "--top-k")


# What README.md says.


def _code() -> Iterator[str]:
    """What stands in the README as code: lines of blocks, and between backticks."""
    blocks = re.findall(r"```\w*\n(.*?)```", README, re.S)
    yield from (line.strip() for block in blocks for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```\w*\n.*?```", "", README, flags=re.S))


def _lines() -> Iterator[list[str]]:
    """The command lines among it, without the program and without what is left to the reader."""
    for text in _code():
        found = re.fullmatch(r"(?:.*: )?(?:python main\.py )?([a-z]+(?: .*)?)", text)
        words = shlex.split(found[1].replace("…", ""), comments=True) if found else []
        if words and words[0] in {*COMMANDS, *OTHERS, "web"}:
            yield words


def test_the_readme_names_many_command_lines() -> None:
    assert len(list(_lines())) > 25


@pytest.mark.parametrize("words", _lines(), ids=" ".join)
def test_every_command_line_of_the_readme_is_understood(words: list[str], workspace: Path) -> None:
    command, *rest = words
    if command == "web":
        assert rest == []
    elif rest and rest[-1].startswith("--"):  # its value is left to the reader
        assert _has(command, rest[-1], "")
    else:
        assert _accepts(command, *rest)


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in _code() if text.startswith("--")])
def test_every_flag_of_the_readme_exists_and_takes_what_it_says(text: str, workspace: Path) -> None:
    if text.startswith("--model local-completions"):
        return  # of lm-evaluation-harness
    Path("config.json").write_text("{}")
    flag, _, values = text.partition(" ")
    for value in values.split("|"):
        said = {"N": "4", "FILE": "config.json"}.get(value, value)
        tried = [[flag, said]] if value else [[flag, *some] for some in SAMPLES]
        assert any(_accepts(command, *words) for command in COMMANDS for words in tried), value
