"""Settings as lines of a form: kinds, texts and values, and the draft over config.json."""

import json
import re
from typing import Any

import pytest

from app.tui.forms.draft import CHANGED, DEFAULT, PROPOSED, Draft
from app.tui.forms.field_spec import UNSET, Field, as_text, as_value, fields_of
from pipeline.options.config import Config
from utils.config import Layer

FILE = Layer("config.json", {"train": {"batch_size": 16, "name": "old"}})
EVERY = [field for section in Config.model_fields for field in fields_of(section)]


def field(path: str) -> Field:
    return next(one for one in EVERY if one.path == path)


def draft(*layers: Layer, **changes: Any) -> Draft:
    return Draft(layers, {path.replace("__", "."): value for path, value in changes.items()})


def test_every_setting_of_every_section_becomes_a_field_with_help() -> None:
    wanted = {
        f"{section}.{name}"
        for section in Config.model_fields
        for name in type(getattr(Config(), section)).model_fields
    }
    assert {one.path for one in EVERY} == wanted
    assert [one.path for one in EVERY if not one.help] == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("cleanup.test", "switch"),
        ("train.optimizer", "choice"),
        ("tokenize.train", "choice"),
        ("train.batch_size", "number"),
        ("train.max_steps", "number"),
        ("train.gradient_clip", "number"),
        ("train.name", "text"),
        ("paths.data_dir", "path"),
        ("cleanup.output", "path"),
        ("cleanup.input", "paths"),
        ("inference.checkpoint", "texts"),
        ("model.rope_scaling", "json"),
    ],
)
def test_the_kind_of_a_field_follows_from_its_type(path: str, kind: str) -> None:
    assert field(path).kind == kind


def test_limits_inside_an_optional_type_are_told_in_words() -> None:
    assert field("train.max_steps").bounds == "at least 1"
    assert field("model.depth").bounds == "at least 1, at most 96"
    assert field("train.momentum").bounds == "at least 0, less than 1"
    assert field("train.seed").bounds == "at least 0"  # 2**63 helps nobody


def test_a_choice_that_may_be_nothing_says_so() -> None:
    assert field("tokenize.train").choices == ("none", "bpe", "char")
    assert field("train.optimizer").choices == ("muon", "adamw")
    assert field("model.qk_norm").choices == ("off", "on")


def test_what_an_empty_field_means_comes_from_its_help() -> None:
    assert field("train.max_steps").when_empty == "from Epochs"
    assert field("train.gradient_clip").when_empty == "no clipping"
    assert field("model.num_kv_heads").when_empty == "as many as num_heads"
    assert field("inference.prompt").when_empty == "a new document"


