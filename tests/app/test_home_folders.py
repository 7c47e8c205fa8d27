"""Paths that begin with ~, in every setting that takes a path, typed and in the app."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.commands.parser import parse_stage
from app.tui.forms.draft import Draft
from app.tui.forms.field_spec import Field, fields_of
from app.tui.widgets.completion import Completer
from model.native import build
from pipeline.inference.prompts import read_prompt
from pipeline.options.config import Config
from pipeline.stages import STAGES
from utils.errors import UsageError
from utils.files import home_path

NOBODY = "~nosuch/y"
_NAMES_OR_PATHS = {
    "tokenize.load", "prepare.tokenizer", "train.resume", "train.init_from",
    "inference.checkpoint", "inference.tokenizer", "serve.checkpoint", "serve.tokenizer",
    "export.checkpoint", "export.tokenizer", "bench.checkpoint", "benchmark.checkpoint",
    "benchmark.every_checkpoint", "benchmark.tokenizer", "lima.tokenizer",
    "sft.checkpoint", "sft.resume",
}  # fmt: skip
_TINY = ["--model.hidden-size=16", "--model.num-heads=2", "--model.num-kv-heads=2"]
_TINY += ["--model.num-layers=1", "--steps=2", "--documents=20", "--window=16"]
COMMANDS = {stage.section: stage.command for stage in STAGES}
ENTRIES = [
    field
    for section in Config.model_fields
    for field in fields_of(section)
    if field.kind in ("path", "paths") or field.path in _NAMES_OR_PATHS
]


def _flags(field: Field) -> list[str]:
    """A command that reads the setting, and what it needs to come so far."""
    section, _, name = field.path.partition(".")
    command = COMMANDS.get(section, "prepare")
    more = {"prepare.input": ["--tokenizer", "chars"], "inference.tokenizer": ["--prompt", "a"]}
    more |= {"inference.checkpoint": ["--prompt", "a"], "serve.checkpoint": ["--port", "0"]}
    more |= {"serve.tokenizer": ["--port", "0", "--checkpoint", NOBODY]}
    more |= {"lima.input": ["--tokenizer", "chars"]}
    more |= {"tokenize.input": ["--train", "char"], "rehearse.input": _TINY}
    flag = name if section in COMMANDS else field.path
    return [command, f"--{flag.replace('_', '-')}", NOBODY, *more.get(field.path, [])]


def _slow(field: Field) -> bool:
    return field.path == "rehearse.input"  # it goes on with the other stages


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(field, id=field.path, marks=[pytest.mark.slow] * _slow(field))
        for field in ENTRIES
    ],
)
def test_a_home_that_nobody_has_ends_no_command_in_a_traceback(
    field: Field, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(_flags(field))
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "mistake in Hatchery" not in shown
    if ended.value.code:  # a folder to write may be called so
        assert "Next: " in shown
        assert ended.value.code == (1 if _slow(field) else 2)


@pytest.mark.parametrize(
    "typed",
    [
        ["train", "--config", NOBODY],
        ["prepare", "--source", NOBODY],
        ["inference", "--prompt", f"FILE:{NOBODY}"],
        ["plan", "--init-from", NOBODY, "--no-probe"],
        ["rehearse", "--tokenizer", NOBODY],
        ["jobs", "start", "--", "train", "--resume", NOBODY, "--data", NOBODY, "--seed", "x"],
    ],
    ids=" ".join,
)
def test_nor_where_it_stands_among_others(
    typed: list[str], prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(typed)
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in shown


@pytest.mark.parametrize("field", ENTRIES, ids=lambda field: field.path)
@pytest.mark.parametrize("typed", [NOBODY, "~nosuch", "~root\0/x", "~/x", "~"])
def test_a_form_takes_it_like_any_other_text(field: Field, typed: str) -> None:
    draft = Draft([])
    draft.enter(field, typed)
    assert field.path in draft.changes
    assert asyncio.run(Completer(None, many=field.kind == "paths").get_suggestion(typed)) is None


def _value(config: Config, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)


@pytest.mark.parametrize(
    ("typed", "path", "rest"),
    [
        (["cleanup", "--input", "~/texts", "other"], "cleanup.input", ["texts"]),
        (["cleanup", "--output=~/clean"], "cleanup.output", ["clean"]),
        (["train", "--data=~/a b/tokens"], "train.data", ["a b", "tokens"]),
        (["train", "--paths.checkpoints-dir=~/runs"], "paths.checkpoints_dir", ["runs"]),
        (["export", "--output", "~"], "export.output", []),
    ],
)
def test_ones_own_home_is_found_where_no_shell_has_replaced_it(
    typed: list[str], path: str, rest: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    found = _value(parse_stage(typed).config, path)
    wanted = Path("/home/anna", *rest)
    assert found == ([wanted, Path("other")] if isinstance(found, list) else wanted)


def test_names_that_may_be_paths_are_looked_for_at_home(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(prepared))
    Path("question.txt").write_text("what?\n")
    assert read_prompt("FILE:~/question.txt") == "what?"
    for typed in (
        ["tokenize", "--load=~/tokenizers/chars", "--encode", "hen"],
        ["prepare", "--tokenizer", "~/tokenizers/chars", "--input=~/notes", "--window", "16"],
    ):
        with pytest.raises(SystemExit) as ended:
            main.main(typed)
        assert ended.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("typed", [NOBODY, "~", "~/x", "a/~/b", "./~root"])
def test_without_any_home_a_path_stays_as_it_stands(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posixpath.expanduser", lambda path: path)
    assert str(home_path(typed)) == str(Path(typed))


@pytest.mark.slow
def test_native_code_is_built_without_a_home(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "home_path", lambda path: Path(path))
    assert build.load.__wrapped__(build.DECODE) is not None
    assert list(workspace.iterdir()) == []


def test_the_entries_are_all_there() -> None:
    """A new setting that a path may be typed into stands in one of the two lists."""
    others = {
        "train.name",
        "tokenize.name",
        "cleanup.name",
        "quickstart.name",
        "export.name",
        "prepare.name",
        "benchmark.tasks",
        "benchmark.harness",
        "lima.name",
        "sft.name",
    }
    worded = {
        field.path
        for section in Config.model_fields
        for field in fields_of(section)
        if field.kind in ("text", "texts")
        and re.search("folder|path|file|checkpoint", field.help, re.I)
    }
    assert (
        worded - others - {"inference.prompt", "inference.chat", "download.url"} == _NAMES_OR_PATHS
    )
    with pytest.raises(UsageError):
        read_prompt(f"FILE:{NOBODY}")
