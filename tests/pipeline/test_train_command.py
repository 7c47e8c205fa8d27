"""Commands that advise a training: they carry what was typed, and they run on the data there is."""

import shlex
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import msgspec
import pytest

from app.commands.parser import parse_stage
from pipeline.events import Event, Finished
from pipeline.options.command import changed_flags, train_command
from pipeline.options.config import CleanupOptions, PrepareOptions, Settings
from pipeline.planning.inputs import read_inputs
from pipeline.planning.remedies import remedies
from pipeline.train.setup import open_inputs
from tests.support.token_sets import prepare, save_tokenizer, write_documents
from utils.errors import UsageError
from utils.files import write_json


def settings(*words: str) -> Settings:
    return parse_stage(words).settings


def run(*words: str) -> list[Event]:
    parsed = parse_stage(words)
    return list(parsed.stage.events(parsed.settings, StopSignal()))


@pytest.fixture
def prepared(workspace: Path) -> Path:
    """A corpus whose tokens were prepared in windows of 512."""
    save_tokenizer("letters")
    write_documents(Path("mine/cleaned_0.jsonl"), ["words of a text " * 40] * 60)
    prepare(input=[Path("mine")], tokenizer="letters", window=512)
    return workspace


TYPED: list[list[str]] = [
    [],
    ["--model.preset", "tiny", "--batch-size", "4"],
    ["--gradient-clip", "null", "--no-tensorboard", "--test"],
    ["--model.rope-scaling", '{"kind": "linear", "factor": 2.0}'],
    ["--model.hidden-size", "64", "--model.num-heads", "2", "--model.dropout", "0.1"],
    ["--paths.data-dir", "other", "--paths.checkpoints-dir", "else where"],
    ["--sample-prompt", "it's a $HOME", "--val-split", "0.1"],
    ["--model.vocab-size", "null", "--early-stopping", "null"],
]


@pytest.mark.parametrize("typed", TYPED, ids=" ".join)
@pytest.mark.parametrize("file", [False, True])
def test_what_was_typed_comes_back_from_the_command(
    workspace: Path, typed: list[str], file: bool
) -> None:
    if file:
        write_json(Path("mine.json"), {"train": {"early_stopping": 3}, "dataset": {"source": "a"}})
        typed = ["--config", "mine.json", *typed]
    first = settings("train", "--source", "my texts", *typed)
    command = train_command(first, {})
    again = settings(*shlex.split(shlex.join(command)))
    assert again == first
    assert again.config.file == first.config.file
    assert command[command.index("--source") + 1] == "my texts"


def test_the_corpus_is_named_even_where_nobody_typed_it(workspace: Path) -> None:
    assert train_command(settings("train"), {}) == ("train", "--source", "python")
    changed = {"model.preset": "tiny", "train.max_steps": 3}
    command = train_command(settings("plan", "--model.preset", "mini"), changed)
    assert command[:3] == ("train", "--source", "python")
    assert command[3:] == ("--model.preset", "tiny", "--max-steps", "3")


def test_flags_are_those_that_were_changed() -> None:
    asked = CleanupOptions(input=[Path("a b"), Path("c")], text_field="body", min_words=20)
    assert changed_flags(asked) == ["--input", "a b", "c", "--text-field", "body"]
    prepare_options = PrepareOptions(test=True, name="x", window=8)
    assert changed_flags(prepare_options, "name") == ["--window", "8", "--test"]


@pytest.mark.usefixtures("torch_for_cpu")
@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["--window", "512"],
        ["--window", "300", "--batch-size", "3"],
        ["--model.preset", "mini"],
        ["--model.preset", "small", "--window", "512"],
        ["--model.max-position-embeddings", "512"],
        ["--max-steps", "2000"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("free", [1 << 50, 900 << 20, 700 << 20])
def test_every_remedy_of_a_plan_is_a_command_that_runs(
    prepared: Path, typed: list[str], free: int
) -> None:
    asked = settings("train", "--source", "mine", *typed)
    inputs = read_inputs(*asked)
    inputs = inputs._replace(target=msgspec.structs.replace(inputs.target, memory_free=free))
    offered = remedies(inputs, inputs.estimated())
    assert offered or typed[-1:] == ["2000"]
    for remedy in [None, *offered]:
        command = train_command(asked, {} if remedy is None else remedy.changes)
        assert command[command.index("--source") + 1] == "mine"
        config, names = settings(*command)
        model, data, _ = open_inputs(config, config.train, names)
        assert data.train.window <= model.max_position_embeddings
        if remedy is not None and "model.preset" in remedy.changes:
            context = {"tiny": 256, "mini": 512}.get(remedy.changes["model.preset"], 1024)
            assert data.train.window <= context


@pytest.mark.parametrize("context", [8, 100, 256, 511, 512, 1024])
def test_data_trains_in_any_shorter_window_and_says_so(prepared: Path, context: int) -> None:
    typed = ["--model.max-position-embeddings", str(context)]
    events = run("plan", "--no-probe", "--source", "mine", *typed)
    said = " ".join(str(getattr(event, "message", "")) for event in events)
    assert (f"context is {context} tokens" in said) == (context < 512)
    last = events[-1]
    assert isinstance(last, Finished)
    assert str(last.summary["start_it"]).endswith(" ".join(["--source", "mine", *typed]))
    config, names = settings("train", "--source", "mine", *typed)
    _, data, _ = open_inputs(config, config.train, names)
    assert data.train.window == min(context, 512)


def test_a_window_that_contradicts_the_context_is_refused_with_commands_that_run(
    prepared: Path,
) -> None:
    typed = ["--window", "512", "--model.preset", "tiny", "--source", "mine"]
    asked = settings("train", *typed)
    with pytest.raises(UsageError, match="does not fit into the model") as refused:
        open_inputs(asked.config, asked.config.train, asked.typed)
    assert len(refused.value.commands) == 2
    for command, window in zip(refused.value.commands, (256, 512), strict=True):
        config, names = settings(*command)
        model, data, _ = open_inputs(config, config.train, names)
        assert data.train.window == window <= model.max_position_embeddings


@pytest.mark.parametrize("name", ["a_test", "x_test_test", "文_test"])
def test_a_name_of_a_trial_is_no_name_of_a_corpus(workspace: Path, name: str) -> None:
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("some words of a text " * 30)
    with pytest.raises(UsageError, match="cannot be the name of a corpus") as refused:
        run("cleanup", "--input", "texts", "--name", name)
    assert not Path("data").exists()
    for command in refused.value.commands:
        assert command[1:3] == ("--input", "texts")
    if not name.endswith("_test_test"):
        for command in refused.value.commands:
            assert isinstance(run(*command)[-1], Finished)


def test_plan_prints_the_source_and_the_file_of_settings(prepared: Path) -> None:
    write_json(Path("mine.json"), {"train": {"batch_size": 2}})
    asked: dict[str, Any] = {}
    for event in run("plan", "--no-probe", "--config", "mine.json"):
        asked |= getattr(event, "summary", {})
    assert asked["start_it"] == "python main.py train --config mine.json --source mine"