def test_every_default_survives_being_shown_and_read_again() -> None:
    for one in EVERY:
        value = as_value(one, as_text(one, one.default))
        if value is not UNSET:
            assert value == json.loads(json.dumps(one.default, default=str)), one.path


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("train.batch_size", "32", 32),
        ("prepare.shard_tokens", "1,000,000", 1_000_000),
        ("train.learning_rate", "3e-4", 3e-4),
        ("train.gradient_clip", "", None),
        ("train.batch_size", "", UNSET),
        ("train.sample_prompt", "", ""),
        ("quickstart.name", "", UNSET),
        ("train.name", "", None),
        ("cleanup.input", "a 'b c'", ["a", "b c"]),
        ("cleanup.output", " out ", "out"),
        ("tokenize.train", "none", None),
        ("cleanup.test", "on", True),
        (
            "model.rope_scaling",
            '{"kind": "linear", "factor": 2.0}',
            {"kind": "linear", "factor": 2},
        ),
    ],
)
def test_a_text_becomes_the_value_it_means(path: str, text: str, value: Any) -> None:
    assert as_value(field(path), text) == value


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("train.batch_size", "many", "needs a whole number, such as 16"),
        ("train.batch_size", "1.5", "needs a whole number, such as 16"),
        ("train.learning_rate", "0,5", "needs a number, such as 0.5 or 3e-4"),
        ("cleanup.input", "'a", "a quotation mark is not closed"),
        ("model.rope_scaling", "[1]", 'needs JSON, such as {"kind": "linear", "factor": 2.0}'),
    ],
)
def test_a_text_that_is_no_value_says_what_is_needed(path: str, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        as_value(field(path), text)


def test_a_change_is_marked_and_taken_back_when_the_old_value_is_typed_again() -> None:
    one = draft(FILE)
    assert one.origin("train.batch_size") == "config.json"
    one.enter(field("train.batch_size"), "32")
    assert (one.changes, one.unsaved) == ({"train.batch_size": 32}, 1)
    assert one.origin("train.batch_size") == CHANGED
    assert one.config.train.batch_size == 32
    one.enter(field("train.batch_size"), "16")
    assert one.unsaved == 0
    assert one.origin("train.epochs") == DEFAULT


def test_what_is_no_number_stays_as_typed_with_its_fault() -> None:
    one = draft(FILE)
    one.enter(field("train.batch_size"), "x")
    assert one.text(field("train.batch_size")) == "x"
    assert one.faults == {"train.batch_size": "needs a whole number, such as 16"}
    assert one.config.train.batch_size == 16
    one.enter(field("train.batch_size"), "8")
    assert (one.faults, one.config.train.batch_size) == ({}, 8)


def test_limits_are_the_models_own_and_told_in_words() -> None:
    one = draft()
    one.enter(field("train.batch_size"), "0")
    one.enter(field("train.val_split"), "0.7")
    assert one.faults == {
        "train.batch_size": "must be at least 1, not 0",
        "train.val_split": "must be less than 0.5, not 0.7",
    }


def test_a_contradiction_is_told_at_the_changed_setting() -> None:
    one = draft(Layer("config.json", {"model": {"hidden_size": 512, "num_heads": 8}}))
    one.enter(field("model.num_heads"), "7")
    assert list(one.faults) == ["model.num_heads"]
    assert "not divisible" in one.faults["model.num_heads"]


def test_a_depth_starts_the_model_anew_and_other_fields_follow() -> None:
    one = draft(Layer("config.json", {"model": {"hidden_size": 512, "num_layers": 8}}))
    one.enter(field("model.depth"), "4")
    assert one.text(field("model.hidden_size")) == "256"
    assert one.text(field("model.vocab_size")) == ""  # still those of the tokenizer
    one.undo("model.depth")
    assert one.text(field("model.hidden_size")) == "512"


def test_null_in_the_file_shows_as_empty_and_is_no_change() -> None:
    one = draft(Layer("config.json", {"model": {"vocab_size": None}}))
    assert one.text(field("model.vocab_size")) == ""
    one.enter(field("model.vocab_size"), "100")
    one.enter(field("model.vocab_size"), "")
    assert one.unsaved == 0


def test_a_proposal_is_typed_but_is_no_change_and_can_be_declined() -> None:
    one = Draft([], proposed={"tokenize.train": "bpe"})
    assert (one.typed, one.unsaved) == ({"tokenize.train": "bpe"}, 0)
    assert one.origin("tokenize.train") == PROPOSED
    one.enter(field("tokenize.train"), "none")
    assert one.typed == {}
    assert one.text(field("tokenize.train")) == "none"


def test_an_emptied_prompt_is_what_was_proposed() -> None:
    one = Draft([], proposed={"inference.prompt": ""})
    one.enter(field("inference.prompt"), "def ")
    assert one.typed == {"inference.prompt": "def "}
    one.enter(field("inference.prompt"), "")
    assert one.typed == {"inference.prompt": ""}


def test_an_emptied_setting_leaves_the_file_that_is_edited() -> None:
    one = Draft([FILE], owned=True)
    one.enter(field("train.batch_size"), "")
    assert one.removed == {"train.batch_size"}
    assert one.origin("train.batch_size") == CHANGED
    one.enter(field("train.batch_size"), "16")
    assert one.unsaved == 0


def test_every_fault_of_a_file_is_found_with_its_path() -> None:
    wrong = Layer("config.json", {"train": {"batch_size": "x", "bach": 1}, "prepare": {"split": 3}})
    one = draft(wrong)
    assert one.faults == {
        "train.batch_size": "must be a whole number, not x",
        "train.bach": "is no setting, not 1",
        "prepare.split": "must be one of 'document' or 'tail', not 3",
    }
    assert one.text(field("train.batch_size")) == "x"
