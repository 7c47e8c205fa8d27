"""Changes as a command line and back, and what must run before a stage."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.commands.arguments import overlaid, without
from app.tui.forms.command_line import TypedArguments, arguments, parsed_changes, shell_line
from app.tui.stage import stage_flow
from app.tui.stage.stage_form import StageForm
from pipeline.options.config import Config
from pipeline.stages import STAGES, Product, find
from utils.errors import UsageError

TRAIN = find("train")


@pytest.mark.parametrize(
    ("command", "changes", "line"),
    [
        ("train", {}, "train"),
        (
            "train",
            {"train.name": "exp1", "train.learning_rate": 5e-4, "model.depth": 8},
            "train --name exp1 --learning-rate 0.0005 --model.depth 8",
        ),
        ("train", {"train.test": True, "train.compile": "off"}, "train --compile off --test"),
        ("train", {"train.tensorboard": False}, "train --no-tensorboard"),
        ("train", {"train.gradient_clip": None, "train.epochs": 2.0},
         "train --epochs 2 --gradient-clip null"),
        ("train", {"train.sample_prompt": "a b"}, "train --sample-prompt 'a b'"),
        ("train", {"train.name": "-x"}, "train --name=-x"),
        ("download", {"download.force": True, "download.name": "wikipedia"},
         "download wikipedia --force"),
        ("cleanup", {"cleanup.input": ["a b", "-c"]}, "cleanup --input 'a b' ./-c"),
        ("rehearse", {"rehearse.steps": 5, "train.batch_size": 4, "model.preset": "tiny"},
         "rehearse --steps 5 --batch-size 4 --model.preset tiny"),
        ("prepare", {"dataset.source": "files"}, "prepare --dataset.source files"),
    ],
)  # fmt: skip
def test_changes_become_the_command_one_would_type(
    command: str, changes: dict[str, Any], line: str, workspace: Path
) -> None:
    stage = find(command)
    words = arguments(stage, changes)
    assert shell_line(stage, words) == f"python main.py {line}"
    assert parsed_changes(stage, words).changes == changes


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "train.name": TEXTS.filter(lambda text: text != "null") | st.none(),
        "train.sample_prompt": TEXTS.filter(lambda text: text != "null") | st.just(""),
        "train.batch_size": st.integers(1, 10**6),
        "train.gradient_clip": st.floats(1e-6, 1e6) | st.none(),
        "train.max_steps": st.integers(1, 10**9) | st.none(),
        "train.tensorboard": st.booleans(),
        "train.schedule": st.sampled_from(["cosine", "wsd", "constant"]),
        "train.data": st.just("a folder/-x"),
        "model.depth": st.integers(1, 96) | st.none(),
        "dataset.source": TEXTS,
        "inference.checkpoint": st.lists(TEXTS, min_size=1, max_size=3),
        "cleanup.min_words": st.integers(0, 99),
    },
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES)
def test_a_command_line_means_exactly_the_changes_it_was_made_from(changes: dict[str, Any]) -> None:
    words = arguments(TRAIN, changes)
    assert parsed_changes(TRAIN, words).changes == changes
    assert shlex.split(shell_line(TRAIN, words)) == ["python", "main.py", "train", *words]


def test_a_config_file_that_was_named_stays_in_the_command(workspace: Path) -> None:
    Path("other.json").write_text('{"train": {"epochs": 3}}')
    for words in (
        ["--config", "other.json", "--name", "a"],
        ["--name", "a", "--config=other.json"],
    ):
        typed = parsed_changes(TRAIN, words)
        assert typed == TypedArguments({"train.name": "a"}, Path("other.json"))
        assert arguments(TRAIN, *typed) == ["--name", "a", "--config=other.json"]


def test_a_null_for_a_setting_that_is_not_optional_stays_null(workspace: Path) -> None:
    typed = parsed_changes(TRAIN, ["--model.vocab-size", "null"])
    assert typed.changes == {"model.vocab_size": None}


def test_arguments_that_mean_nothing_are_refused(workspace: Path) -> None:
    with pytest.raises(UsageError, match="Unknown option"):
        parsed_changes(TRAIN, ["--bach-size", "3"])


def test_a_form_whose_preset_means_nothing_says_so_and_opens_without_it(workspace: Path) -> None:
    form = StageForm(TRAIN, ["--bach-size", "3"])
    assert form.fault is not None
    assert (form.line, form.draft.changes) == ("python main.py train", {})


def test_settings_that_a_preset_repeats_are_typed_all_the_same(workspace: Path) -> None:
    form = StageForm(TRAIN, ["--resume", "auto", "--batch-size", "16"])
    assert form.arguments == ["--resume", "auto", "--batch-size", "16"]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_every_stage_has_a_form_whose_command_is_understood(stage: Any, workspace: Path) -> None:
    form = StageForm(stage)
    assert form.groups
    assert form.fault_elsewhere == ""
    assert parsed_changes(stage, form.arguments).changes == form.draft.typed


def products(**states: str) -> dict[str, Product]:
    known = ("download", "cleanup", "tokenize", "prepare", "train")
    return {name: Product(states.get(name, "fresh")) for name in known}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "steps"),
    [
        ({}, []),
        ({"prepare": "missing"}, ["prepare"]),
        ({"tokenize": "missing", "prepare": "missing"}, ["tokenize", "prepare"]),
        ({"cleanup": "stale"}, ["cleanup", "tokenize", "prepare"]),
        (
            {"download": "missing", "cleanup": "missing", "prepare": "missing"},
            ["download", "cleanup", "tokenize", "prepare"],
        ),
    ],
)
def test_a_chain_holds_what_is_missing_or_stale_and_all_that_follows_it(
    states: dict[str, str], steps: list[str]
) -> None:
    assert [stage.command for stage in stage_flow.missing(TRAIN, products(**states))] == steps


def test_each_step_of_a_chain_gets_what_concerns_it() -> None:
    typed = {"train.name": "a", "dataset.source": "files", "prepare.window": 64}
    nothing = products(cleanup="missing", tokenize="missing", prepare="missing")
    steps = stage_flow.chain(TRAIN, typed, Config(), nothing)
    assert [(step.stage.command, step.arguments) for step in steps] == [
        ("cleanup", ["--dataset.source", "files"]),
        ("tokenize", ["--train", "bpe", "--dataset.source", "files"]),
        ("prepare", ["--window", "64", "--dataset.source", "files"]),
        ("train", ["--name", "a", "--dataset.source", "files", "--prepare.window", "64"]),
    ]


def test_a_test_training_prepares_the_small_data_set_first(workspace: Path) -> None:
    form = StageForm(TRAIN, ["--test"])
    assert [(s.stage.command, s.arguments) for s in form.chain(products())] == [
        ("cleanup", ["--test"]),
        ("prepare", ["--test"]),
        ("train", ["--test"]),
    ]


def test_a_tokenizer_that_is_there_is_proposed_again_as_it_was_made(prepared: Path) -> None:
    there = {"tokenize": Product("stale", path=Path("tokenizers/chars"))}
    form = StageForm(find("tokenize"), products=there)
    assert form.line == "python main.py tokenize --train char --name chars"


def test_the_output_of_a_stage_and_what_happens_to_what_is_there(workspace: Path) -> None:
    cleanup = find("cleanup")
    made = stage_flow.output(cleanup, Config())
    assert made == stage_flow.Output("data/cleaned_articles/python", "not there yet")
    Path("data/cleaned_articles/python").mkdir(parents=True)
    made = stage_flow.output(cleanup, Config())
    assert made is not None
    assert "made again only if" in made.there
    resumed = Config(train=Config().train.model_copy(update={"resume": "first"}))
    assert stage_flow.output(TRAIN, resumed) == stage_flow.Output(
        "first", "goes on where it stopped"
    )
    assert stage_flow.output(find("plan"), Config()) is None


@pytest.mark.parametrize(
    "words",
    [
        ["--allow-origin", "http://a"],
        ["--allow-origin=http://a"],
        ["--allowed-origins", "http://a"],
        ["--serve.allowed-origins", "http://a"],
    ],
)
def test_a_flag_for_a_single_value_means_the_setting_of_all_of_them(
    words: list[str], workspace: Path
) -> None:
    stage = find("serve")
    assert parsed_changes(stage, words)[0]["serve.allowed_origins"] == ["http://a"]
    assert without(stage, [*words, "--port", "1"], "allowed_origins") == ["--port", "1"]
    assert overlaid(stage, words, ["--allow-origin", "http://b"]) == ["--allow-origin", "http://b"]
